"""Class-conditional sets: they cover every category, and there are none from too few cases."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.calibration.conformal import CATEGORIES, Conformal, NotAllowed, fit_conformal, why_not, words

FREQUENT = (0.4, 0.3, 0.2, 0.1)


def drawn(counts: tuple[int, ...], seed: int, sharpness: float = 1.5):
    """Distributions of cases of each category, in which the true one tends to be larger."""
    random = np.random.default_rng(seed)
    truth = np.repeat(np.arange(4), counts)
    logits = random.gumbel(size=(len(truth), 4)) + np.log(FREQUENT)
    logits[np.arange(len(truth)), truth] += sharpness
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [CATEGORIES[t] for t in truth]
    return [dict(zip(CATEGORIES, row.tolist(), strict=True)) for row in p], names


@settings(max_examples=6, deadline=None)
@given(
    coverage=st.sampled_from([0.8, 0.9, 0.95]),
    sharpness=st.floats(0.0, 3.0),
    seed=st.integers(0, 1000),
)
def test_every_category_is_covered(coverage: float, sharpness: float, seed: int) -> None:
    """Over many calibration sets of 100 a category, new cases' sets hold the truth as often as promised: for
    each category of its own, the rare ones too. 40 sets x 50 cases: the mean's error is below 0.012."""
    hits = np.zeros(4)
    for repeat in range(40):
        fitted = fit_conformal(*drawn((100,) * 4, 1000 * seed + repeat, sharpness), coverage)
        assert isinstance(fitted, Conformal)
        new, truth = drawn((50,) * 4, 1000 * seed + repeat + 500, sharpness)
        for case, name in zip(new, truth, strict=True):
            hits[CATEGORIES.index(name)] += name in fitted.categories(case)
    share = hits / (40 * 50)
    assert (share >= coverage - 0.03).all(), share
    assert (share <= coverage + 0.04).all(), share


def test_too_few_cases_of_a_category_are_said_and_nothing_is_fitted() -> None:
    found = fit_conformal(*drawn((40, 120, 100, 99), 1))
    assert isinstance(found, NotAllowed)
    assert found.reason == (
        "not allowed: 40 cases of T1, 99 of T4 in the calibration set; 100 of each are needed"
    )
    assert found.cases == {"T1": 40, "T2": 120, "T3": 100, "T4": 99}
    assert why_not({"T1": 12, "T2": 100}, 0.9) == (
        "not allowed: 12 cases of T1 in the calibration set; 100 are needed"
    )
    assert why_not({"T1": 1, "T2": 0}, 0.9).startswith("not allowed: 1 case of T1, 0 of T2 in the")
    assert why_not({"T1": 100, "T2": 100}, 0.9) == ""


def test_a_coarse_distribution_covers_more_and_never_less() -> None:
    """As the sweep of the rules gives it: shares of 9 votes, full of ties."""
    hits = np.zeros(4)
    for seed in range(40):
        fitted = fit_conformal(*coarse(drawn((100,) * 4, seed)))
        assert isinstance(fitted, Conformal)
        for case, name in zip(*coarse(drawn((50,) * 4, seed + 500)), strict=True):
            hits[CATEGORIES.index(name)] += name in fitted.categories(case)
    assert (hits / (40 * 50) >= 0.9 - 0.01).all()


def coarse(cases):
    distributions, truth = cases
    return [{t: (round(9 * p) + 0.5) / 11 for t, p in d.items()} for d in distributions], truth


def test_a_coverage_that_the_cases_cannot_give_is_refused() -> None:
    found = fit_conformal(*drawn((100,) * 4, 1), coverage=0.995)
    assert isinstance(found, NotAllowed)
    assert "takes 199 cases" in found.reason


def test_the_threshold_is_the_order_statistic() -> None:
    cases = [{"A": value / 100} for value in range(1, 101)]
    fitted = fit_conformal(cases, ["A"] * 100, 0.9, ("A",))
    assert isinstance(fitted, Conformal)
    assert fitted.thresholds["A"] == 0.10  # ceil(101 x 0.9) = 91st largest of 0.01 … 1.00


def test_words() -> None:
    fitted = Conformal(0.9, {"T1": 0.3, "T2": 0.2, "T3": 0.2, "T4": 0.1}, {})
    assert fitted.words({"T3": 0.6, "T4": 0.3, "T1": 0.1}) == "T3 or T4 at 90 %"
    assert fitted.words({"T2": 0.4, "T3": 0.4, "T4": 0.2}) == "T2, T3 or T4 at 90 %"
    assert fitted.words({"T1": 0.9}) == "T1 at 90 %"
    assert fitted.words({}) == "no T category fits at 90 %"
    assert words(("T1",), 0.995) == "T1 at 99.5 %"


def test_wrong_input_is_refused() -> None:
    with pytest.raises(ValueError, match="known categories"):
        fit_conformal([{"T1": 1.0}], ["T5"])
