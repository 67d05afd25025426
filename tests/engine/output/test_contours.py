"""Outlines follow voxel edges: their area is the mask's, holes and islands included."""

import numpy as np
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from npc_edge.engine.output.contours import outlines
from npc_edge.engine.output.rtstruct import fill

Mask = NDArray[np.bool_]
masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=14))


def area(loop: NDArray[np.float64]) -> float:
    x, y = loop.T
    return float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) / 2


@settings(max_examples=200, deadline=None)
@given(masks)
def test_the_area_of_the_outlines_is_the_number_of_voxels(mask: Mask) -> None:
    loops = outlines(mask)
    assert all(area(loop) > 0 for loop in loops)
    assert sum(area(loop) for loop in loops) == mask.sum()


@settings(max_examples=200, deadline=None)
@given(masks)
def test_filling_the_outlines_by_even_and_odd_gives_the_mask_again(mask: Mask) -> None:
    filled = np.zeros(mask.shape, bool)
    for loop in outlines(mask):
        filled ^= fill(loop, mask.shape)
    assert np.array_equal(filled, mask)


def test_a_voxel_is_outlined_along_its_edges_not_through_its_centre() -> None:
    mask = np.zeros((3, 4), bool)
    mask[1, 2] = True
    (loop,) = outlines(mask)
    assert {tuple(point) for point in loop.tolist()} == {(1.5, 0.5), (2.5, 0.5), (2.5, 1.5), (1.5, 1.5)}


def test_a_hole_is_cut_into_its_island_so_that_one_polygon_tells_both() -> None:
    mask = np.ones((7, 7), bool)
    mask[3, 3] = False
    (loop,) = outlines(mask)
    assert area(loop) == 48
    assert [1.0, 0.5] not in loop.tolist()  # nothing but the outline, the hole and the cut between them
    assert {(-0.5, 3.0), (2.5, 3.0)} <= {tuple(point) for point in loop.tolist()}


def test_islands_that_touch_at_a_corner_stay_apart() -> None:
    assert [area(loop) for loop in outlines(np.eye(3, dtype=bool))] == [1, 1, 1]
