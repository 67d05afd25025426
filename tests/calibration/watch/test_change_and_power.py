"""Where a change lies, and whether the stated power is the power."""

import numpy as np
import pytest

from npc_edge.calibration.watch.change import change_point
from npc_edge.calibration.watch.power import cusum_shift, ks_shift, proportion_shift
from npc_edge.calibration.watch.ranks import sequential_scores
from npc_edge.calibration.watch.sequential import cusum
from npc_edge.calibration.watch.windows import ks


def test_a_clear_step_is_found_to_the_case() -> None:
    assert change_point(np.repeat([0.0, 1.0], [40, 60])) == 40
    assert change_point(np.repeat([0.0, -1.0], [40, 60]), settled=True) == 40
    assert change_point(np.zeros(15)) is None


def test_it_looks_only_where_it_is_told() -> None:
    scores = np.repeat([0.0, 1.0, 3.0], [30, 30, 40])
    assert change_point(scores, latest=40) == 40
    assert change_point(scores, latest=30) == 30


def test_the_median_error_of_a_shift_of_half_a_deviation_is_small() -> None:
    random = np.random.default_rng(0)
    errors = [
        abs((change_point(np.concatenate([random.normal(size=250), random.normal(0.5, 1, 250)])) or 0) - 250)
        for _ in range(200)
    ]
    assert np.median(errors) <= 12


def test_a_cusum_has_the_power_it_states() -> None:
    """Against a fixed reference, by now and not before: 90 % of the runs pass the limit."""
    limit, allowance, cases = 12.0, 0.1, 300
    shift = cusum_shift(limit, allowance, cases)
    scores = np.random.default_rng(1).normal(shift, 1, (cases, 2000))
    share = (cusum(scores, allowance)[0].max(axis=0) > limit).mean()
    assert 0.88 <= share <= 0.97


def test_ranks_among_a_growing_reference_lose_what_is_stated() -> None:
    limit, allowance, baseline, cases = 12.0, 0.1, 250, 400
    shift = cusum_shift(limit, allowance, cases, baseline)
    assert shift > cusum_shift(limit, allowance, cases)
    random = np.random.default_rng(2)
    hits = 0
    for _ in range(300):
        values = random.normal(size=baseline + cases)
        values[baseline:] += shift
        hits += cusum(sequential_scores(values)[baseline:], allowance)[0].max() > limit
    assert 0.85 <= hits / 300 <= 0.98


def test_more_cases_see_smaller_shifts() -> None:
    seen = [cusum_shift(20.0, 0.1, n, 250) for n in (1, 50, 200, 800)]
    assert seen == sorted(seen, reverse=True)
    long = [cusum_shift(20.0, 0.1, n, 250) for n in (1999, 2001, 50_000)]
    assert long[0] == pytest.approx(long[1], abs=1e-3)
    assert long[2] <= long[0]
    assert cusum_shift(20.0, 0.1, 0) == float("inf")


def test_a_window_of_ks_has_roughly_the_power_it_states() -> None:
    shift = ks_shift(0.01, 250, 100)
    random = np.random.default_rng(3)
    p = [ks(random.normal(size=250), random.normal(shift, 1, 100), 2000).p for _ in range(200)]
    assert 0.84 <= (np.array(p) <= 0.01).mean() <= 0.99


def test_a_share_rises_as_far_as_stated_with_90_percent_power() -> None:
    step = proportion_shift(0.1, 400, 100, 0.01)
    random = np.random.default_rng(4)
    before, after = random.binomial(400, 0.1, 4000) / 400, random.binomial(100, 0.1 + step, 4000) / 100
    pooled = (400 * before + 100 * after) / 500
    z = (after - before) / np.sqrt(pooled * (1 - pooled) * (1 / 400 + 1 / 100))
    assert (np.abs(z) > 2.5758).mean() == pytest.approx(0.9, abs=0.03)
