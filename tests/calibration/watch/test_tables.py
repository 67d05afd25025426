"""Pairs, groups, agreement and paired artefacts: counted by hand."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binomtest
from watch_records import ALIASES, STATIONS, records, truths

from npc_edge.calibration.record import Truth
from npc_edge.calibration.watch.columns import columns_of, station_name
from npc_edge.calibration.watch.diagnose import what_changed
from npc_edge.calibration.watch.groups import agreement, measured
from npc_edge.calibration.watch.paired import mcnemar, paired
from npc_edge.calibration.watch.pairs import current, labels, pairs_of


def truth(key: str, at: int, **known) -> Truth:
    return Truth(case_key=key, at=at, source="biopsy", on="2026-01-01", **known)


def test_later_truth_supersedes_what_it_speaks_of_and_nothing_else() -> None:
    first = truth("a", 1, npc=True, category="T2", criteria={"clivus": True}, review="corrected", dice=0.7)
    second = truth("a", 2, npc=False, criteria={"orbit": False})
    third = truth("a", 3, category="T3", edition="ajcc9", review="accept")
    held = current([third, first, second])["a"]
    assert (held.npc, held.category, held.edition) == (False, "T3", "ajcc9")
    assert held.criteria == {"orbit": False}, "no NPC withdraws what was said before"
    assert (held.review, held.dice) == ("accept", None)
    assert current([first, replace(second, npc=None)])["a"].npc is True


def test_labels_are_nan_where_nothing_is_known() -> None:
    given = records(3)
    known = pairs_of(given, [truth("case-1", 1, npc=True), truth("case-2", 1, category="T1"), truth("x", 1)])
    np.testing.assert_array_equal(labels(3, known), [np.nan, 1.0, np.nan])


def test_columns_hold_what_the_records_say() -> None:
    given = records(40)
    given[3] = replace(given[3], score=None, acquired=(), reasons=("NO_T2",), outcome="no-result")
    columns = columns_of(given, ALIASES)
    assert len(columns) == 40
    assert np.isnan(columns.outputs["score"][3])
    assert columns.outputs["score"][4] == given[4].score
    assert columns.features["t1.median"][7] == given[7].features["t1.median"]
    assert columns.numbers["T2 TE"][0] == 90.0
    station = columns.facts["station"]
    assert station.levels[station.codes[3]] == "unknown"
    assert station.levels[station.codes[4]] == ALIASES[given[4].acquired[0].station_key]
    reason = columns.facts["reason"]
    assert [reason.levels[code] for code in reason.codes[2:4]] == ["none", "NO_T2"]
    series = given[0].acquired[0]
    assert station_name(replace(series, station_key=STATIONS[0]), {}) == "station aa11bb"
    nameless = replace(series, station_key="", model_key="77" * 6)
    assert station_name(nameless, {}) == "model 777777"
    assert station_name(nameless, {"77" * 6: "the old one"}) == "the old one"
    assert station_name(replace(nameless, model_key=""), {}) == "unknown"


def test_every_group_has_a_row_with_its_cases_and_its_warning() -> None:
    given = records(300)
    columns = columns_of(given, ALIASES)
    known = labels(300, pairs_of(given, truths(given)))
    rows = {row.group: row for row in measured(columns, known)}
    assert {"all", "vendor=ge", "vendor=siemens", "station=scanner A", "T2 fat suppression=no"} <= set(rows)
    assert rows["vendor=ge"].cases + rows["vendor=siemens"].cases == rows["all"].cases == 300
    assert rows["all"].positives == int(known.sum())
    assert "for the slope" in rows["all"].warning
    assert rows["all"].measures["auc"].low < rows["all"].measures["auc"].value


def test_agreement_counts_categories_criteria_and_masks() -> None:
    given = [replace(r, category_ajcc8="T2", evidence={"clivus.midline": "unequivocal"}) for r in records(4)]
    known = [
        truth("case-0", 1, category="T2", criteria={"clivus": True}, review="accept"),
        truth("case-1", 1, category="T3", criteria={"clivus": False}, review="corrected", dice=0.6),
        truth("case-2", 1, category="T2", criteria={"orbit": True}, review="corrected", dice=0.8),
    ]
    found = {row.group: row for row in agreement(pairs_of(given, known), columns_of(given))}["all"]
    assert found.confusion[1, 1] == 2
    assert found.confusion[2, 1] == 1
    assert found.category.value == pytest.approx(2 / 3)
    assert found.criteria["clivus"][0].value == 0.5
    assert found.criteria["orbit"][0].value == 0.0
    assert found.dice.value == pytest.approx(0.7)
    assert found.accepted.value == pytest.approx(1 / 3)


def test_two_artefacts_are_compared_case_by_case() -> None:
    given = records(50)
    change = np.random.default_rng(1).normal(0.01, 0.005, 50)
    other = [
        replace(
            r, artefact="b", probability=(r.probability or 0) + float(d), volume_ml=(r.volume_ml or 0) + 1
        )
        for r, d in zip(given, change, strict=True)
    ]
    other[0] = replace(other[0], finding="indeterminate")
    result = paired([*given, *other[:-1]], "net.fp32.onnx", "b")
    assert result.cases == 49
    assert result.difference.value == pytest.approx(change[:-1].mean())
    assert result.limits[1] - result.limits[0] == pytest.approx(2 * 1.96 * change[:-1].std(ddof=1))
    assert result.flipped.value == pytest.approx(1 / 49)
    assert result.volume_ml.value == pytest.approx(1.0)
    assert mcnemar(3, 9) == pytest.approx(binomtest(3, 12).pvalue)
    assert mcnemar(0, 0) == 1.0


def test_a_new_scanner_is_named_rather_than_what_came_with_it() -> None:
    given = records(400)
    new = replace(given[0].acquired[1], station_key="9f9f9f9f", repetition_time_ms=5200.0, vendor="philips")
    given = [replace(r, acquired=(new, new)) if i >= 300 and i % 2 else r for i, r in enumerate(given)]
    changed = what_changed(columns_of(given, {**ALIASES, "9f9f9f9f": "scanner C"}), 300)
    assert changed is not None
    assert changed.fact == "station"
    assert changed.words.startswith("scanner C: 0 % to 50 %")
    assert what_changed(columns_of(records(400), ALIASES), 300) is None
