"""Outlines of a mask along its voxel edges, holes joined to their outline by a zero-width cut (keyhole).

Points are in voxel indices: the centre of pixel (row y, column x) is (x, y), its edges lie at ±0.5. Tracing
edges keeps the area exact; tracing centres would inset every outline by half a voxel.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Loop = NDArray[np.float64]
_Vertex = tuple[int, int]


def outlines(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[Loop]:
    """(Y, X) mask → closed polygons (N, 2) of (x, y), one per 4-connected island, its holes keyed in.

    The first point is not repeated at the end. The signed (shoelace) area of each polygon, and the even-odd
    area of all of them, is the number of voxels.
    """
    loops = edge_loops(mask)
    outer = [loop for loop in loops if _area2(loop) > 0]
    holes = sorted((loop for loop in loops if _area2(loop) < 0), key=lambda loop: min(loop))
    polygons = [_Polygon(loop) for loop in outer]
    for hole in holes:
        _key_in(hole, polygons)
    return [polygon.points() for polygon in polygons]


def edge_loops(mask: NDArray[np.bool_] | NDArray[np.uint8]) -> list[list[_Vertex]]:
    """Closed loops of corners with collinear ones left out, in doubled half-integer units.

    A corner (i, j) is the point (i / 2, j / 2) in voxel indices: pixel (x, y) has corners (2x ± 1, 2y ± 1).
    Islands run with positive area, holes with negative. Where two pixels touch at a corner only, they part.
    """
    onward = _directed_edges(np.asarray(mask, dtype=bool))
    loops = []
    while onward:
        start = next(iter(onward))
        loops.append(_follow(start, onward))
    return loops


def _directed_edges(mask: NDArray[np.bool_]) -> dict[_Vertex, list[_Vertex]]:
    """corner → the corners that voxel edges lead to from it, the mask on the right hand (y points down)."""
    onward: dict[_Vertex, list[_Vertex]] = {}
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return onward
    top, left = int(rows[0]), int(columns[0])
    padded = np.pad(mask[top : rows[-1] + 1, left : columns[-1] + 1], 1)
    inside = padded[1:-1, 1:-1]
    sides = (
        (padded[:-2, 1:-1], (-1, -1), (1, -1)),  # top edge, left to right
        (padded[1:-1, 2:], (1, -1), (1, 1)),  # right edge, downwards
        (padded[2:, 1:-1], (1, 1), (-1, 1)),  # bottom edge, right to left
        (padded[1:-1, :-2], (-1, 1), (-1, -1)),  # left edge, upwards
    )
    for neighbour, begin, end in sides:
        for y, x in np.argwhere(inside & ~neighbour).tolist():
            across, down = 2 * (x + left), 2 * (y + top)
            corner = (across + begin[0], down + begin[1])
            onward.setdefault(corner, []).append((across + end[0], down + end[1]))
    return onward


def _follow(start: _Vertex, onward: dict[_Vertex, list[_Vertex]]) -> list[_Vertex]:
    """Walk from `start` until it is reached again, using up the edges; keep corners where the way turns."""
    path = [start]
    here, arrived = start, (0, 0)
    while True:
        choices = onward[here]
        following = choices[0] if len(choices) == 1 else _sharpest_right(here, arrived, choices)
        choices.remove(following)
        if not choices:
            del onward[here]
        arrived = (following[0] - here[0], following[1] - here[1])
        here = following
        if here == start:
            return _turns_only(path)
        path.append(here)


def _sharpest_right(here: _Vertex, arrived: tuple[int, int], choices: list[_Vertex]) -> _Vertex:
    """Where four edges meet, stay on the same pixel: with y down and the mask on the right, turn right."""
    right = (here[0] - arrived[1], here[1] + arrived[0])
    return right if right in choices else choices[0]


def _turns_only(path: list[_Vertex]) -> list[_Vertex]:
    kept = []
    for before, at, after in zip([path[-1], *path[:-1]], path, [*path[1:], path[0]], strict=True):
        cross = (at[0] - before[0]) * (after[1] - at[1]) - (at[1] - before[1]) * (after[0] - at[0])
        if cross:
            kept.append(at)
    return kept


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
