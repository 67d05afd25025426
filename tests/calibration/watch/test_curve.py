"""The calibration curve and error, against scikit-learn's regression and against the truth they estimate."""

import numpy as np
import pytest
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from npc_edge.calibration.watch.curve import binned, calibration_error, curve, spline, squared_error
from npc_edge.calibration.watch.label_charts import logit
from npc_edge.calibration.watch.sample_size import auc_error, cases_for_auc, cases_for_ratio, cases_for_slope


def drawn(count: int, seed: int, slope: float = 1.0):
    random = np.random.default_rng(seed)
    x = random.normal(-0.5, 1.5, count)
    return expit(x), (random.random(count) < expit(slope * x)).astype(np.float64)


def test_the_curve_is_scikit_learn_s_regression_on_the_same_basis() -> None:
    p, y = drawn(500, 0, 0.6)
    found = curve(p, y)
    assert found is not None
    knots = np.quantile(logit(p), (0.05, 0.275, 0.5, 0.725, 0.95))
    basis = spline(logit(p), knots)
    scale = basis[:, 1:].std(axis=0)
    peer = LogisticRegression(C=np.inf, tol=1e-13, max_iter=20_000, solver="newton-cholesky")
    peer.fit(basis[:, 1:] / scale, y)
    expected = peer.predict_proba(spline(logit(found.probability), knots)[:, 1:] / scale)[:, 1]
    np.testing.assert_allclose(found.found, expected, atol=1e-6)
    distance = np.abs(peer.predict_proba(basis[:, 1:] / scale)[:, 1] - p)
    assert found.ici == pytest.approx(distance.mean(), abs=1e-6)
    assert found.e_max == pytest.approx(distance.max(), abs=1e-6)


def test_the_spline_is_smooth_and_straight_outside_its_knots() -> None:
    x = np.linspace(-5, 5, 2001)
    second = np.diff(spline(x, np.array([-2.0, -1.0, 1.0, 2.0])), 2, axis=0)
    outside = (x[1:-1] < -2.01) | (x[1:-1] > 2.01)
    assert np.abs(second[outside]).max() < 1e-9
    assert np.abs(np.diff(second, axis=0)).max() < 1e-6


def test_the_band_covers_the_truth_at_93_to_97_percent() -> None:
    hits = []
    for seed in range(300):
        found = curve(*drawn(400, seed), points=9)
        assert found is not None
        hits.append((found.low <= found.probability) & (found.probability <= found.high))
    assert 0.93 <= np.mean(hits) <= 0.97


def test_no_curve_from_few_cases() -> None:
    assert curve(np.full(30, 0.5), np.r_[np.ones(9), np.zeros(21)]) is None


def test_bins_hold_equally_many() -> None:
    p, y = drawn(1000, 1)
    found = binned(p, y)
    assert found.cases.tolist() == [100] * 10
    assert (found.cases * found.found).sum() == pytest.approx(y.sum())
    assert (np.diff(found.probability) > 0).all()


def test_the_squared_error_is_unbiased_and_the_plain_one_is_not() -> None:
    found = np.array([squared_error(*drawn(200, seed), 10) for seed in range(500)])
    debiased, plain = found.mean(axis=0)
    assert abs(debiased) < 3 * found[:, 0].std() / np.sqrt(500)
    assert plain > 0.005


def test_its_interval_covers_the_error_of_a_population() -> None:
    """Wrong by construction: labels at twice the logit. 250 simulations; 95 % is seen from 92 to 97.5 %."""
    truth = float(np.sqrt(squared_error(*drawn(400_000, 77, 2.0), 10)[0]))
    estimates = [calibration_error(*drawn(500, seed, 2.0), resamples=200) for seed in range(250)]
    assert 0.92 <= np.mean([e.low <= truth <= e.high for e in estimates]) <= 0.98


def test_sample_sizes_are_those_of_riley_s_example() -> None:
    """Riley et al. 2021, and its program's worked example: prevalence 0.018, C 0.8, logit N(-5, 2.5), an
    interval of found / foretold 1 wide (standard error 0.245): 905 cases; C: 4252; slope: 4544."""
    x = np.random.default_rng(0).normal(-5, 2.5, 1_000_000)
    assert cases_for_ratio(0.018, 0.24552) == pytest.approx(905, abs=1)
    assert cases_for_auc(0.8, 0.018) == pytest.approx(4252, abs=1)
    assert cases_for_slope(expit(x)) == pytest.approx(4544, rel=0.02)
    assert auc_error(0.8, 0.018, 4252) == pytest.approx(0.0255, abs=0.0001)
