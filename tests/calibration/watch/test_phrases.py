"""Every sentence an alarm can say, as a head of department reads it."""

from dataclasses import replace

import numpy as np
import pytest
from watch_records import ALIASES, STATIONS, fat_suppressed_from, records, truths

from npc_edge.calibration.record import Acquired, CaseRecord, Truth
from npc_edge.calibration.watch import Settings, columns_of, watch
from npc_edge.calibration.watch.phrases import from_to, heading, moved, named

NAMED = {
    "score": "the score",
    "high scores": "the share of high scores",
    "volume_ml": "the tumour volume",
    "latency_ms": "the time a run takes",
    "all features": "the overall image intensity",
    "all columns": "all measurements together",
    "t2.median": "the median intensity of T2",
    "t1.iqr": "the spread of intensities of T1",
    "t1.bright": "the brightness of the brightest parts of T1, against its median,",
    "t1.dark": "the brightness of the darkest parts of T1, against its median,",
    "t2.tumour_contrast": "the contrast of the tumour mask on T2",
    "t1.some_other": "the value of some other of T1",
    "T2 TE": "the TE of T2",
    "T1 slice spacing": "the slice spacing of T1",
    "outcome=any other": "the share of refused studies",
    "vendor=ge": "the share of cases from the vendor ge",
    "vendor=any other": "the share of cases from other vendors than the usual",
    "station=scanner B": "the share of cases from scanner B",
    "station=any other": "the share of cases from other scanners than the usual",
    "station=unknown": "the share of cases whose headers name no scanner",
    "field strength=3 T": "the share of cases at 3 T",
    "field strength=any other": "the share of cases at another field strength than usual",
    "T2 fat suppression=yes": "the share of cases whose T2 is fat-suppressed",
    "T2 fat suppression=no": "the share of cases whose T2 is not fat-suppressed",
    "T1 fat suppression=any other": "the share of cases whose T1 has another fat suppression than usual",
    "T2 fat suppression=unknown": "the share of cases whose T2 may or may not be fat-suppressed "
    "(the headers do not tell)",
    "artefact=net.int8": "the share of cases run with net.int8",
    "artefact=any other": "the share of cases run with another artefact than usual",
}


@pytest.mark.parametrize("stream", NAMED)
def test_everything_that_is_watched_has_a_name_a_person_would_use(stream: str) -> None:
    assert named(stream) == NAMED[stream]
    assert heading(stream)[0].isupper() or heading(stream)[0].isdigit()


MOVED = [
    (("score", True, True), "The score has risen"),
    (("T2 fat suppression=yes", True, True), "The share of cases whose T2 is fat-suppressed has risen"),
    (("station=any other", True, False), "The share of cases from other scanners than the usual seems to"),
    (("t1.dark", False, True), "The brightness of the darkest parts of T1, against its median, has fallen"),
    (("calibration level", True, True), "More NPC has been found than the probabilities foretold"),
    (
        ("calibration level", False, False),
        "Less NPC seems to have been found than the probabilities foretold",
    ),
    (
        ("calibration slope", False, True),
        "The probabilities have been too sure of themselves: low ones too low, high ones too high,",
    ),
    (
        ("calibration slope", True, False),
        "The probabilities seem to have been too timid: low ones too high, high ones too low,",
    ),
]


@pytest.mark.parametrize(("what", "words"), MOVED)
def test_what_moved_is_said_plainly(what: tuple[str, bool, bool], words: str) -> None:
    assert moved(*what).startswith(words)


def test_from_where_to_where_is_in_the_quantitys_own_unit() -> None:
    columns = columns_of(fat_suppressed_from(records(700), 500, STATIONS[1]), ALIASES)
    yes = np.arange(700) % 50 == 0
    yes[500:] = np.arange(200) % 2 == 0
    assert from_to(columns, "T2 fat suppression=yes", yes, 500, True) == " from 2.0 to 50 %"
    assert from_to(columns, "t2.median", None, 500, False).startswith(" from 14")
    slower = replace(columns, outputs={"latency_ms": np.repeat([2000.0, 3500.0], [500, 200])})
    assert from_to(slower, "latency_ms", None, 500, True) == " from 2 to 3.5 s"
    assert from_to(slower, "latency_ms", None, 500, False) == "", "it does not contradict the chart"
    assert from_to(columns, "all features", None, 500, True) == ""


def said(given: list[CaseRecord], known: tuple[Truth, ...] = (), **settings: float) -> dict[str, list[str]]:
    """Reason and what to check first of everything that is not quiet, by watcher."""
    chosen = Settings(null_runs=300, **settings)  # type: ignore[arg-type]
    verdicts = watch(given, known, chosen, ALIASES)
    return {v.watcher: [v.reason, v.check_first] for v in verdicts if v.level != "quiet"}


def test_a_protocol_that_changed_on_one_scanner() -> None:
    found = said(fat_suppressed_from(records(700), 500, STATIONS[1]))
    check = "T2 fat suppression changed on scanner B on 4 March (yes: 2 % to 40 % of cases)."
    assert found["T2 fat suppression=yes.cusum"] == [
        "The share of cases whose T2 is fat-suppressed has risen from 1.8 to 40 % since about 4 March "
        "(case 501); it was noticed on 8 March, 30 cases later.",
        check,
    ]
    reason, first = found["t2.median.cusum"]
    assert reason.startswith("The median intensity of T2 has fallen from 14")
    assert first.startswith("T2 fat suppression changed on scanner B on ")
    assert found["t2.median.ks"][0] == (
        "The newest 100 cases differ from the baseline in the median intensity of T2, "
        "from 10 March on (case 551)."
    )
    assert found["t2.median.psi"][0].startswith(
        "The newest 100 cases differ from the baseline in the median intensity of T2: PSI "
    )
    assert found["t2.median.psi"][1] == (
        "See whether the other watchers of this quantity have noticed: they say since when."
    )


