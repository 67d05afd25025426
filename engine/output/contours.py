"""Outlines of a mask along its voxel edges, holes joined to their outline by a zero-width cut (keyhole).

Points are in voxel indices: the centre of pixel (row y, column x) is (x, y), its edges lie at ±0.5. Tracing
edges keeps the area exact; tracing centres would inset every outline by half a voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.float64]
_Vertex = tuple[int, int]
_STEPS = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])
"""(x, y) of a voxel edge by its direction: right, down, left, up. Each turns right into the next."""


@dataclass(frozen=True, eq=False)
class EdgeLoops:
    """Closed loops of corners, collinear ones left out, in doubled half-integer units, one after the other.

    corners (N, 2) of (i, j): the point (i / 2, j / 2) in voxel indices; pixel (x, y) has corners (2x ± 1,
    2y ± 1). ends (L + 1,): loop n is corners[ends[n] : ends[n + 1]]. Islands run with positive area, holes
    with negative. Where two pixels touch at a corner only, they part.
    """

    corners: NDArray[np.int64]
    ends: NDArray[np.int64]


def outlines(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[Loop]:
    """(Y, X) mask → closed polygons (N, 2) of (x, y), one per 4-connected island, its holes keyed in.

    The first point is not repeated at the end. The signed (shoelace) area of each polygon, and the even-odd
    area of all of them, is the number of voxels.
    """
    found = edge_loops(mask)
    loops = [
        [(x, y) for x, y in found.corners[start:end].tolist()] for start, end in pairwise(found.ends.tolist())
    ]
    outer = [loop for loop in loops if _area2(loop) > 0]
    holes = sorted((loop for loop in loops if _area2(loop) < 0), key=lambda loop: min(loop))
    polygons = [_Polygon(loop) for loop in outer]
    for hole in holes:
        _key_in(hole, polygons)
    return [polygon.points() for polygon in polygons]


def edge_loops(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> EdgeLoops:
    """The loops along a mask's (Y, X) voxel edges. All but the walk itself is done for all edges at once."""
    begin, way, wide = _directed_edges(np.asarray(mask, dtype=bool))
    if not len(begin):
        return EdgeLoops(np.zeros((0, 2), dtype=np.int64), np.zeros(1, dtype=np.int64))
    onward = _onward(begin, way, wide)
    walk, ends = _walk(begin, onward)
    before = np.roll(walk, 1)
    before[ends[:-1]] = walk[ends[1:] - 1]
    turns = way[walk] != way[before]
    vertex = begin[walk[turns]]
    corners = 2 * np.stack([vertex % wide, vertex // wide], axis=1) - 1
    return EdgeLoops(corners, np.concatenate([[0], np.cumsum(turns)])[ends])


def _directed_edges(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Voxel edges with the mask on the right hand (y points down): the corner each begins at, numbered row by
    row, and its direction; and how many corners a row has."""
    padded = np.pad(mask, 1)
    inside, wide = padded[1:-1, 1:-1], mask.shape[1] + 1
    sides = (
        (padded[:-2, 1:-1], 0),  # top edge, left to right
        (padded[1:-1, 2:], 1),  # right edge, downwards: from the top right corner
        (padded[2:, 1:-1], wide + 1),  # bottom edge, right to left
        (padded[1:-1, :-2], wide),  # left edge, upwards
    )
    begins = []
    for neighbour, corner in sides:
        y, x = np.nonzero(inside & ~neighbour)
        begins.append(y * wide + x + corner)
    ways = np.repeat(np.arange(4), [len(one) for one in begins])
    return np.concatenate(begins), ways, wide


def _onward(begin: NDArray[np.int64], way: NDArray[np.int64], wide: int) -> NDArray[np.int64]:
    """Each edge's successor. Where four edges meet, it stays on the same pixel: it turns right."""
    end = begin + _STEPS[way] @ [1, wide]
    edge_at = np.full((int(max(begin.max(), end.max())) + 1, 4), -1)
    edge_at[begin, way] = np.arange(len(begin))
    onward = edge_at[end, (way + 3) % 4]
    for turn in (0, 1):
        found = edge_at[end, (way + turn) % 4]
        onward = np.where(found >= 0, found, onward)
    return np.asarray(onward)


def _walk(
    begin: NDArray[np.int64], successors: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """All edges loop by loop, and where each loop begins and ends. A loop ends where it meets its first
    corner again, the first one in the order of the edges that still has an edge to leave by."""
    first = np.full(int(begin.max()) + 1, -1)
    first[begin[::-1]] = np.arange(len(begin))[::-1]
    predecessors = np.empty_like(successors)
    predecessors[successors] = np.arange(len(begin))
    onward, before, corner = successors.tolist(), predecessors.tolist(), begin.tolist()
    free = [True] * len(corner)
    walk: list[int] = []
    ends = [0]
    for start in np.lexsort((np.arange(len(begin)), first[begin])).tolist():
        if not free[start]:
            continue
        edge, home = start, corner[start]
        while True:
            walk.append(edge)
            free[edge] = False
            following = onward[edge]
            if corner[following] == home:
                break
            edge = following
        if following != start:  # a loop that came by its first corner once more: the rest is one of its own
            onward[before[start]], before[following] = following, before[start]
        ends.append(len(walk))
    return np.array(walk), np.array(ends)


def _area2(loop: list[_Vertex]) -> int:
    """Twice the signed area (shoelace), positive for islands."""
    return sum(a[0] * b[1] - b[0] * a[1] for a, b in zip(loop, [*loop[1:], loop[0]], strict=True))


class _Polygon:
    """An island's outline that grows as holes are keyed into it."""

    def __init__(self, loop: list[_Vertex]) -> None:
        self.path = list(loop)

    def points(self) -> Loop:
        return np.array(self.path, dtype=np.float64) / 2

    def nearest_left(self, x: int, y: int) -> tuple[int, int]:
        """(x, index) of the nearest edge that going left from (x, y) crosses; (very far, -1) if none."""
        path = np.array([*self.path, self.path[0]])
        x0, y0, y1 = path[:-1, 0], path[:-1, 1], path[1:, 1]
        vertical = (x0 == path[1:, 0]) & (x0 < x) & (np.minimum(y0, y1) < y) & (np.maximum(y0, y1) > y)
        if not vertical.any():
            return -(1 << 40), -1
        index = int(np.argmax(np.where(vertical, x0, -(1 << 40))))
        return int(x0[index]), index


def _key_in(hole: list[_Vertex], polygons: list[_Polygon]) -> None:
    """Cut from the middle of the hole's leftmost edge, through the mask, to the first edge on the left.

    Going through a pixel row's middle, the cut can touch no corner of any other loop. Holes come sorted by
    their leftmost corner, so whatever lies to the left is already part of a polygon.
    """
    left = min(hole)[0]
    onward = [*hole[1:], hole[0]]
    at = next(i for i, (a, b) in enumerate(zip(hole, onward, strict=True)) if a[0] == b[0] == left)
    x, y = left, hole[at][1] + (1 if onward[at][1] > hole[at][1] else -1)
    found = [(*polygon.nearest_left(x, y), polygon) for polygon in polygons]
    edge_x, index, polygon = max(found, key=lambda item: item[0])
    around = [*hole[at + 1 :], *hole[: at + 1]]
    cut = [(edge_x, y), (x, y), *around, (x, y), (edge_x, y)]
    polygon.path[index + 1 : index + 1] = cut
