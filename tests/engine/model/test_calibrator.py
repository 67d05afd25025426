"""The manifest's calibrator: what it holds is what was fitted; what was not allowed cannot be in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from npc_edge.calibration.conformal import CATEGORIES
from npc_edge.calibration.venn_abers import VennAbers, fit_venn_abers
from npc_edge.engine.model.calibrator import Calibrator, CategorySets, VennAbersTable
from npc_edge.export.recalibrate import steps

PLAIN: dict[str, Any] = {
    "method": "temperature",
    "temperature": 2.0,
    "cases": 9,
    "prevalence": 0.5,
    "population": "tests",
}
ENOUGH = dict.fromkeys(CATEGORIES, 100)
LEVELS = dict.fromkeys(CATEGORIES, 0.2)


def drawn(count: int) -> tuple[list[float], list[bool]]:
    random = np.random.default_rng(count)
    y = np.arange(count) % 2 == 0
    return random.normal(np.where(y, 1.0, -1.0), 1.5).tolist(), y.tolist()


def test_a_manifest_from_before_says_null() -> None:
    old = Calibrator.model_validate(PLAIN)
    assert old.venn_abers is None
    assert old.sets == {}


@pytest.mark.parametrize("count", [100, 257, 1000])
def test_the_table_read_back_is_the_fitted_object(count: int) -> None:
    x, y = drawn(count)
    written = Calibrator.model_validate({**PLAIN, "venn_abers": steps(zip(x, y, strict=True))})
    read = Calibrator.model_validate_json(written.model_dump_json()).venn_abers
    assert read is not None
    table = VennAbers(read.scores, read.lower, read.upper, read.cases, read.prevalence)
    fitted = fit_venn_abers(x, y)
    at = np.concatenate([x, np.asarray(x) + 1e-9, np.linspace(-9, 9, 500)])
    for mine, theirs in zip(table.interval(at), fitted.interval(at), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=0, atol=1e-12)
    assert len(written.model_dump_json()) < 60 * count


def test_too_few_cases_leave_their_number_and_no_steps() -> None:
    x, y = drawn(99)
    assert steps(zip(x, y, strict=True)) == VennAbersTable(cases=99, prevalence=50 / 99)
    assert steps([]) == VennAbersTable(cases=0, prevalence=0.0)
    assert steps([(0.3, True)] * 200) == VennAbersTable(cases=200, prevalence=1.0)


STEPS: dict[str, Any] = {
    "cases": 100,
    "prevalence": 0.5,
    "scores": [-1.0, 1.0],
    "lower": [0.0, 0.2, 0.9],
    "upper": [0.3, 0.95, 1.0],
}


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"cases": 99}, "99 calibration cases; 100 are needed"),
        ({"lower": [0.0, 0.2]}, "one value more"),
        ({"scores": [1.0, -1.0]}, "rise"),
        ({"scores": [1.0, 1.0]}, "rise"),
        ({"lower": [0.0, 0.9, 0.2]}, "rise"),
        ({"lower": [0.0, 0.4, 0.9]}, "stays below"),
        ({"upper": [0.3, 0.95, 1.2]}, "less than or equal to 1"),
        ({"surprise": 1}, "Extra inputs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_steps_that_make_no_sense_are_refused(change: dict[str, Any], why: str) -> None:
    VennAbersTable.model_validate(STEPS)
    with pytest.raises(ValidationError, match=why):
        VennAbersTable.model_validate({**STEPS, **change})


@pytest.mark.parametrize(
    ("sets", "why"),
    [
        ({"cases": {**ENOUGH, "T1": 12}}, "12 cases of T1 in the calibration set; 100 are needed"),
        ({"level": 0.995}, "takes 199 cases"),
        ({"cases": {"T1": 100}}, "name T1, T2, T3 and T4"),
        ({"thresholds": {"T1": 0.2}}, "name T1, T2, T3 and T4"),
        ({"surprise": 1}, "Extra inputs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_sets_that_the_cases_do_not_allow_are_refused(sets: dict[str, Any], why: str) -> None:
    allowed = {"level": 0.9, "cases": ENOUGH, "thresholds": LEVELS}
    CategorySets.model_validate(allowed)
    with pytest.raises(ValidationError, match=why):
        CategorySets.model_validate({**allowed, **sets})


def test_too_few_cases_without_thresholds_are_a_statement() -> None:
    sets = CategorySets.model_validate({"level": 0.9, "cases": {**ENOUGH, "T1": 12}})
    assert sets.thresholds is None
