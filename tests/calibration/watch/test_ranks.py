"""Sequential ranks: as defined, whatever the distribution, and cheap for many cases."""

import numpy as np
import pytest
from scipy.stats import kstest, norm, rankdata

from npc_edge.calibration.watch.ranks import full_scores, sequential_scores


@pytest.mark.parametrize("decimals", [12, 0])
def test_each_case_is_ranked_among_those_so_far(decimals: int) -> None:
    values = np.round(np.random.default_rng(0).gamma(2, 2, 700), decimals)
    by_hand = [(rankdata(values[: n + 1])[-1] - 0.5) / (n + 1) for n in range(len(values))]
    np.testing.assert_allclose(sequential_scores(values), norm.ppf(by_hand), atol=1e-9)
    np.testing.assert_allclose(
        sequential_scores(values, "upper"), -np.log1p(-np.array(by_hand)) - 1, atol=1e-9
    )


@pytest.mark.parametrize("count", [1, 31, 32, 33, 64, 65, 1000])
def test_ranks_are_right_whatever_the_number_of_cases(count: int) -> None:
    values = np.random.default_rng(count).integers(0, 50, count).astype(np.float64)
    by_hand = [(rankdata(values[: n + 1])[-1] - 0.5) / (n + 1) for n in range(count)]
    np.testing.assert_allclose(sequential_scores(values), norm.ppf(by_hand), atol=1e-9)


def test_the_reference_is_never_closed() -> None:
    """Ranks among a fixed reference are off by its own sampling error, always in one direction; a CUSUM adds
    that up. Among all earlier cases they stay standard however long the series."""
    means = []
    for seed in range(20):
        scores = sequential_scores(np.random.default_rng(seed).gamma(2, 2, 20_000))
        means.append(scores[10_000:].mean())
    assert np.std(means) == pytest.approx(0.01, rel=0.5)  # 1 / sqrt(10,000)
    assert abs(np.mean(means)) < 0.007


@pytest.mark.parametrize("skewed", [np.exp, lambda x: x**3, lambda x: x])
def test_scores_are_independent_and_standard_whatever_is_measured(skewed) -> None:
    scores = sequential_scores(skewed(np.random.default_rng(2).normal(size=2000)))[300:]
    assert kstest(scores, "norm").pvalue > 0.01
    assert abs(np.corrcoef(scores[1:], scores[:-1])[0, 1]) < 0.06


def test_what_is_missing_says_nothing_and_takes_no_rank() -> None:
    values = np.random.default_rng(3).normal(size=50)
    with_holes = np.insert(values, [10, 20, 20], np.nan)
    scores = sequential_scores(with_holes)
    assert (scores[np.isnan(with_holes)] == 0).all()
    np.testing.assert_array_equal(scores[np.isfinite(with_holes)], sequential_scores(values))
    assert (sequential_scores(np.full(5, np.nan)) == 0).all()


def test_full_scores_rank_among_all() -> None:
    values = np.array([3.0, 1.0, np.nan, 2.0, 2.0])
    np.testing.assert_allclose(full_scores(values), [norm.ppf(7 / 8), norm.ppf(1 / 8), 0, 0, 0], atol=1e-12)
