"""Venn-Abers against scikit-learn's isotonic regression, fitted anew for every score, and its promise."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from npc_edge.calibration.venn_abers import LEAST, WANTED, fit_venn_abers, why_not

Floats = NDArray[np.float64]


def drawn(count: int, seed: int, decimals: int = 12) -> tuple[Floats, Floats]:
    random = np.random.default_rng(seed)
    logits = np.round(random.normal(0, 2, count), decimals)
    return logits, (random.random(count) < expit(1.5 * logits - 0.5)).astype(np.float64)


def by_definition(x: Floats, y: Floats, score: float, label: float) -> float:
    fit = IsotonicRegression(out_of_bounds="clip").fit(np.append(x, score), np.append(y, label))
    return float(fit.predict([score])[0])


@pytest.mark.parametrize(("count", "decimals"), [(2, 12), (7, 12), (60, 12), (60, 0), (200, 1)])
def test_both_ends_are_the_isotonic_fit_with_the_new_case_put_in(count: int, decimals: int) -> None:
    for seed in range(4):
        x, y = drawn(count, seed, decimals)
        y[0], y[1] = 0, 1
        fitted = fit_venn_abers(x, y)
        for score in (*x[:12], *(x[:6] + 0.013), x.min() - 1, x.max() + 1):
            low, high = fitted.interval(score)
            assert float(low) == pytest.approx(by_definition(x, y, score, 0.0), abs=1e-9)
            assert float(high) == pytest.approx(by_definition(x, y, score, 1.0), abs=1e-9)


def test_the_interval_is_ordered_rises_and_narrows_with_cases() -> None:
    at = np.linspace(-6, 6, 200)
    widths = []
    for count in (50, 400, 3000):
        low, high = fit_venn_abers(*drawn(count, 3)).interval(at)
        assert (low <= high).all()
        assert (np.diff(low) >= 0).all()
        assert (np.diff(high) >= 0).all()
        widths.append(float((high - low).mean()))
    assert widths[0] > 1.5 * widths[1] > 2 * widths[2]


def test_one_of_the_two_is_calibrated() -> None:
    """Vovk and Petej's theorem, in the mean: found shares lie between the mean of p0 and that of p1."""
    low_sum = high_sum = found = 0.0
    for seed in range(300):
        x, y = drawn(41, seed + 100)
        if y[:40].min() == y[:40].max():
            continue
        low, high = fit_venn_abers(x[:40], y[:40]).interval(x[40])
        low_sum, high_sum, found = low_sum + float(low), high_sum + float(high), found + float(y[40])
    assert low_sum < found < high_sum


def test_the_one_number_lies_between_and_is_the_regret_minimum() -> None:
    fitted = fit_venn_abers(*drawn(100, 5))
    low, high = fitted.interval(np.array([-1.0, 0.0, 1.0]))
    one = fitted.probability(np.array([-1.0, 0.0, 1.0]))
    assert ((low <= one) & (one <= high)).all()
    regret_if_positive, regret_if_negative = np.log(high / one), np.log((1 - low) / (1 - one))
    np.testing.assert_allclose(regret_if_positive, regret_if_negative, atol=1e-12)


def test_only_scores_at_which_something_steps_are_kept() -> None:
    """Where the labels run against the scores all is one step; what is left out changes nothing."""
    x, y = drawn(400, 9)
    fitted = fit_venn_abers(x, y)
    assert len(fitted.scores) < 300
    assert set(fitted.scores) <= set(x.tolist())
    for score in x[:40]:
        low, high = fitted.interval(score)
        assert float(low) == pytest.approx(by_definition(x, y, score, 0.0), abs=1e-9)
        assert float(high) == pytest.approx(by_definition(x, y, score, 1.0), abs=1e-9)


@pytest.mark.parametrize(("count", "width"), [(LEAST, 0.10), (WANTED, 0.025)])
def test_the_least_number_of_cases_is_what_its_reason_says(count: int, width: float) -> None:
    """Two normals apart by 2.33 standard deviations: AUC 0.95."""
    widths = []
    for seed in range(10):
        random = np.random.default_rng(seed)
        y = np.arange(count) % 2
        low, high = fit_venn_abers(random.normal(2.33 * y, 1), y).interval(random.normal(2.33 * y, 1))
        widths.append(float((high - low).mean()))
    assert np.mean(widths) == pytest.approx(width, rel=0.15)
    assert why_not(count) == ""
    assert why_not(LEAST - 1) == "not allowed: 99 calibration cases; 100 are needed"


def test_one_kind_of_case_is_refused() -> None:
    with pytest.raises(ValueError, match="both kinds"):
        fit_venn_abers([0.0, 1.0], [1, 1])
