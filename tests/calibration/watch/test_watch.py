"""From records and truths to verdicts: what a department would read."""

import time
import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
from watch_records import ALIASES, DAY, START, STATIONS, fat_suppressed_from, records, truths

from npc_edge.calibration.record import Truth, Verdict
from npc_edge.calibration.watch import (
    Settings,
    charts,
    columns_of,
    headline,
    monitored_records,
    watch,
)
from npc_edge.calibration.watch.diagnose import day

QUICK = Settings(null_runs=300)


def by_name(verdicts: tuple[Verdict, ...]) -> dict[tuple[str, str], Verdict]:
    return {(verdict.watcher, verdict.group): verdict for verdict in verdicts}


def test_fat_suppression_that_changed_on_one_scanner_is_named_with_its_day() -> None:
    given = fat_suppressed_from(records(700), 500, STATIONS[1])
    verdicts = watch(given, settings=QUICK, aliases=ALIASES)
    first = headline(verdicts)
    assert first is verdicts[0]
    assert first is not None
    assert first.level == "act"
    assert first.watcher == "T2 fat suppression=yes.cusum"
    assert first.check_first.startswith("T2 fat suppression changed on scanner B on 4 March (yes: 2 % to 4")
    assert abs((first.since or 0) - 500) <= 5
    assert 500 <= (first.alarmed or 0) <= 560
    assert "whose T2 is fat-suppressed has risen from 1.8 to 40 % since about 4 March" in first.reason
    feature = by_name(verdicts)[("t2.median.cusum", "all")]
    assert feature.level == "act"
    assert "T2 fat suppression changed on scanner B" in feature.check_first
    assert by_name(verdicts)[("t1.median.cusum", "all")].level == "quiet"


def test_a_department_where_nothing_changes_is_left_alone_and_told_the_power() -> None:
    verdicts = watch(records(600), settings=QUICK, aliases=ALIASES)
    assert [v for v in verdicts if v.level == "act"] == []
    score = by_name(verdicts)[("score.cusum", "all")]
    assert score.cases == 350
    assert "with 90 % power" in score.power
    assert score.reason == "No change seen in the score."
    assert (score.check_first, score.since, score.alarmed) == ("", None, None)
    shorter = by_name(watch(records(350), settings=QUICK))[("score.cusum", "all")]
    seen, seen_earlier = (float(v.power.split("shift of ")[1].split(" SD")[0]) for v in (score, shorter))
    assert seen < seen_earlier


def test_before_the_baseline_is_full_it_says_so() -> None:
    verdicts = watch(records(120), settings=QUICK)
    assert [v.watcher for v in verdicts] == ["baseline"]
    assert verdicts[0].reason == "The baseline is being collected: 120 of 250 cases."
    assert watch([], settings=QUICK)[0].cases == 0


def test_an_overconfident_score_is_found_with_labels() -> None:
    given = records(700)
    verdicts = by_name(watch(given, truths(given, slope=0.5), QUICK))
    chart = verdicts[("calibration slope.cusum", "all")]
    assert chart.level == "act"
    assert "too sure" in chart.reason
    assert chart.since is not None
    assert chart.since < 150
    interval = verdicts[("calibration slope.interval", "all")]
    assert interval.level == "watch"
    assert "away from 1 would have been seen" in interval.power
    true = by_name(watch(given, truths(given), QUICK))
    assert true[("calibration slope.cusum", "all")].level == "quiet"
    assert true[("calibration slope.interval", "vendor=ge")].level == "quiet"


def test_more_refusals_are_found() -> None:
    given = records(600)
    random = np.random.default_rng(5)
    for index in range(450, 600):
        if random.random() < 0.3:
            given[index] = replace(
                given[index],
                outcome="no-result",
                reasons=("NO_T2",),
                score=None,
                probability=None,
                volume_ml=None,
            )
    found = by_name(watch(given, settings=QUICK))[("outcome=any other.cusum", "all")]
    assert found.level == "act"
    assert "refused" in found.reason
    assert "The reasons of refusals changed" in found.check_first


