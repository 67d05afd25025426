"""The verdict over cases: arithmetic by hand, bounds by scipy, and no way to pass by being silent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta

from npc_edge.calibration.calibrators import apply
from npc_edge.engine.model.parity import FIT_CASES, CaseParity, Limits, judge, upper_bound


def case(**changes: object) -> CaseParity:
    base: dict[str, object] = {
        "case": "a",
        "npc": True,
        "relative_error": {"tumour": 0.01},
        "dice": 0.99,
        "hd95_mm": 1.0,
        "assd_mm": 0.2,
        "dice_reference": 0.9,
        "dice_candidate": 0.9,
        "score_reference": 2.0,
        "score_candidate": 2.0,
    }
    return CaseParity(**{**base, **changes})  # type: ignore[arg-type]


def test_the_same_answers_pass_and_the_bound_says_how_much_that_is() -> None:
    verdict = judge([case()] * 10)
    assert verdict
    assert verdict.why == ()
    assert (verdict.delta_dice, verdict.probability_shift, verdict.category_changes) == (0, 0, 0)
    assert verdict.category_bound == pytest.approx(1 - 0.05**0.1)
    assert verdict.against_truth


def test_without_cases_nothing_is_judged() -> None:
    with pytest.raises(ValueError, match="no cases"):
        judge([])


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"dice_candidate": 0.894}, "Dice"),
        ({"dice_candidate": float("nan")}, "Dice"),
        ({"score_candidate": 2.4}, "probability"),
        ({"score_candidate": float("nan")}, "probability"),
        ({"dice": 0.9}, "agree"),
        ({"changed": True}, "categor"),
        ({"relative_error": {"tumour": math.inf}}, "output"),
    ],
)
def test_what_is_lost_is_named(changes: dict[str, object], word: str) -> None:
    verdict = judge([case(**changes)] * 4)
    assert not verdict
    assert len(verdict.why) == 1
    assert word in verdict.why[0]


def test_without_truth_the_masks_are_held_against_each_other() -> None:
    known = {"dice_reference": None, "dice_candidate": None}
    assert not judge([case(**known)])
    assert judge([case(**known, dice=0.996)])
    assert not judge([case(**known, dice=0.996)]).against_truth


def test_limits_are_the_callers() -> None:
    changed = [case(changed=True), case(), case()]
    assert judge(changed, Limits(category_changes=1))
    assert judge(changed, Limits(category_changes=1)).category_bound == pytest.approx(
        beta.ppf(0.95, 2, 2), abs=1e-9
    )


def test_a_score_that_only_changed_its_scale_is_recalibrated() -> None:
    """The candidate's logits are twice the reference's: its own calibrator takes that back."""
    rng = np.random.default_rng(3)
    cases = []
    for index in range(4 * FIT_CASES):
        npc = index % 2 == 0
        score = float(rng.normal(1.0 if npc else -1.0, 1.2))
        cases.append(case(npc=npc, score_reference=score, score_candidate=2 * score))
    verdict = judge(cases)
    assert verdict.rescale == pytest.approx(2)
    assert verdict.probability_shift is not None
    assert verdict.probability_shift < 1e-6
    few = judge(cases[:FIT_CASES])
    assert few.rescale is None
    assert few.probability_shift == pytest.approx(
        np.mean(
            [abs(apply(2 * c.score_reference, 1) - apply(c.score_reference, 1)) for c in cases[:FIT_CASES]]
        )
    )


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_the_bound_is_clopper_and_pearsons(drawn: tuple[int, int]) -> None:
    events, cases = drawn
    expected = 1.0 if events == cases else beta.ppf(0.95, events + 1, cases - events)
    assert upper_bound(events, cases) == pytest.approx(expected, abs=1e-7)
