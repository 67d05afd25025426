"""The regression's plan, its counting, and a handful of phantoms through the real command."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from npc_edge.bench.__main__ import main
from npc_edge.bench.regression import VENDORS, plan
from npc_edge.bench.regression_table import table
from npc_edge.bench.scoring import read_records, summarise


def record(stage: str | None, said: str, probability: float | None, **more: Any) -> dict[str, Any]:
    """One finished case as the regression keeps it; said: a category, a finding or a reason code."""
    is_category = said in ("T1", "T2", "T3", "T4")
    finding = "suspicious" if is_category else None if probability is None else said
    category = said if is_category else None
    kinds = dict.fromkeys(("oblique", "fat_sat", "enhanced", "reversed", "with_contrast"), False)
    return {
        "case": {"name": "x", "spec": {"vendor": "ge", **kinds}},
        "truth": {"npc": stage is not None, "ajcc8": stage, "ajcc9": stage, "criteria": {}},
        "reason": said if probability is None else None,
        "finding": finding,
        "probability": probability,
        "dice": 0.9 if is_category else 0.0,
        "predicted": {"ajcc8": category, "ajcc9": category, "volume_ml": 1.0},
        "criteria": {},
        "wall_mm": 3.0 if stage is None else 3.0 + int(stage[1]),
        "seconds": 1.0,
        **more,
    }


def test_plan_has_every_stage_evenly_and_every_way_of_acquiring() -> None:
    cases = plan(250, 250)
    assert Counter(case.spec.stage for case in cases) == {"T1": 63, "T2": 63, "T3": 62, "T4": 62, "none": 250}
    assert {case.spec.vendor for case in cases} == set(VENDORS)
    for way in ("oblique", "fat_sat", "enhanced", "reversed", "with_contrast"):
        assert 50 <= sum(bool(getattr(case.spec, way)) for case in cases) <= 200, way
    for stage in ("T1", "T4", "none"):
        assert {case.spec.vendor for case in cases if case.spec.stage == stage} == set(VENDORS)


def test_plan_uses_no_seed_twice_and_a_small_one_is_part_of_a_large_one() -> None:
    large = plan(250, 250)
    assert len({case.spec.seed for case in large}) == 500
    assert set(plan(4, 3)) <= set(large)


def test_a_refusal_counts_as_a_half_a_zero_and_a_wrong_category() -> None:
    found = summarise([record("T1", "MISSING_SLICES", None), record(None, "not_suspicious", 0.1)])
    assert found["brier"] == pytest.approx((0.5**2 + 0.1**2) / 2)
    assert found["dice"][0] == 0.0
    assert found["category"]["ajcc8"]["within_one"][0] == 0.0
    assert found["category"]["ajcc8"]["confusion"]["T1"]["refused"] == 1
    assert found["refusals"] == {"MISSING_SLICES": 1}
    assert found["auc"][0] == 1.0  # a half still ranks above 0.1


def test_categories_are_counted_over_phantoms_with_a_tumour_only() -> None:
    found = summarise(
        [
            record("T3", "T3", 0.9),
            record("T3", "T4", 0.9),
            record("T4", "T2", 0.9),
            record("T1", "not_suspicious", 0.2),
            record(None, "T2", 0.8),
        ]
    )
    assert found["category"]["ajcc8"]["exact"][0::3] == [0.25, 4]
    assert found["category"]["ajcc8"]["within_one"][0] == 0.5
    assert found["category"]["ajcc8"]["confusion"]["T1"]["not_suspicious"] == 1
    assert found["sensitivity"][0] == 0.75
    assert found["specificity"][0] == 0.0


def test_criteria_fire_only_when_unequivocal() -> None:
    truth = {"npc": True, "ajcc8": "T3", "ajcc9": "T3", "criteria": {"clivus": True, "orbit": False}}
    found = summarise(
        [
            record("T3", "T3", 0.9, truth=truth, criteria={"clivus": "unequivocal", "orbit": "equivocal"}),
            record("T3", "T2", 0.9, truth=truth, criteria={"clivus": "equivocal"}),
        ]
    )["criteria"]
    assert found["clivus"]["sensitivity"][0] == 0.5
    assert found["clivus"]["at_least_equivocal"][0] == 1.0
    assert found["orbit"]["specificity"][0] == 1.0


def test_the_baseline_never_learns_from_the_half_it_judges() -> None:
    odd_one_out = [record("T1", "T1", 0.9, wall_mm=9.0), record("T2", "T2", 0.9, wall_mm=9.0)]
    found = summarise([*odd_one_out, record(None, "not_suspicious", 0.1, wall_mm=2.0)])["baseline"]
    assert found["exact"][0] == 0.0  # each was judged by the other's mean
    assert found["auc"][0] == 1.0


def test_a_line_cut_short_is_run_again(tmp_path: Path) -> None:
    lines = tmp_path / "records.jsonl"
    lines.write_text(json.dumps(record("T1", "T1", 0.9)) + '\n{"case": {"na')
    assert len(read_records(lines)) == 1


def test_a_handful_of_phantoms_through_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, kept = tmp_path / "regression.json", tmp_path / "phantoms"
    small = [
        "regression",
        "--tumour",
        "1",
        "--healthy",
        "1",
        "--matrix",
        "128",
        "--slices",
        "24",
        "--jobs",
        "1",
    ]
    assert main([*small, "--phantoms", str(kept), "--write-only"]) == 0
    assert sorted(folder.name for folder in kept.iterdir()) == ["T1-500000", "none-750000"]
    assert main([*small, "--phantoms", str(kept), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "not diagnostic performance" in printed
    report = json.loads(out.read_text())
    assert [case["case"]["name"] for case in report["cases"]] == ["T1-500000", "none-750000"]
    assert report["cases"][0]["truth"]["npc"] is True
    assert all(0 <= case["probability"] <= 1 for case in report["cases"] if case["reason"] is None)
    assert table(report) in printed
    assert str(tmp_path) not in out.read_text()
