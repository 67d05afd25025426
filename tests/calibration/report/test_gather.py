"""What the report shows is what was recorded: counts, groups, measures and trends."""

from dataclasses import replace

import numpy as np
import pytest
from monitor_records import STATION_A, STATION_B, Department, records, truths

from npc_edge.calibration.alarms import incidents, open_alarms
from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.report.gather import content_of
from npc_edge.calibration.report.page import render
from npc_edge.calibration.report.values import Content
from npc_edge.calibration.watch import Settings, Watched, watched
from npc_edge.calibration.watch.measures import spiegelhalter_z

OF = Department(900, seed=4, changed=0.5, labelled=0.3)
SETTINGS = Settings(null_runs=300)
ALIASES = {STATION_A: "scanner A", STATION_B: "scanner B"}
Seen = tuple[list[CaseRecord], Watched, Content]


@pytest.fixture(scope="module")
def seen() -> Seen:
    given = list(records(OF))
    found = watched(given, truths(OF), SETTINGS, ALIASES)
    return given, found, content_of(given, found, SETTINGS, given[-1].at + 1)


def test_counts_are_the_records(seen: Seen) -> None:
    given, _, content = seen
    overview = content.overview
    known = {truth.case_key: truth.npc for truth in truths(OF)}
    assert overview.runs == 900
    assert overview.refused == sum(r.outcome == "no-result" for r in given)
    assert sum(count for _, count in overview.reasons) == overview.refused
    assert (overview.npc, overview.not_npc) == (sum(known.values()), len(known) - sum(known.values()))
    assert overview.with_truth == len(known)
    assert (overview.first_at, overview.last_at) == (given[0].at, given[-1].at)
    assert (overview.bundles, overview.artefacts) == (("npc 3",), ("detector.int8-u8s8",))


def test_every_split_of_the_cases_adds_up(seen: Seen) -> None:
    groups = seen[2].groups
    assert groups is not None
    assert [g.title for g in groups.groupings] == ["Scanner", "Vendor", "T2 fat suppression", "Artefact"]
    for grouping in groups.groupings:
        for name in ("runs", "refused", "npc", "not_npc"):
            assert sum(getattr(r, name) for r in grouping.rows) == getattr(groups.overall, name), (
                grouping.title
            )
    assert [row.name for row in groups.groupings[0].rows] == ["scanner A", "scanner B"]
    area, brier, slope = groups.overall.estimates
    assert area is not None
    assert brier is not None
    assert slope is not None
    assert 0.5 < area.low < area.value < area.high < 1


def test_the_change_on_one_scanner_is_drawn_where_it_was(seen: Seen) -> None:
    _, found, content = seen
    trend = next(t for t in content.trends if t.title == "Median intensity of T2")
    assert trend.watch is not None
    assert trend.watch.level == "act"
    assert trend.watch.change is not None
    assert abs(trend.watch.change - 450) <= 45
    np.testing.assert_array_equal(trend.values, found.columns.features["t2.median"])
    assert trend.watch.level == content.trends[0].watch.level  # type: ignore[union-attr]
    titles = [t.title for t in content.trends]
    assert {"Score", "Tumour volume", "Share of refused studies", "Time a run takes"} <= set(titles)
    assert len(titles) == len(set(titles)) <= 12


def test_a_department_that_stays_as_it_is_has_no_act() -> None:
    of = Department(700, seed=11, labelled=0.0)
    given = list(records(of))
    found = watched(given, (), SETTINGS, ALIASES)
    content = content_of(given, found, SETTINGS, given[-1].at)
    assert {v.level for v in found.verdicts} <= {"quiet", "watch"}
    assert content.reliability == ()
    assert content.agreement.confusions == ()
    assert all(m.estimate is None for m in content.headline_measures)
    assert any("diagram" in words for words in content.not_assessed)
    assert any("700 cases whose truth is not known" in words for words in content.not_assessed)


