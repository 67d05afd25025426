"""Measures with labels against scikit-learn, scipy and published examples; their intervals in simulation."""

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit
from scipy.stats import beta
from sklearn import metrics
from sklearn.linear_model import LogisticRegression

from npc_edge.calibration.watch import measures
from npc_edge.calibration.watch.agreement import confusion, kappa
from npc_edge.calibration.watch.estimate import bootstrap_mean, clopper_pearson, wilson
from npc_edge.calibration.watch.label_charts import logit

Floats = NDArray[np.float64]


def drawn(count: int, seed: int, slope: float = 1.0, level: float = 0.0) -> tuple[Floats, Floats]:
    """Probabilities, and labels drawn at slope x logit + level."""
    random = np.random.default_rng(seed)
    x = random.normal(-1, 1.6, count)
    return expit(x), (random.random(count) < expit(slope * x + level)).astype(np.float64)


@pytest.mark.parametrize("seed", [0, 1])
def test_brier_log_loss_and_auc_are_scikit_learn_s(seed: int) -> None:
    p, y = drawn(300, seed)
    p = np.round(p, 2).clip(0.01, 0.99)  # ties
    assert measures.brier(p, y).score.value == pytest.approx(metrics.brier_score_loss(y, p), abs=1e-12)
    assert measures.log_loss(p, y).value == pytest.approx(metrics.log_loss(y, p), abs=1e-12)
    assert measures.auc(p, y).value == pytest.approx(metrics.roc_auc_score(y, p), abs=1e-12)


@pytest.mark.parametrize("decimals", [1, 8])
def test_murphy_s_parts_add_up_and_are_his_for_few_probabilities(decimals: int) -> None:
    p, y = drawn(400, 3)
    p = np.round(p, decimals)
    found = measures.brier(p, y, bins=11)
    assert found.score.value == pytest.approx(
        found.reliability - found.resolution + found.uncertainty, abs=1e-12
    )
    if decimals == 1:
        parts = [(v, (p == v).mean(), y[p == v].mean()) for v in np.unique(p)]
        assert found.reliability == pytest.approx(sum(w * (v - m) ** 2 for v, w, m in parts), abs=1e-12)
        assert found.resolution == pytest.approx(sum(w * (m - y.mean()) ** 2 for _, w, m in parts), abs=1e-12)


def test_slope_and_intercept_are_scikit_learn_s_regression() -> None:
    p, y = drawn(500, 4, 0.7, 0.4)
    slope, intercept = measures.calibration_slope(p, y)
    peer = LogisticRegression(C=np.inf, tol=1e-12, max_iter=1000).fit(logit(p)[:, None], y)
    assert slope.value == pytest.approx(float(peer.coef_[0, 0]), abs=1e-6)
    assert intercept.value == pytest.approx(float(peer.intercept_[0]), abs=1e-6)
    x = np.stack([logit(p), np.ones_like(p)], axis=1)
    fitted = expit(x @ [slope.value, intercept.value])
    error = np.sqrt(np.linalg.inv((x * (fitted * (1 - fitted))[:, None]).T @ x)[0, 0])
    assert slope.high - slope.low == pytest.approx(2 * 1.959964 * error, rel=1e-5)


def test_calibration_in_the_large_is_the_offset_scipy_finds() -> None:
    p, y = drawn(400, 5, 1.0, -0.5)
    found = measures.calibration_in_the_large(p, y)
    best = minimize(
        lambda a: np.logaddexp(0, logit(p) + a[0]).sum() - (y * (logit(p) + a[0])).sum(), [0.0], tol=1e-12
    )
    assert found.value == pytest.approx(float(best.x[0]), abs=1e-5)
    assert expit(logit(p) + found.value).mean() == pytest.approx(y.mean(), abs=1e-9)


def test_spiegelhalter_s_z_is_standard_normal_for_true_probabilities() -> None:
    z = np.array([measures.spiegelhalter_z(*drawn(200, seed)) for seed in range(600)])
    assert abs(z.mean()) < 0.13
    assert z.std() == pytest.approx(1.0, abs=0.08)
    assert measures.spiegelhalter_z(*drawn(800, 1, slope=0.4)) > 3


