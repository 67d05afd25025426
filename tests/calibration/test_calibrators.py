"""Calibrators against scipy's optimiser and scikit-free truths: the cases' own sigmoid comes back."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit

from npc_edge.calibration import calibrators
from npc_edge.calibration.calibrators import apply, fit_platt, fit_temperature, log_loss

Floats = NDArray[np.float64]


def cases(temperature: float, bias: float, count: int = 400, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 4, count)
    labels = (rng.random(count) < expit((logits + bias) / temperature)).astype(np.float64)
    return logits, labels


@pytest.mark.parametrize("temperature", [0.4, 1.0, 3.0])
def test_the_temperature_is_the_one_scipy_finds(temperature: float) -> None:
    logits, labels = cases(temperature, 0.0)
    fit = fit_temperature(logits, labels)
    best = minimize(lambda t: log_loss(logits / np.exp(t[0]), labels), [0.0], tol=1e-12)
    assert fit.temperature == pytest.approx(float(np.exp(best.x[0])), rel=1e-4)
    assert fit.bias == 0
    assert fit.log_loss == pytest.approx(float(best.fun), abs=1e-10)
    assert (fit.cases, fit.prevalence) == (400, labels.mean())


@pytest.mark.parametrize(("temperature", "bias"), [(0.5, 1.0), (2.0, -3.0), (5.0, 0.0)])
def test_platt_is_the_logistic_regression_scipy_finds(temperature: float, bias: float) -> None:
    logits, labels = cases(temperature, bias)
    fit = fit_platt(logits, labels)
    best = minimize(lambda w: log_loss(w[0] * logits + w[1], labels), [1.0, 0.0], tol=1e-14)
    slope, offset = best.x
    assert 1 / fit.temperature == pytest.approx(slope, rel=1e-4)
    assert fit.bias / fit.temperature == pytest.approx(offset, rel=1e-3, abs=1e-4)
    assert fit.log_loss <= best.fun + 1e-9


def test_many_cases_give_back_what_made_them() -> None:
    logits, labels = cases(2.5, 1.5, count=200_000)
    fit = fit_platt(logits, labels)
    assert fit.temperature == pytest.approx(2.5, rel=0.03)
    assert fit.bias == pytest.approx(1.5, abs=0.06)


def test_platt_needs_few_steps_from_far_away() -> None:
    logits, labels = cases(1.0, 0.0)
    far = fit_platt(logits * 50 + 2000, labels)
    near = fit_platt(logits, labels)
    assert far.log_loss == pytest.approx(near.log_loss, abs=1e-6)


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_cases_told_apart_without_error_stay_short_of_certainty(fit, scale: float) -> None:
    logits = np.array([-3.0, -2.0, 2.0, 3.5]) * scale
    found = fit(logits, np.array([0, 0, 1, 1]))
    assert found.temperature * (1 + 1e-6) >= calibrators.COLDEST
    assert found.temperature <= calibrators.HOTTEST * (1 + 1e-6)
    assert logits[1] < -found.bias < logits[2]


def test_a_slope_at_its_limit_keeps_the_mean_probability_right() -> None:
    logits, labels = cases(1.0, 1.0)
    fit = fit_platt(logits * 500 - 300, labels)
    assert fit.temperature == pytest.approx(calibrators.HOTTEST)
    mean = apply(logits * 500 - 300, fit.temperature, fit.bias).mean()
    assert mean == pytest.approx(labels.mean(), abs=1e-6)


def test_a_score_that_runs_backwards_is_refused() -> None:
    logits, labels = cases(1.0, 0.0)
    with pytest.raises(ValueError, match="nothing to calibrate"):
        fit_platt(-logits, labels)
    assert fit_temperature(-logits, labels).temperature == pytest.approx(calibrators.HOTTEST, rel=1e-6)


def test_apply_is_the_sigmoid_without_overflow() -> None:
    logits = np.array([-1e6, -3.0, 0.0, 2.0, 1e6])
    np.testing.assert_allclose(apply(logits, 2.0, 1.0), expit((logits + 1) / 2), atol=1e-15)
    assert float(apply(0.0, 1.0)) == 0.5


@pytest.mark.parametrize("fit", [fit_temperature, fit_platt])
@pytest.mark.parametrize(
    ("logits", "labels"),
    [([1.0, 2.0], [1]), ([1.0, np.nan], [0, 1]), ([1.0, 2.0], [0, 2]), ([1.0, 2.0], [1, 1]), ([], [])],
    ids=range(5),
)
def test_cases_that_say_nothing_are_refused(fit, logits, labels) -> None:
    with pytest.raises(ValueError, match="wanted"):
        fit(np.array(logits), np.array(labels))
