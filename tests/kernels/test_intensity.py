"""Percentiles and normalisation against NumPy's own and values worked out by hand."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.kernels import cpu, reference
from npc_edge.kernels.intensity import normalise

PATHS = pytest.mark.parametrize("percentiles", [reference.percentiles, cpu.percentiles], ids=["ref", "cpu"])


@PATHS
def test_percentiles_are_those_of_the_foreground(percentiles) -> None:
    rng = np.random.default_rng(0)
    head = rng.uniform(100, 200, size=(4, 9, 7)).astype(np.float32)
    air = rng.uniform(0, 5, size=(4, 9, 70)).astype(np.float32)
    both = np.concatenate([head, air], axis=2)
    mean = both[both > 0].mean(dtype=np.float64)
    assert 5 < 0.5 * mean < 100  # the foreground is the head alone
    expected = np.percentile(head.astype(np.float64), [2, 97])
    assert percentiles(both, 2, 97, 0.5) == pytest.approx(expected, rel=1e-6)


@PATHS
@pytest.mark.parametrize("voxels", [np.zeros((2, 2, 2)), np.full((2, 2, 2), -3.0), np.zeros((0,))])
def test_without_anything_positive_there_is_no_foreground(percentiles, voxels) -> None:
    assert percentiles(voxels, 1, 99, 0.1) == (0.0, 0.0)


@PATHS
def test_values_that_are_not_finite_are_refused(percentiles) -> None:
    with pytest.raises(ValueError, match="not finite"):
        percentiles(np.array([1.0, np.inf]), 1, 99, 0.1)


@settings(max_examples=80, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 60), lower=st.floats(0, 50), upper=st.floats(50, 100))
def test_the_two_agree(seed: int, size: int, lower: float, upper: float) -> None:
    values = np.random.default_rng(seed).normal(3, 5, size=size).astype(np.float32)
    fast = cpu.percentiles(values, lower, upper, 0.1)
    # Sums in float64 on both sides: only the order of summing differs.
    assert fast == pytest.approx(reference.percentiles(values, lower, upper, 0.1), rel=1e-6, abs=1e-9)


def test_percentile_normalisation_maps_the_percentiles_to_zero_and_one() -> None:
    values = np.linspace(10, 110, 101, dtype=np.float32).reshape(1, 1, 101)
    before = values.copy()
    result = normalise(values, "percentile", 10, 90)
    np.testing.assert_array_equal(values, before)
    assert result[0, 0, 10] == pytest.approx(0)
    assert result[0, 0, 50] == pytest.approx(0.5)
    assert result[0, 0, 90] == pytest.approx(1)
    assert (result.min(), result.max()) == (0, 1)


def test_only_voxels_inside_count_and_the_rest_is_zero() -> None:
    values = np.linspace(10, 110, 101, dtype=np.float32).reshape(1, 1, 101)
    inside = np.ones(values.shape, dtype=bool)
    inside[..., 60:] = False
    result = normalise(values, "percentile", 0, 100, 0.1, inside)
    assert result[0, 0, 59] == pytest.approx(1)
    assert np.abs(result[..., 60:]).max() == 0
    scores = normalise(values, "zscore", inside=inside)
    assert scores[inside].mean() == pytest.approx(0, abs=1e-6)
    assert scores[inside].std() == pytest.approx(1, rel=1e-6)
    assert np.abs(scores[..., 60:]).max() == 0


def test_zeros_may_be_left_out_and_stay_zero() -> None:
    values = np.random.default_rng(4).uniform(50, 200, size=(4, 8, 8)).astype(np.float32)
    values[:, :, :3] = 0
    inside = np.ones(values.shape, dtype=bool)
    inside[0] = False
    scores = normalise(values, "zscore-nonzero", inside=inside)
    seen = inside & (values != 0)
    kept = values[seen]
    np.testing.assert_allclose(scores[seen], (kept - kept.mean()) / kept.std(), atol=1e-5)
    assert np.abs(scores[~seen]).max() == 0


@pytest.mark.parametrize("method", ["percentile", "zscore", "zscore-nonzero"])
def test_no_contrast_and_no_data_become_zero(method) -> None:
    assert np.abs(normalise(np.full((2, 3, 4), 7.0, dtype=np.float32), method)).max() == 0
    nothing = np.zeros((2, 3, 4), dtype=bool)
    values = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    assert np.abs(normalise(values, method, inside=nothing)).max() == 0


@pytest.mark.parametrize("method", ["percentile", "zscore"])
def test_scale_and_offset_of_the_scanner_do_not_matter(method) -> None:
    values = np.random.default_rng(1).uniform(50, 200, size=(3, 8, 8)).astype(np.float32)
    np.testing.assert_allclose(normalise(values * 7.5, method), normalise(values, method), atol=2e-5)