def test_refusals_a_new_scanner_and_a_slow_computer() -> None:
    given = records(700)
    random = np.random.default_rng(5)
    for index in range(500, 700):
        if random.random() < 0.3:
            given[index] = replace(
                given[index], outcome="no-result", reasons=("NO_T2",), score=None, probability=None
            )
    found = said(given)
    reason, first = found["outcome=any other.cusum"]
    assert reason.startswith("The share of refused studies has risen from 0 to 30 % since about 4 March")
    assert first == "The reasons of refusals changed on 4 March (NO_T2: 0 % to 30 % of cases)."

    moved_in = [
        replace(r, acquired=tuple(replace(a, station_key="99" * 6) for a in r.acquired)) if i > 500 else r
        for i, r in enumerate(records(700))
    ]
    found = said(moved_in)
    assert found["station=any other.cusum"][0].startswith(
        "The share of cases from station 999999 has risen from 0 to 100 % since about 4 March (case 502)"
    )
    assert found["station=any other.cusum"][1].startswith("The mix of scanners changed on 4 March (")

    slow = [
        replace(r, timings_ms={"total": r.timings_ms["total"] * (1 + (i > 500))})
        for i, r in enumerate(records(700))
    ]
    found = said(slow)
    reason, first = found["latency_ms.cusum"]
    assert reason.startswith("The time a run takes has risen from 0.4")
    assert " s since about 4 March (case 50" in reason
    assert first == (
        "Nothing recorded of the acquisition changed with it. "
        "Look at what else the computer runs, and at the backend in the newest results."
    )


def test_the_alarm_of_a_fact_points_to_that_fact_even_where_another_changed_more() -> None:
    given = fat_suppressed_from(records(700), 400, STATIONS[1])
    given = [replace(r, artefact="net.int8.onnx") if 350 <= i < 400 else r for i, r in enumerate(given)]
    reason, first = said(given)["artefact=any other.cusum"]
    assert reason.startswith("The share of cases run with net.int8.onnx has risen from 0 to ")
    assert first.startswith("The artefact that runs changed on ")


def test_probabilities_that_do_not_hold() -> None:
    given = records(700)
    found = said(given, tuple(truths(given, slope=0.5)))
    reason, first = found["calibration slope.cusum"]
    assert reason.startswith(
        "The probabilities have been too sure of themselves: low ones too low, high ones too high, since "
    )
    assert " (labelled case " in reason
    assert reason.endswith(" labelled cases later.")
    assert first.endswith(
        "Have the newest disagreements read again, then refit the calibrator on these cases."
    )
    reason, first = found["calibration slope.interval"]
    assert reason.startswith("The calibration slope is 0.")
    assert "1 is perfect: the probabilities are too sure of themselves." in reason
    more = [replace(t, npc=True) if i % 4 == 0 else t for i, t in enumerate(truths(given))]
    reason, first = said(given, tuple(more))["calibration level.cusum"]
    assert reason.startswith("More NPC has been found than the probabilities foretold since about ")
    assert "Ask whether the share of patients with NPC changed" in first


def test_readers_and_the_declared_operating_point() -> None:
    given = records(400)
    few = [replace(t, npc=i % 4 == 0) for i, t in enumerate(truths(given))]
    found = said(given, tuple(few), sensitivity=0.95, specificity=0.999)
    reason, first = found["sensitivity.declared"]
    assert reason.startswith("The sensitivity is 0.")
    assert reason.endswith("cases with NPC; the bundle declares 0.95.")
    assert first == "Look at the missed cases: are they small, or from one scanner?"
    reason, first = found["specificity.declared"]
    assert reason.endswith("cases without NPC; the bundle declares 1.00.")
    assert first == "Look at the cases called suspicious without NPC: what do they share?"
    reviews = [
        Truth(
            c.case_key, c.at, "radiologist", "2026-01-01", review="reject" if i > 320 and i % 2 else "accept"
        )
        for i, c in enumerate(given)
    ]
    assert said(given, tuple(reviews))["reviews.share"] == [
        "Readers rejected or corrected 40% of the newest 100 masks, 0% before.",
        "Look at the rejected and corrected masks: what do they share?",
    ]


def test_a_fat_suppressed_t2_is_a_t2_and_a_series_without_a_role_is_none() -> None:
    """The engine gives fat-suppressed T2 a role of its own; the watchers must not take it for no T2."""
    given = records(40)
    plain, other = given[0].acquired[1], replace(given[0].acquired[1], role="T2FS", fat_suppression="yes")
    given = [replace(r, acquired=(r.acquired[0], other if i % 2 else plain)) for i, r in enumerate(given)]
    given[7] = replace(given[7], acquired=(Acquired("", "ge"),))
    facts = columns_of(given).facts
    suppressed = facts["T2 fat suppression"]
    assert [suppressed.levels[code] for code in suppressed.codes[:4]] == ["no", "yes", "no", "yes"]
    assert "T2FS fat suppression" not in facts
    assert " fat suppression" not in facts
    assert columns_of(given).numbers["T2 TE"][1] == 90.0
