"""Percentiles, and ratios of runs taken in turns."""

import pytest

from npc_edge.bench.timing import stats


def test_percentiles_are_of_the_runs() -> None:
    found = stats.percentiles([3.0, 1.0, 2.0])
    assert (found["runs"], found["min"], found["p50"], found["max"], found["mean"]) == (3, 1.0, 2.0, 3.0, 2.0)
    assert found["p90"] == pytest.approx(2.8)


def test_nothing_measured_has_no_percentiles() -> None:
    with pytest.raises(ValueError, match="nothing was measured"):
        stats.percentiles([])


def test_stages_keep_their_names() -> None:
    rows = [{"read": 10.0, "infer": 5.0}, {"read": 30.0, "infer": 5.0}]
    assert stats.by_stage(rows)["read"]["p50"] == 20.0
    assert stats.by_stage(rows)["infer"] == {"p50": 5.0, "p90": 5.0, "p99": 5.0}


def test_a_ratio_is_of_pairs_so_a_slow_machine_cancels() -> None:
    """Every turn is twice as slow as the one before; three times as long stays three times as long."""
    ours = [2.0**n for n in range(12)]
    found = stats.ratio([3 * value for value in ours], ours)
    assert (found["median"], found["low"], found["high"], found["pairs"]) == (3.0, 3.0, 3.0, 12)


def test_the_interval_is_wider_for_wilder_pairs_and_holds_the_median() -> None:
    ours = [1.0] * 20
    calm = stats.ratio([4 + 0.01 * (n % 5) for n in range(20)], ours)
    wild = stats.ratio([4 + 1.00 * (n % 5) for n in range(20)], ours)
    assert calm["low"] <= calm["median"] <= calm["high"]
    assert wild["high"] - wild["low"] > 10 * (calm["high"] - calm["low"])


def test_few_pairs_give_their_range() -> None:
    found = stats.ratio([2.0, 3.0, 7.0], [1.0, 1.0, 1.0])
    assert (found["low"], found["median"], found["high"]) == (2.0, 3.0, 7.0)


def test_sides_of_different_length_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="argument"):
        stats.ratio([1.0, 2.0], [1.0])


def test_noise_is_the_spread_over_the_median() -> None:
    assert stats.noise([1.0] * 9) == 0
    assert stats.noise([0.9, 1.0, 1.1]) == pytest.approx(0.16)
