"""Slices → a regular stack, from positions and orientations alone: never InstanceNumber or SliceThickness."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal
from npc_edge.engine.types import Frame, Series

MIN_SLICES = 8
MAX_SIDE = 4096
# Positions are written with few digits, and scanners space slices to a few micrometres: 3 % of the spacing
# tells a rounding from a missing slice with room to spare.
SPACING_TOLERANCE = 0.03
ANGLE_TOLERANCE_DEG = 0.5
DUPLICATE_FRACTION = 0.05
PIXEL_SPACING_MM = (0.05, 10.0)
MAX_SLICE_SPACING_MM = 30.0

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Stack:
    """order: indices into the frames, ascending along row x column. affine: (4, 4), index xyz to LPS mm."""

    order: tuple[int, ...]
    affine: Floats

    @property
    def spacing(self) -> tuple[float, float, float]:
        """(x, y, z) mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(x), float(y), float(z)


def arrange(series: Series) -> Stack:
    """The regular stack these frames form. Raises Refusal with the reason they form none."""
    if "MOSAIC" in series.acquisition.image_type:
        raise Refusal("MOSAIC", "the series holds mosaics: many slices tiled into one image")
    return stack(series.frames, MIN_SLICES)


def stack(frames: Sequence[Frame], at_least: int) -> Stack:
    """As `arrange`, for frames alone; `at_least` slices are needed."""
    axes, pixel = _common_plane(frames)
    row, column = axes
    normal = np.cross(row, column)
    positions = np.array([frame.position for frame in frames], dtype=np.float64)
    depth = positions @ normal
    order = np.argsort(depth, kind="stable")
    _check_spacing(depth[order], at_least)
    _check_sideways(positions[order], normal, pixel)
    count = len(frames)
    spacing = (depth[order[-1]] - depth[order[0]]) / (count - 1)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1], affine[:3, 2] = row * pixel[1], column * pixel[0], normal * spacing
    affine[:3, 3] = positions[order[0]]
    return Stack(tuple(int(i) for i in order), affine)


def _common_plane(frames: Sequence[Frame]) -> tuple[tuple[Floats, Floats], tuple[float, float]]:
    """Unit row and column directions and (row, column) pixel spacing shared by every frame."""
    if not frames:
        raise Refusal("TOO_FEW_SLICES", "the series has no slices")
    if any(f.position is None or f.row is None or f.column is None for f in frames):
        raise Refusal("UNREADABLE", "slices do not say where they lie (position or orientation is missing)")
    if any(f.pixel_spacing is None for f in frames):
        raise Refusal("UNREADABLE", "slices do not say their pixel spacing")
    if len({f.shape for f in frames}) > 1:
        raise Refusal("MIXED_MATRIX", "slices of different matrix sizes are mixed in the series")
    if max(frames[0].shape) > MAX_SIDE:
        raise Refusal("TOO_LARGE", f"slices have {frames[0].shape[0]} x {frames[0].shape[1]} pixels")
    pixels = np.array([f.pixel_spacing for f in frames])
    low, high = PIXEL_SPACING_MM
    if pixels.min() < low or pixels.max() > high:
        raise Refusal("UNREADABLE", "the pixel spacing is impossible")
    if np.ptp(pixels, axis=0).max() > 1e-3 * pixels.max():
        raise Refusal("MIXED_MATRIX", "slices of different pixel spacing are mixed in the series")
    rows = np.array([f.row for f in frames], dtype=np.float64)
    columns = np.array([f.column for f in frames], dtype=np.float64)
    lengths = np.linalg.norm(np.concatenate([rows, columns]), axis=1)
    crossed = np.abs((rows * columns).sum(axis=1))
    if np.abs(lengths - 1).max() > 0.01 or crossed.max() > 0.01:
        raise Refusal("UNREADABLE", "slices have an impossible orientation")
    limit = 2 * np.sin(np.radians(ANGLE_TOLERANCE_DEG) / 2)
    apart = max(np.linalg.norm(a - a[0], axis=1).max() for a in (rows, columns))
    if apart > limit:
        raise Refusal("MIXED_ORIENTATION", "slices of different orientations are mixed in the series")
    row = rows[0] / np.linalg.norm(rows[0])
    column = columns[0] - row * (columns[0] @ row)
    return (row, column / np.linalg.norm(column)), (float(pixels[0, 0]), float(pixels[0, 1]))


def _check_spacing(depth: Floats, at_least: int) -> None:
    """depth: (N,) mm ascending."""
    steps = np.diff(depth)
    wide = steps[steps > 0.01]
    typical = float(np.median(wide)) if wide.size else 0.0
    if steps.size and (steps < max(0.01, DUPLICATE_FRACTION * typical)).any():
        raise Refusal("DUPLICATE_SLICES", "several slices of the series lie in the same place")
    if len(depth) < at_least:
        raise Refusal("TOO_FEW_SLICES", f"the series has {len(depth)} slices; at least {at_least} are needed")
    ratio = steps / typical
    whole = np.rint(ratio)
    if typical > MAX_SLICE_SPACING_MM:
        raise Refusal("NON_UNIFORM_SPACING", "the slices lie further apart than in any head protocol")
    if (np.abs(ratio - whole) <= SPACING_TOLERANCE * whole).all() and (whole >= 1).all():
        if (whole > 1).any():
            missing = int((whole - 1).sum())
            raise Refusal("MISSING_SLICES", f"{missing} slices are missing within the series")
        fitted = np.linspace(depth[0], depth[-1], len(depth))
        if np.abs(depth - fitted).max() <= 0.1 * typical:
            return
    raise Refusal("NON_UNIFORM_SPACING", "the distances between slices differ")


def _check_sideways(positions: Floats, normal: Floats, pixel: tuple[float, float]) -> None:
    """Slices must lie behind one another along their normal: a sheared stack has no rectangular grid."""
    offset = positions - positions[0]
    sideways = offset - np.outer(offset @ normal, normal)
    if np.linalg.norm(sideways, axis=1).max() > max(0.5 * min(pixel), 0.1):
        raise Refusal("NON_UNIFORM_SPACING", "the slices are shifted sideways against one another")
