"""Resampling: the reference against answers known beforehand, the CPU path against the reference."""

from collections.abc import Callable

import numpy as np
import pytest
import scipy.ndimage
from grids import CASES, affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npc_edge.kernels import cpu, reference

PATHS = pytest.mark.parametrize("resample", [reference.resample, cpu.resample], ids=["reference", "cpu"])

# float32 against float64: a voxel is a sum of at most some hundred products, each right to 6e-8 of the
# largest value; grids that drift by 1e-4 voxels count as aligned, which moves a value by 1e-4 of a step.
RELATIVE = 3e-6


@PATHS
def test_the_same_grid_gives_the_same_voxels(resample: Callable[..., NDArray[np.float32]]) -> None:
    voxels = np.random.default_rng(0).normal(size=(3, 5, 4)).astype(np.float32)
    there = affine((0.7, 0.8, 3.0), (4, 5, 6), (0.1, 0.2, 0.3))
    for interpolation in ("linear", "bspline"):
        again = resample(voxels, there, there, voxels.shape, interpolation=interpolation)
        np.testing.assert_allclose(again, voxels, atol=1e-5)


@PATHS
def test_a_ramp_stays_a_ramp_wherever_the_grid_lies(resample: Callable[..., NDArray[np.float32]]) -> None:
    source = affine((1.0, 1.2, 2.0), (-10, -12, -14), (0.1, 0.0, 0.2))
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (15, 20, 24)], indexing="ij")[::-1], axis=-1)
    world = index @ source[:3, :3].T + source[:3, 3]
    voxels = (world @ np.array([2.0, -1.0, 0.5]) + 3).astype(np.float32)
    target = affine((0.9, 0.8, 1.1), (-2, 1, -1), (-0.2, 0.3, 0.0))
    result = resample(voxels, source, target, (4, 5, 6), anti_alias=False)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in (4, 5, 6)], indexing="ij")[::-1], axis=-1)
    expected = (index @ target[:3, :3].T + target[:3, 3]) @ np.array([2.0, -1.0, 0.5]) + 3
    np.testing.assert_allclose(result, expected, atol=2e-5)


@PATHS
def test_left_stays_left_when_a_grid_is_turned_round(resample: Callable[..., NDArray[np.float32]]) -> None:
    voxels = np.zeros((2, 3, 4), dtype=np.float32)
    voxels[1, 0, 3] = 7  # LPS (3, 0, 1)
    flipped = affine(origin=(3.0, 2.0, 0.0), flips=(-1, -1, 1))
    result = resample(voxels, affine(), flipped, (2, 3, 4))
    assert np.argwhere(result == 7).tolist() == [[1, 2, 0]]
    sagittal = affine(axes=(1, 2, 0))  # x along y, y along z, z along x
    result = resample(voxels, affine(), sagittal, (4, 2, 3))
    assert np.argwhere(result == 7).tolist() == [[3, 1, 0]]


@PATHS
def test_fill_lies_outside_and_the_outer_half_voxel_is_clamped(
    resample: Callable[..., NDArray[np.float32]],
) -> None:
    voxels = np.array([[[1.0, 5.0]]], dtype=np.float32)
    target = affine((0.25, 1, 1), (-0.75, 0, 0))
    result = resample(voxels, affine(), target, (1, 1, 10), anti_alias=False, fill=-9)
    assert result[0, 0].tolist() == [-9, 1, 1, 1, 2, 3, 4, 5, 5, 5]


@PATHS
def test_shrinking_averages_instead_of_picking(resample: Callable[..., NDArray[np.float32]]) -> None:
    stripes = np.tile(np.array([0.0, 10.0], dtype=np.float32), (4, 12, 12))
    target = affine((4, 4, 1), (1.5, 1.5, 0))
    smooth = resample(stripes, affine(), target, (4, 3, 6))
    assert np.abs(smooth[:, :, 1:-1] - 5).max() < 0.1
    picked = resample(stripes, affine(), affine((4, 4, 1)), (4, 3, 6), anti_alias=False)
    assert np.abs(picked).max() == 0