def test_delong_s_error_is_that_of_his_structural_components() -> None:
    """By definition: the variances of each case's share of wins, over both kinds."""
    p, y = drawn(120, 6)
    p = np.round(p, 2)
    wins = (p[y == 1][:, None] > p[y == 0]) + 0.5 * (p[y == 1][:, None] == p[y == 0])
    variance = wins.mean(axis=1).var(ddof=1) / wins.shape[0] + wins.mean(axis=0).var(ddof=1) / wins.shape[1]
    found = measures.auc(p, y)
    width = np.log(found.high / (1 - found.high)) - np.log(found.low / (1 - found.low))
    area = found.value
    assert width == pytest.approx(2 * 1.959964 * np.sqrt(variance) / (area * (1 - area)), rel=1e-6)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (1, 10), (7, 29), (29, 29), (480, 1000)])
def test_exact_intervals_are_scipy_s_beta_quantiles(hits: int, n: int) -> None:
    found = clopper_pearson(hits, n)
    low = 0.0 if hits == 0 else beta.ppf(0.025, hits, n - hits + 1)
    high = 1.0 if hits == n else beta.ppf(0.975, hits + 1, n - hits)
    assert (found.low, found.high) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_s_intervals_are_newcombe_s_examples(hits: int, n: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 1998;17:857, table I, method 3."""
    found = wilson(hits, n)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


def test_kappa_is_scikit_learn_s_and_its_error_that_of_a_published_table() -> None:
    random = np.random.default_rng(7)
    truth = random.choice(["T1", "T2", "T3", "T4"], 150)
    said = np.where(random.random(150) < 0.7, truth, random.choice(["T1", "T2", "T3", "T4"], 150))
    table = confusion(said.tolist(), truth.tolist())
    assert table[:4, :4].tolist() == metrics.confusion_matrix(truth, said).tolist()
    assert kappa(table).value == pytest.approx(metrics.cohen_kappa_score(truth, said), abs=1e-12)
    # Fleiss, Statistical Methods for Rates and Proportions, table 13.1: kappa 0.676, standard error 0.088
    fleiss = kappa(np.array([[75, 1, 4], [5, 4, 1], [0, 0, 10]]))
    assert fleiss.value == pytest.approx(0.676, abs=0.0005)
    assert (fleiss.high - fleiss.low) / (2 * 1.959964) == pytest.approx(0.088, abs=0.0005)


def test_a_category_that_was_not_given_counts_as_anything_else() -> None:
    table = confusion([None, "T2", "T3"], ["T1", "T2", "Tx"])
    assert table[0, 4] == table[1, 1] == table[4, 2] == 1


def test_what_cannot_be_measured_says_why() -> None:
    p, y = np.array([0.1, 0.2, 0.8]), np.array([0.0, 0.0, 1.0])
    assert "without error" in measures.calibration_slope(p, y)[0].warning
    assert "one kind" in measures.calibration_in_the_large(p, np.zeros(3)).warning
    assert measures.auc(p, y).text() == "not measured"
    assert np.isnan(measures.brier([], []).score.value)
    with pytest.raises(ValueError, match="labels of 0 or 1"):
        measures.brier([0.2], [2])


TRUE_SLOPE, TRUE_LEVEL = 0.8, 0.3


@pytest.mark.parametrize(
    "name", ["slope", "level", "auc", "brier", "log_loss", "sensitivity", "specificity", "kappa", "dice"]
)
def test_intervals_cover_at_93_to_97_percent(name: str) -> None:
    """800 simulations: a coverage of 95 % is seen between 93.4 and 96.6 % in 19 of 20; seeds are fixed."""
    estimates = [_estimates(seed, name) for seed in range(800)]
    truth = _estimates(10_000, name, count=400_000).value
    share = np.mean([e.low <= truth <= e.high for e in estimates])
    assert 0.93 <= share <= 0.97


def _estimates(seed: int, name: str, count: int = 300):
    p, y = drawn(count, seed, TRUE_SLOPE, TRUE_LEVEL)
    if name == "dice":
        return bootstrap_mean(np.random.default_rng(seed).beta(8, 2, min(count, 20_000)), resamples=300)
    if name == "kappa":
        said, truth = (p > 0.3).astype(np.int64), y.astype(np.int64)
        return kappa(np.bincount(2 * truth + said, minlength=4).reshape(2, 2))
    return {
        "slope": lambda: measures.calibration_slope(p, y)[0],
        "level": lambda: measures.calibration_in_the_large(p, y),
        "auc": lambda: measures.auc(p, y),
        "brier": lambda: measures.brier(p, y).score,
        "log_loss": lambda: measures.log_loss(p, y),
        "sensitivity": lambda: measures.sensitivity(p, y, 0.3),
        "specificity": lambda: measures.specificity(p, y, 0.3),
    }[name]()
