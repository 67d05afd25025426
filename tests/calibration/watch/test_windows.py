"""KS, MMD, Benjamini-Hochberg and PSI against scipy, brute force and hand-made examples."""

import numpy as np
import pytest
from scipy import stats

from npc_edge.calibration.watch.windows import benjamini_hochberg, ks, ks_statistic, mmd, psi, psi_by_chance


@pytest.mark.parametrize("decimals", [10, 1, 0])
def test_the_ks_statistic_is_scipy_s(decimals: int) -> None:
    random = np.random.default_rng(0)
    one, other = (np.round(random.normal(0, 1.5, n), decimals) for n in (80, 33))
    assert ks_statistic(one, other) == pytest.approx(stats.ks_2samp(one, other).statistic, abs=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.45])
def test_its_p_value_is_the_exact_one_without_ties(shift: float) -> None:
    random = np.random.default_rng(4)
    one, other = random.normal(size=90), random.normal(shift, 1, size=60)
    exact = stats.ks_2samp(one, other, method="exact").pvalue
    assert ks(one, other, 5000).p == pytest.approx(exact, rel=0.15, abs=0.01)


def test_with_ties_the_p_value_is_still_uniform_or_larger() -> None:
    random = np.random.default_rng(1)
    p = np.array(
        [ks(*np.split(np.maximum(random.normal(size=90), 0), [50]), 400, seed=s).p for s in range(80)]
    )
    for level in (0.05, 0.1, 0.3):
        assert (p <= level).mean() <= level + 0.08


def test_the_mmd_is_its_definition() -> None:
    random = np.random.default_rng(2)
    one, other = random.normal(size=(12, 3)), random.normal(0.5, 1, size=(9, 3))
    pooled = np.concatenate([one, other])
    distances = ((pooled[:, None] - pooled[None]) ** 2).sum(-1)
    width = np.median(distances[np.triu_indices(21, 1)])

    def kernel(a, b):
        return np.exp(-((a - b) ** 2).sum() / width)

    xx = sum(kernel(a, b) for i, a in enumerate(one) for j, b in enumerate(one) if i != j) / (12 * 11)
    yy = sum(kernel(a, b) for i, a in enumerate(other) for j, b in enumerate(other) if i != j) / (9 * 8)
    xy = sum(kernel(a, b) for a in one for b in other) / (12 * 9)
    assert mmd(one, other, 50).statistic == pytest.approx(xx + yy - 2 * xy, abs=1e-10)


def test_the_mmd_sees_what_no_single_column_shows() -> None:
    random = np.random.default_rng(3)
    one = random.normal(size=(150, 2))
    first = random.normal(size=150)
    together = np.stack([first, 0.9 * first + 0.44 * random.normal(size=150)], axis=1)
    assert mmd(one, together, 2000).p < 0.01
    assert mmd(one, random.normal(size=(150, 2)), 2000).p > 0.02


def test_benjamini_hochberg_is_scipy_s() -> None:
    p = np.array([0.01, 0.02, 0.03, 0.04, 0.05, 0.9, 0.0001, 0.5])
    np.testing.assert_allclose(benjamini_hochberg(p), stats.false_discovery_control(p), atol=1e-12)


def test_psi_of_a_hand_made_example() -> None:
    """Baseline 100 in each of ten bins, window 200, 0, 100 x 8 over ten bins; half a case added to each."""
    baseline = np.repeat(np.arange(10.0), 100) + np.tile(np.linspace(0, 0.99, 100), 10)
    window = np.concatenate([baseline[:100], baseline[:100], baseline[200:]])
    before = np.full(10, 100.5) / 1005
    after = np.array([200.5, 0.5, *[100.5] * 8]) / 1005
    expected = ((after - before) * np.log(after / before)).sum()
    assert psi(baseline, window) == pytest.approx(expected, abs=1e-9)
    assert psi(baseline, baseline) == 0


def test_psi_by_chance_is_what_simulation_gives() -> None:
    random = np.random.default_rng(5)
    drawn = [psi(random.normal(size=250), random.normal(size=100)) for _ in range(600)]
    mean, rare = psi_by_chance(250, 100)
    assert np.mean(drawn) == pytest.approx(mean, rel=0.1)
    assert (np.array(drawn) > rare).mean() <= 0.01
    assert rare == pytest.approx(stats.chi2.ppf(0.999, 9) * (1 / 250 + 1 / 100), rel=0.01)