def test_the_reference_smooths_as_scipy_does() -> None:
    voxels = np.random.default_rng(1).normal(size=(3, 40, 40))
    result = reference.resample(voxels, affine(), affine((1, 1, 5)), (1, 40, 40))
    sigma = np.sqrt(24) / 2.354820045
    expected = scipy.ndimage.gaussian_filter1d(voxels, sigma, axis=0, mode="nearest", radius=9)
    np.testing.assert_allclose(result[0], expected[0], atol=1e-6)


def test_the_reference_spline_is_scipys() -> None:
    voxels = np.random.default_rng(2).normal(size=(6, 7, 8))
    target = affine((0.7, 0.6, 0.9), (0.4, 0.3, 0.2))
    result = reference.resample(voxels, affine(), target, (5, 6, 7), interpolation="bspline")
    index = np.meshgrid(*[np.arange(n) for n in (5, 6, 7)], indexing="ij")
    points = [index[0] * 0.9 + 0.2, index[1] * 0.6 + 0.3, index[2] * 0.7 + 0.4]
    expected = scipy.ndimage.map_coordinates(voxels, points, order=3, mode="nearest")
    np.testing.assert_allclose(result, np.clip(expected, voxels.min(), voxels.max()), atol=1e-6)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize("anti_alias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_the_cpu_path_agrees_with_the_reference(name: str, anti_alias: bool, interpolation: str) -> None:
    source, shape = CASES[name]
    voxels = np.random.default_rng(3).normal(size=shape).astype(np.float32) * 100 + 50
    target, target_shape = affine((1.1, 1.2, 3.0), (-4, 0.5, -3)), (9, 17, 15)
    options = {"anti_alias": anti_alias, "interpolation": interpolation, "fill": -7.0}
    before = voxels.copy()
    fast = cpu.resample(voxels, source, target, target_shape, **options)
    slow = reference.resample(voxels, source, target, target_shape, **options)
    assert fast.dtype == np.float32
    assert fast.shape == target_shape
    np.testing.assert_array_equal(voxels, before)
    np.testing.assert_array_equal(fast == -7, slow == -7)
    # A B-spline's coefficients are up to 3 times larger than the voxels in each direction they ring in.
    allowed = RELATIVE * np.abs(voxels).max() * (1 if interpolation == "linear" else 10)
    np.testing.assert_allclose(fast, slow, atol=allowed, rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    turn=st.tuples(*[st.sampled_from([0.0, 0.3, np.pi / 2, -np.pi / 2, np.pi])] * 3),
    anti_alias=st.booleans(),
)
def test_the_two_agree_on_any_grid(
    seed: int,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    turn: tuple[float, float, float],
    anti_alias: bool,
) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=shape).astype(np.float32)
    source = affine(spacing, tuple(rng.uniform(-8, 8, 3)), turn)
    target = affine(tuple(rng.uniform(0.4, 4, 3)), tuple(rng.uniform(-8, 0, 3)))
    target_shape = tuple(int(n) for n in rng.integers(1, 9, 3))
    fast = cpu.resample(voxels, source, target, target_shape, anti_alias=anti_alias, fill=-50)
    slow = reference.resample(voxels, source, target, target_shape, anti_alias=anti_alias, fill=-50)
    np.testing.assert_allclose(fast, slow, atol=RELATIVE * 10 * np.abs(voxels).max() + 1e-7, rtol=0)


@PATHS
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused(
    resample: Callable[..., NDArray[np.float32]], value: float
) -> None:
    voxels = np.ones((2, 3, 4), dtype=np.float32)
    voxels[1, 2, 3] = value
    with pytest.raises(ValueError, match="not finite"):
        resample(voxels, affine(), affine(origin=(100, 0, 0)), (2, 2, 2))


@PATHS
def test_an_empty_volume_is_refused(resample: Callable[..., NDArray[np.float32]]) -> None:
    with pytest.raises(ValueError, match="axes"):
        resample(np.ones((0, 3, 4)), affine(), affine(), (2, 2, 2))
