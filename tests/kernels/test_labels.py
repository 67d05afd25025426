"""Labels on another grid: the fast path's shortcut must never change a label."""

import numpy as np
import pytest
from grids import CASES, affine
from numpy.typing import NDArray

from npc_edge.kernels import cpu, reference

PATHS = pytest.mark.parametrize("labels", [reference.labels_on_grid, cpu.labels_on_grid], ids=["ref", "cpu"])


def smooth_logits(shape: tuple[int, int, int], classes: int, seed: int) -> NDArray[np.float32]:
    """Blobs, so that most cells are decided by their corners and some are not."""
    rng = np.random.default_rng(seed)
    coarse = rng.normal(size=(classes, *(max(1, n // 4) for n in shape))).astype(np.float32) * 4
    here = affine()
    return np.stack(
        [
            reference.resample(
                c, affine(tuple(n / m for n, m in zip(shape[::-1], c.shape[::-1], strict=True))), here, shape
            )
            for c in coarse
        ]
    )


@pytest.mark.parametrize("kind", ["noise", "blobs"])
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("slab", [1, 4, 100])
def test_the_cpu_path_agrees_with_the_reference(name: str, kind: str, slab: int) -> None:
    source, shape = CASES[name]
    if kind == "noise":
        logits = np.random.default_rng(4).normal(size=(5, *shape)).astype(np.float32)
    else:
        logits = smooth_logits(shape, 5, 6)
    target, target_shape = affine((1.1, 1.2, 3.0), (-4, 0.5, -3)), (9, 17, 15)
    fast = cpu.labels_on_grid(logits, source, target, target_shape, slab)
    slow = reference.labels_on_grid(logits, source, target, target_shape)
    assert fast.dtype == np.uint8
    # float32 may decide otherwise where two logits lie within rounding; here none do.
    np.testing.assert_array_equal(fast, slow)


@PATHS
def test_a_class_may_win_between_voxels_where_it_wins_at_none(labels) -> None:
    # Class 2 is second everywhere: in the middle, 0 and 1 have fallen below it.
    logits = np.array([[[[10.0, 0.0]]], [[[0.0, 10.0]]], [[[9.0, 9.0]]]], dtype=np.float32)
    target = affine((0.25, 1, 1))
    assert labels(logits, affine(), target, (1, 1, 5))[0, 0].tolist() == [0, 2, 2, 2, 1]


@PATHS
def test_a_tie_goes_to_the_lower_class_and_outside_is_background(labels) -> None:
    logits = np.zeros((3, 1, 1, 3), dtype=np.float32)
    logits[1:, 0, 0, 2] = 1
    target = affine(origin=(-1.0, 0.0, 0.0))
    assert labels(logits, affine(), target, (1, 1, 6))[0, 0].tolist() == [0, 0, 0, 1, 0, 0]


@PATHS
def test_one_class_and_too_many(labels) -> None:
    assert labels(np.ones((1, 2, 2, 2)), affine(), affine(), (2, 2, 2)).max() == 0
    with pytest.raises(ValueError, match="uint8"):
        labels(np.ones((257, 1, 1, 1)), affine(), affine(), (1, 1, 1))
    with pytest.raises(ValueError, match="not finite"):
        labels(np.full((2, 1, 1, 1), np.nan), affine(), affine(), (1, 1, 1))
