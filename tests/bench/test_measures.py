"""The statistics against published or closed-form values."""

from math import isnan

import numpy as np
import pytest
from scipy import stats

from npc_edge.bench.measures import auc, brier, dice, mean, wilson


def test_wilson_matches_the_textbook() -> None:
    # 81 of 263: Newcombe, Stat Med 1998;17:857, table I, method 3
    found = wilson(81, 263)
    assert (round(found.low, 4), round(found.high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(("hits", "n"), [(0, 10), (10, 10), (1, 250), (249, 250)])
def test_wilson_stays_within_0_and_1_and_around_the_share(hits: int, n: int) -> None:
    found = wilson(hits, n)
    assert 0 <= found.low <= hits / n <= found.high <= 1
    reference = stats.binomtest(hits, n).proportion_ci(0.95, "wilson")
    assert (found.low, found.high) == pytest.approx((reference.low, reference.high), abs=1e-6)


def test_no_cases_is_not_a_number_and_says_so() -> None:
    assert isnan(wilson(0, 0).value)
    assert wilson(0, 0).text() == auc([], [0.1]).text() == mean([]).text() == "not measured"


def test_auc_counts_ties_half() -> None:
    assert auc([0.5, 0.9], [0.5, 0.1]).value == pytest.approx(0.875)
    assert auc([0.2], [0.8]).value == 0.0


def test_delong_interval_covers_the_true_area_about_95_times_in_100() -> None:
    random = np.random.default_rng(4)
    true_area = float(stats.norm.cdf(1.0 / np.sqrt(2)))
    found = [auc(random.normal(1, 1, 60), random.normal(0, 1, 60)) for _ in range(400)]
    covered = np.mean([interval.low <= true_area <= interval.high for interval in found])
    assert 0.91 <= covered <= 0.985


def test_bootstrap_of_a_mean_agrees_with_the_normal_interval_and_with_itself() -> None:
    values = np.random.default_rng(1).uniform(0.6, 1.0, 200).tolist()
    found = mean(values)
    half = 1.96 * float(np.std(values, ddof=1)) / np.sqrt(200)
    assert found.high - found.low == pytest.approx(2 * half, rel=0.1)
    assert found == mean(values)


def test_brier_of_certainty_and_of_a_shrug() -> None:
    assert brier([1.0, 0.0], [1, 0]) == 0.0
    assert brier([0.5, 0.5], [1, 0]) == 0.25


def test_dice_of_halves_and_of_nothing() -> None:
    one, other = np.zeros((2, 3, 4), np.uint8), np.zeros((2, 3, 4), np.uint8)
    assert dice(one, other) == 1.0
    one[0], other[:, :2] = 1, 1
    assert dice(one, other) == pytest.approx(2 * 8 / (12 + 16))
    assert dice(one, 0 * other) == 0.0
