"""Filling holes: the fast path against the reference, and the reference against scipy."""

import numpy as np
import pytest

from npc_edge.kernels import holes, reference
from npc_edge.kernels.sampling import Shape


@pytest.mark.parametrize("shape", [(9, 11, 13), (1, 20, 20), (2, 3, 40), (7, 1, 5)])
@pytest.mark.parametrize("density", [0.0, 0.3, 0.6, 0.8, 1.0])
def test_all_agree_on_what_is_enclosed(shape: Shape, density: float) -> None:
    scipy = pytest.importorskip("scipy.ndimage")
    mask = np.random.default_rng(3).random(shape) < density
    expected = scipy.binary_fill_holes(mask)
    np.testing.assert_array_equal(reference.fill_holes(mask), expected)
    np.testing.assert_array_equal(holes.fill_holes(mask), expected)


def test_a_hole_is_closed_by_faces_not_by_corners() -> None:
    mask = np.zeros((5, 5, 5), dtype=np.bool_)
    mask[1:4, 1:4, 1:4] = True
    mask[2, 2, 2] = False
    assert holes.fill_holes(mask)[2, 2, 2]
    mask[1, 1, 1] = False  # a neighbour across an edge is no way out
    assert holes.fill_holes(mask)[2, 2, 2]
    mask[1, 2, 2] = False
    assert not holes.fill_holes(mask)[2, 2, 2]
