"""Resizing: the fast path against the reference, and both against skimage and scipy where they are there."""

import numpy as np
import pytest
from numpy.typing import NDArray

from npc_edge.kernels import reference, zoom
from npc_edge.kernels.sampling import Order, Shape

CASES: list[tuple[Shape, Shape]] = [
    ((5, 9, 11), (7, 13, 6)),
    ((1, 17, 8), (3, 9, 21)),  # one voxel along an axis
    ((10, 4, 3), (5, 8, 1)),  # halfway between two voxels; down to one
    ((6, 7, 8), (6, 7, 8)),
    ((33, 2, 15), (11, 5, 15)),
]
ORDERS: list[Order] = [0, 1, 3]
FLOAT32 = 3e-6  # of the range: a handful of float32 products a voxel


def voxels(shape: Shape, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(50, 20, shape).astype(np.float32)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "wanted"), CASES)
def test_the_fast_path_says_what_the_reference_says(shape: Shape, wanted: Shape, order: Order) -> None:
    image = voxels(shape)
    expected = reference.resize(image, wanted, order)
    made = zoom.resize(image, wanted, order)
    assert made.shape == wanted
    assert made.dtype == np.float32
    assert np.abs(made - expected).max() <= FLOAT32 * np.ptp(image)
    for axis in range(3):
        for along in ORDERS:
            expected = reference.resize_slices(image, wanted, axis, order, along)
            made = zoom.resize_slices(image, wanted, axis, order, along)
            assert np.abs(made - expected).max() <= 2 * FLOAT32 * np.ptp(image)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("shape", "wanted"), CASES)
def test_the_reference_is_what_skimage_does(shape: Shape, wanted: Shape, order: Order) -> None:
    resize = pytest.importorskip("skimage.transform").resize
    image = voxels(shape)
    expected = resize(image.astype(float), wanted, order, mode="edge", anti_aliasing=False)
    # Coefficients are taken from 12 repeated edge voxels, mirrored here and reflected there: 0.268^12.
    np.testing.assert_allclose(reference.resize(image, wanted, order), expected, atol=2e-5)


@pytest.mark.parametrize("along", ORDERS)
@pytest.mark.parametrize("count", [1, 4, 7, 14, 15])
def test_along_the_slices_the_reference_is_what_scipy_does(count: int, along: Order) -> None:
    image = voxels((7, 3, 4)).astype(np.float64)
    index = np.meshgrid(7 / count * (np.arange(count) + 0.5) - 0.5, np.arange(3), np.arange(4), indexing="ij")
    scipy = pytest.importorskip("scipy.ndimage")
    expected = scipy.map_coordinates(image, np.array(index), order=along, mode="nearest")
    made = reference.resize_slices(image, (count, 3, 4), 0, 3, along)
    np.testing.assert_allclose(made, expected, atol=2e-5)


def test_nothing_leaves_the_range_of_the_source_or_of_its_slice() -> None:
    image = np.zeros((3, 8, 8), dtype=np.float32)
    image[:, 4:, 4:] = 1
    image[1] *= 10
    made = zoom.resize(image, (3, 21, 19), 3)
    assert (made.min(), made.max()) == (0, 10)
    slices = zoom.resize_slices(image, (3, 21, 19), 0, 3, 0)
    assert slices.max(axis=(1, 2)).tolist() == [1, 10, 1]


def test_values_that_are_not_finite_are_refused() -> None:
    image = voxels((4, 4, 4))
    image[1, 2, 3] = np.nan
    for module in (reference, zoom):
        with pytest.raises(ValueError, match="finite"):
            module.resize(image, (5, 5, 5), 3)
        with pytest.raises(ValueError, match="finite"):
            module.resize_slices(image, (5, 5, 5), 0, 3, 0)
