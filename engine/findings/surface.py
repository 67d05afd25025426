"""The outer surface of the lateral pterygoid, and the region beyond it.

The muscle's own surface is bumpy and ends above and below; the limit is a plane fitted to it, so that a
signed distance exists everywhere near it. "Outer" is lateral (8th edition) or anterolateral (Version 9).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.findings.boxes import bounding_box
from npc_edge.engine.findings.rules import SurfaceRule
from npc_edge.engine.findings.sides import Midline
from npc_edge.engine.geometry import Floats, Geometry
from npc_edge.engine.types import Side

_CELL_MM = 4.0  # the surface is sampled once in a cell this wide
_FEWEST_CELLS = 6


@dataclass(frozen=True, eq=False)
class OuterSurface:
    """out = level + slope · (along, up), in a frame of three unit vectors (LPS): out, along, up.

    span: the least and greatest (along, up) in mm, the stretch of the surface that is the muscle's.
    """

    frame: Floats
    level: float
    slope: Floats
    span: Floats

    def distance(self, points: Floats) -> Floats:
        """(N, 3) LPS mm → (N,) signed distance in mm, positive beyond the surface; -inf past its span."""
        out, along, up = (points @ axis for axis in self.frame)
        away = (out - self.level - self.slope[0] * along - self.slope[1] * up) / np.sqrt(
            1 + float(self.slope @ self.slope)
        )
        low, high = self.span
        beside = (along >= low[0]) & (along <= high[0]) & (up >= low[1]) & (up <= high[1])
        return np.where(beside, away, -np.inf)


def frame_of(midline: Midline, side: Side, anterior: float) -> Floats:
    """(3, 3) rows out, along, up: out points laterally on `side`, turned forward by `anterior`."""
    left = midline.normal
    up = np.array([0.0, 0.0, 1.0])
    up = up - (up @ left) * left
    up = up / np.linalg.norm(up)
    forward = -np.cross(up, left)  # up x left is posterior in LPS
    out = (left if side == "left" else -left) + anterior * forward
    out = out / np.linalg.norm(out)
    return np.array([out, np.cross(up, out), up])


def fit_surface(
    muscle: NDArray[np.bool_], geometry: Geometry, midline: Midline, side: Side, rule: SurfaceRule
) -> OuterSurface | None:
    """The outer surface of one muscle (Z, Y, X) on `geometry`; None of a muscle too small to have one."""
    box = bounding_box(muscle)
    if box is None:
        return None
    index = (np.argwhere(muscle[box]) + [part.start for part in box])[:, ::-1]
    frame = frame_of(midline, side, rule.anterior)
    out, along, up = (geometry.to_world(index) @ axis for axis in frame)
    cell = cell_numbers(np.floor(along / _CELL_MM), np.floor(up / _CELL_MM))
    outermost = np.full(int(cell.max()) + 1, -np.inf)
    np.maximum.at(outermost, cell, out)
    if len(outermost) < _FEWEST_CELLS:
        return None
    counts = np.bincount(cell)
    centres = np.stack([np.bincount(cell, along), np.bincount(cell, up)], axis=1) / counts[:, None]
    level, slope = _robust_plane(centres, outermost)
    reach = rule.reach_mm
    span = np.array([[along.min() - reach, up.min() - reach], [along.max() + reach, up.max() + reach]])
    return OuterSurface(frame, level, slope, span)


def cell_numbers(first: Floats, second: Floats) -> NDArray[np.intp]:
    """(N,) two whole numbers a point → the number of its pair among those there are, in their order."""
    rows, columns = ((at - at.min()).astype(np.intp) for at in (first, second))
    pair = rows * (int(columns.max()) + 1) + columns
    used = np.bincount(pair) > 0
    return np.asarray((np.cumsum(used) - 1)[pair])


def _robust_plane(centres: Floats, heights: Floats) -> tuple[float, Floats]:
    """Least squares over the outer cells: cells far inside the plane so far are the muscle's rim."""
    keep = np.ones(len(heights), dtype=np.bool_)
    solution = np.zeros(3)
    design = np.concatenate([np.ones((len(heights), 1)), centres], axis=1)
    for _ in range(3):
        solution = np.linalg.lstsq(design[keep], heights[keep], rcond=None)[0]
        residual = heights - design @ solution
        spread = 1.5 * float(np.median(np.abs(residual[keep]))) + 0.5
        kept = residual > -spread
        if kept.sum() < _FEWEST_CELLS:
            break
        keep = kept
    return float(solution[0]), solution[1:]


def beyond(
    surface: OuterSurface, candidates: NDArray[np.bool_], geometry: Geometry, clearance_mm: float
) -> NDArray[np.bool_]:
    """Of the candidate voxels (Z, Y, X) on `geometry`, those at least clearance_mm beyond the surface."""
    out = np.zeros_like(candidates)
    box = bounding_box(candidates)
    if box is not None:
        index = np.argwhere(candidates[box]) + [part.start for part in box]
        distance = surface.distance(geometry.to_world(index[:, ::-1]))
        out[tuple(index[distance >= clearance_mm].T)] = True
    return out