def test_a_declared_sensitivity_that_is_not_reached_is_worth_watching() -> None:
    given = records(400)
    labels = [replace(t, npc=i % 4 == 0) for i, t in enumerate(truths(given))]
    verdicts = by_name(watch(given, labels, replace(QUICK, sensitivity=0.95, specificity=0.05)))
    assert verdicts[("sensitivity.declared", "all")].level == "watch"
    assert verdicts[("specificity.declared", "all")].level == "quiet"


def test_masks_that_readers_reject_more_often_are_worth_watching() -> None:
    given = records(400)
    reviews = [
        Truth(
            case_key=case.case_key,
            at=case.at,
            source="radiologist",
            on="2026-01-01",
            review="reject" if index > 320 and index % 2 else "accept",
        )
        for index, case in enumerate(given)
    ]
    found = by_name(watch(given, reviews, QUICK))[("reviews.share", "all")]
    assert found.level == "watch"
    assert found.since == 300


def test_a_new_bundle_begins_a_new_baseline_and_a_repeated_case_counts_once() -> None:
    given = records(400)
    given = [replace(r, bundle_sha256="old") for r in given[:300]] + given[300:]
    given.append(replace(given[-1], at=given[-1].at + 1, score=9.0))
    kept = monitored_records(given)
    assert len(kept) == 100
    assert kept[-1].score == 9.0
    assert len(monitored_records(given, Settings(start=START + 390 * DAY // 8))) == 10


def test_two_artefacts_on_the_same_cases_are_compared() -> None:
    given = records(80)
    other = [
        replace(r, artefact="net.int8.onnx", at=r.at + 1, probability=min(1.0, (r.probability or 0) + 0.1))
        for r in given
    ]
    found = by_name(watch(given + other, settings=QUICK))
    verdict = found[("artefacts.paired", "net.fp32.onnx | net.int8.onnx")]
    assert verdict.level == "watch"
    assert verdict.cases == 80


def test_charts_are_what_the_verdicts_say() -> None:
    given = fat_suppressed_from(records(700), 500, STATIONS[1])
    columns = columns_of(monitored_records(given), ALIASES)
    every, labelled = charts(columns, np.full(700, np.nan), QUICK)
    verdicts = by_name(watch(given, settings=QUICK, aliases=ALIASES))
    assert labelled == []
    assert len(every) > 10
    for chart in every:
        verdict = verdicts[(chart.name, "all")]
        assert chart.path.shape == (700,)
        assert (chart.path[: QUICK.baseline] == 0).all()
        assert verdict.statistic == pytest.approx(chart.statistic)
        assert (verdict.level == "act") == (chart.crossed is not None)


def test_the_same_records_give_the_same_verdicts() -> None:
    assert watch(records(400), settings=QUICK) == watch(list(reversed(records(400))), settings=QUICK)


@pytest.mark.parametrize(
    "wrong",
    [{"false_alarm_rate": 0.3}, {"baseline": 10}, {"horizon": 200}, {"null_runs": 10}, {"window": 5}],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        Settings(**wrong)


@pytest.mark.slow
def test_a_hundred_thousand_records_take_seconds_and_little_memory() -> None:
    given = records(100_000)
    labels = truths(given)
    tracemalloc.start()
    before = time.process_time()
    verdicts = watch(given, labels, aliases=ALIASES)
    taken = time.process_time() - before
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(verdicts) > 30
    assert peak < 350e6
    assert taken < 60  # tracing slows it down several times


def test_a_day_has_its_year_where_the_cases_span_one() -> None:
    columns = columns_of(records(40))
    apart = replace(columns, at=columns.at[0] + 30 * DAY * np.arange(40, dtype=np.int64))
    short = day(columns, 0)
    assert short.split()[0].isdigit()
    assert len(short.split()) == 2
    assert day(apart, 0) == f"{short} {datetime.fromtimestamp(START / 1000, UTC).year}"
