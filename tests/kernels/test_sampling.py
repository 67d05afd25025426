"""The definitions both resampling paths share, against values worked out by hand."""

import math

import numpy as np
import pytest

from npc_edge.kernels import sampling


def grid(spacing: tuple[float, float, float]) -> np.ndarray:
    return np.diag([*spacing, 1.0])


def test_smoothing_makes_up_the_difference_in_width() -> None:
    sigmas = sampling.smoothing_sigmas(grid((0.5, 1.0, 4.0)), grid((1.0, 1.0, 3.0)))
    # 1 mm from 0.5 mm: twice the voxel, sqrt(2² - 1) of it at half maximum.
    assert sigmas == pytest.approx((math.sqrt(3) / 2.354820045, 0.0, 0.0))


def test_smoothing_follows_the_source_axes() -> None:
    source = np.eye(4)
    source[:3, :3] = np.array([[0, 0, 1], [1, 0, 0], [0, 1, 0]]) * np.array([0.5, 2.0, 1.0])
    x, y, z = sampling.smoothing_sigmas(source, grid((1.0, 1.0, 4.0)))
    # Source x runs along target y (1 mm), y along z (4 mm), z along x (1 mm).
    assert x == pytest.approx(math.sqrt(3) / 2.354820045)
    assert y == pytest.approx(math.sqrt(3) / 2.354820045)
    assert z == 0.0


def test_a_gaussian_sums_to_one_and_reaches_four_sigma() -> None:
    weights = sampling.gaussian(1.3)
    assert len(weights) == 2 * 6 + 1
    assert weights.sum() == pytest.approx(1.0, abs=1e-15)
    assert sampling.gaussian(0.0).tolist() == [1.0]


def test_inside_ends_half_a_voxel_beyond_the_last_centre() -> None:
    mapping = np.eye(4)
    mapping[0, :] = [0.5, 0, 0, -1.0]  # x from -1 in steps of half a voxel
    covered = sampling.inside(mapping, (1, 1, 2), (1, 1, 8))
    # x: -1 -0.5 0 0.5 1 1.5 2 2.5 in a source of centres 0 and 1
    assert covered[0, 0].tolist() == [False, True, True, True, True, True, False, False]


@pytest.mark.parametrize("seed", range(40))
def test_inside_is_decided_voxel_by_voxel(seed: int) -> None:
    """Its shortcuts, grids that lie inside as a whole and axes that do not matter, change no voxel."""
    rng = np.random.default_rng(seed)
    mapping = np.eye(4)
    mapping[:3, :3] = (
        rng.normal(size=(3, 3)) * (rng.random((3, 3)) < (0.4, 1.0)[seed % 2]) * rng.choice([0.1, 1])
    )
    mapping[:3, 3] = rng.uniform(-1, 6, size=3)
    if seed % 3 == 0:
        mapping = np.round(mapping * 2) / 2  # centres on the border
    shape, source = (5, 6, 7), (4, 9, 5)
    wanted = np.ones(shape, dtype=bool)
    for row, length in zip(mapping[:3], source[::-1], strict=True):
        index = sampling.axis_index(row, shape)
        wanted &= (index >= -0.5 - sampling.EDGE) & (index <= length - 0.5 + sampling.EDGE)
    np.testing.assert_array_equal(sampling.inside(mapping, source, shape), wanted)


def test_reached_is_the_smallest_box_around_what_is_inside() -> None:
    rng = np.random.default_rng(5)
    for _ in range(50):
        mapping = np.eye(4)
        mapping[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 2, 3)
        mapping[:3, 3] = rng.uniform(-6, 6, 3)
        covered = sampling.inside(mapping, (5, 6, 7), (9, 8, 10))
        box = sampling.reached(mapping, (5, 6, 7), (9, 8, 10))
        if box is None:
            assert not covered.any()
        else:
            assert covered.sum() == covered[box].sum()


@pytest.mark.parametrize("bad", [np.zeros((4, 4)), np.full((4, 4), np.nan), np.eye(3)])
def test_an_impossible_affine_is_refused(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="affine"):
        sampling.index_map(bad, np.eye(4))


@pytest.mark.parametrize(
    "row", [(0.7, 0, 0, -3.2), (0, 0.4, 1e-17, 2.0), (0, 0, 0, 5.5), (0.3, -0.2, 0.9, 0.1)]
)
def test_the_thin_index_is_the_same_to_the_bit(row: tuple[float, ...]) -> None:
    shape = (3, 5, 7)
    full = sampling.axis_index(np.array(row, dtype=np.float64), shape)
    thin = sampling.thin_index(np.array(row, dtype=np.float64), shape)
    assert np.array_equal(np.broadcast_to(thin, shape), full)
    wanted = tuple(n if coefficient else 1 for n, coefficient in zip(shape, row[2::-1], strict=True))
    assert thin.shape == wanted