def test_reliability_counts_every_labelled_case_with_a_score(seen: Seen) -> None:
    _, found, content = seen
    (diagram,) = content.reliability
    labelled = np.isfinite(found.npc) & np.isfinite(found.columns.probability)
    assert diagram.npc.sum() + diagram.not_npc.sum() == labelled.sum()
    assert (diagram.low <= diagram.observed).all()
    assert (diagram.observed <= diagram.high).all()
    names = {m.name for m in diagram.measures}
    assert {"AUC", "Calibration slope", "Calibration error", "Sensitivity", "Specificity"} <= names
    assert {"Brier score: miscalibration", "Spiegelhalter's z", "Distance of the curve (ICI)"} <= names
    by_name = {m.name: m.estimate for m in diagram.measures}
    p, y = found.columns.probability[labelled], found.npc[labelled]
    assert by_name["Spiegelhalter's z"].value == spiegelhalter_z(p, y)  # type: ignore[union-attr]
    assert 0 <= by_name["Brier score: miscalibration"].value < by_name["Brier score"].value  # type: ignore[union-attr]


def test_agreement_is_counted(seen: Seen) -> None:
    agreement = seen[2].agreement
    staged = [t for t in truths(OF) if t.category is not None]
    assert agreement.confusions[0].counts.sum() == len(staged)
    assert dict(agreement.reviews)["corrected"] == sum(t.review == "corrected" for t in truths(OF))
    assert agreement.dice is not None
    assert [m.name for m in agreement.criteria] == ["clivus"]
    rows = {row.name: row for row in agreement.groups}
    assert {"Scanner: scanner A", "Vendor: ge", "T2 fat suppression: yes"} <= set(rows)
    by_scanner = [rows["Scanner: scanner A"], rows["Scanner: scanner B"]]
    assert sum(row.category.n for row in by_scanner if row.category) == len(staged)
    assert sum(row.criteria.n for row in by_scanner if row.criteria) == agreement.criteria[0].estimate.n  # type: ignore[union-attr]
    reviewed = sum(t.review is not None for t in truths(OF))
    assert sum(row.accepted.n for row in by_scanner if row.accepted) == reviewed


def test_one_change_is_one_thing_to_look_at_on_the_page(seen: Seen) -> None:
    _, found, content = seen
    alarms = open_alarms(found.verdicts, (), content.overview.made_at)
    first = incidents(alarms)[0]
    assert len(first) > 1
    text = render(content, found.verdicts, alarms)
    assert "T2 fat suppression changed on scanner B" in text
    assert not [record.case_key for record in seen[0] if record.case_key in text]


def test_repeated_runs_and_older_bundles_are_counted_not_watched() -> None:
    given = list(records(Department(120, seed=2)))
    older = [replace(r, bundle="npc 2", bundle_sha256="a0" * 32, at=r.at - 10**10) for r in given[:30]]
    older = [replace(r, case_key=r.case_key[::-1]) for r in older]
    again = [replace(given[-1], at=given[-1].at + 5)]
    every = [*older, *given, *again]
    found = watched(every, (), SETTINGS, {})
    content = content_of(every, found, SETTINGS, every[-1].at)
    assert content.overview.runs == 151
    assert content.overview.watchers == 0
    assert content.groups is not None
    assert content.groups.overall.runs == 120
    assert any(words.startswith("31 runs are counted but not watched") for words in content.not_assessed)
    assert [t.watch for t in content.trends] == [None, None, None]
    page = render(content, found.verdicts, ())
    assert "No statement yet" in page
    assert "120 of 250" in page


def test_the_same_cases_through_two_artefacts_have_a_section() -> None:
    given = list(records(Department(60, seed=3)))
    other = [
        replace(r, artefact="detector.fp32", at=r.at + 1, probability=(r.probability or 0.0) * 0.99)
        for r in given
    ]
    for every, there in (([*given, *other], True), (given, False)):
        found = watched(every, (), SETTINGS, {})
        content = content_of(every, found, SETTINGS, every[-1].at)
        page = render(content, found.verdicts, ())
        assert ("The same cases through two artefacts" in page) is there
        assert any("no two cases ran through two artefacts" in s for s in content.not_assessed) is not there
        assert ("cases ran with detector.fp32 and with detector.int8-u8s8" in page) is there


def test_nothing_recorded_makes_a_page() -> None:
    found = watched((), (), SETTINGS, {})
    content = content_of((), found, SETTINGS, 1_000_000)
    assert "No run is recorded." in render(content, found.verdicts, ())
