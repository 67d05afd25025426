"""Paints shapes into label volumes: each shape only touches its own bounding box.

Shapes are given in the head's ideal frame (LPS mm, origin at the centre of the nasopharynx); the canvas
knows where every voxel lies in that frame after the seed's size, asymmetry and smooth deformation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]
Mask = NDArray[np.bool_]
Point = Sequence[float]
Box = tuple[slice, slice, slice]

_KNOT_MM = 36.0
_KNOT_LOW, _KNOT_COUNT = -216.0, 13
_PAD_MM = 9.0  # no voxel moves further than this between the two frames, size aside


@dataclass(frozen=True)
class HeadGrid:
    """Axis-aligned LPS grid in the head's own frame, origin at the centre of the nasopharynx.

    origin, spacing: x, y, z mm; origin is the centre of voxel [0, 0, 0]. shape: (Z, Y, X).
    """

    origin: tuple[float, float, float]
    spacing: tuple[float, float, float]
    shape: tuple[int, int, int]

    def axes(self) -> tuple[Field, Field, Field]:
        """Coordinates of the voxel centres along z, y, x in mm."""
        z, y, x = (
            (o + s * np.arange(n)).astype(np.float32)
            for o, s, n in zip(self.origin[::-1], self.spacing[::-1], self.shape, strict=True)
        )
        return z, y, x

    @property
    def voxel_mm3(self) -> float:
        """Volume of a voxel in mm³."""
        return float(np.prod(self.spacing))


@dataclass(frozen=True, eq=False)
class Warp:
    """From the grid's frame to the ideal frame: p → p / scale + displacement(p), smooth and seed-drawn.

    knots: (3, n, n, n) displacement of x, y, z in mm at knots along z, y, x.
    """

    scale: tuple[float, float, float]
    knots: Field

    @staticmethod
    def draw(rng: np.random.Generator, amplitude_mm: float) -> Warp:
        """Draw from a seed alone: the same head whatever grid it is painted on."""
        overall = rng.normal(1.0, 0.035)
        scale = overall * np.clip(rng.normal(1.0, 0.03, 3), 0.93, 1.07)
        knots = rng.normal(0.0, amplitude_mm, (3, _KNOT_COUNT, _KNOT_COUNT, _KNOT_COUNT))
        knots = np.clip(knots, -2.2 * amplitude_mm, 2.2 * amplitude_mm)
        return Warp((float(scale[0]), float(scale[1]), float(scale[2])), knots.astype(np.float32))

    def ideal(self, grid: HeadGrid) -> tuple[Field, Field, Field]:
        """x, y, z (Z, Y, X) float32: where every voxel centre lies in the ideal frame."""
        axes = grid.axes()
        weights = [_spline_weights(axis) for axis in axes]
        out = []
        for component, axis in enumerate((2, 1, 0)):
            moved = np.tensordot(weights[0], self.knots[component], axes=1)
            moved = np.einsum("yb,zbc->zyc", weights[1], moved, optimize=True)
            moved = moved @ weights[2].T
            line = axes[axis] / np.float32(self.scale[component])
            moved += line.reshape([-1 if k == axis else 1 for k in range(3)])
            out.append(np.ascontiguousarray(moved, dtype=np.float32))
        return out[0], out[1], out[2]


def _spline_weights(axis: Field) -> Field:
    """(len(axis), knots) cubic B-spline weights of the displacement's knots."""
    position = (axis[:, None] - _KNOT_LOW) / _KNOT_MM - np.arange(_KNOT_COUNT)[None, :]
    t = np.abs(position)
    inner = 2 / 3 - t**2 + t**3 / 2
    outer = np.clip(2 - t, 0, None) ** 3 / 6
    return np.asarray(np.where(t < 1, inner, outer), dtype=np.float32)


class Canvas:
    """Two label volumes and the ideal coordinates of their voxels."""

    def __init__(self, grid: HeadGrid, warp: Warp) -> None:
        self.grid = grid
        self.warp = warp
        self.x, self.y, self.z = warp.ideal(grid)
        self.tissue = np.zeros(grid.shape, dtype=np.uint8)
        self.structure = np.zeros(grid.shape, dtype=np.uint8)

    def box(self, low: Point, high: Point) -> Box:
        """Slices of the voxels that may lie between two corners (x, y, z mm, ideal frame)."""
        slices = []
        for k in (2, 1, 0):
            ends = np.array([low[k] - _PAD_MM, high[k] + _PAD_MM]) * self.warp.scale[k]
            first = (ends[0] - self.grid.origin[k]) / self.grid.spacing[k]
            last = (ends[1] - self.grid.origin[k]) / self.grid.spacing[k]
            count = self.grid.shape[2 - k]
            slices.append(slice(int(np.clip(first, 0, count)), int(np.clip(np.ceil(last) + 1, 0, count))))
        return slices[0], slices[1], slices[2]

    def ellipsoid(self, centre: Point, radii: Point, reach: float = 0.0) -> tuple[Box, Field]:
        """Box and signed distance (mm, approximate, < 0 inside) of an ellipsoid; reach widens the box."""
        low = [c - r - reach for c, r in zip(centre, radii, strict=True)]
        high = [c + r + reach for c, r in zip(centre, radii, strict=True)]
        box = self.box(low, high)
        x, y, z = self.x[box], self.y[box], self.z[box]
        q = ((x - np.float32(centre[0])) / np.float32(radii[0])) ** 2
        q += ((y - np.float32(centre[1])) / np.float32(radii[1])) ** 2
        q += ((z - np.float32(centre[2])) / np.float32(radii[2])) ** 2
        return box, (np.sqrt(q) - 1) * np.float32(min(radii))

    def capsule(
        self, start: Point, end: Point, radius: float, squash: Point = (1, 1, 1), reach: float = 0.0
    ) -> tuple[Box, Field]:
        """Box and signed distance of a capsule; squash stretches it along x, y, z (2 is twice as thick)."""
        wide = [radius * s + reach for s in squash]
        low = [min(a, b) - w for a, b, w in zip(start, end, wide, strict=True)]
        high = [max(a, b) + w for a, b, w in zip(start, end, wide, strict=True)]
        box = self.box(low, high)
        stretch = np.array(squash, dtype=np.float32)
        a, b = np.array(start, np.float32) / stretch, np.array(end, np.float32) / stretch
        p = [c[box] / s for c, s in zip((self.x, self.y, self.z), stretch, strict=True)]
        d = b - a
        along = sum((q - o) * v for q, o, v in zip(p, a, d, strict=True)) / max(1e-6, float(d @ d))
        t = np.clip(along, 0, 1)
        distance = sum((q - o - t * v) ** 2 for q, o, v in zip(p, a, d, strict=True))
        return box, np.asarray(np.sqrt(distance) - np.float32(radius), dtype=np.float32)

    def slab(self, centre: Point, half: Point, tilt: float = 0.0, round_mm: float = 2.0) -> tuple[Box, Field]:
        """Box and signed distance of a rounded cuboid, tilted by `tilt` radians about the x axis."""
        reach = float(np.linalg.norm(half[1:]))
        low = [centre[0] - half[0], centre[1] - reach, centre[2] - reach]
        high = [centre[0] + half[0], centre[1] + reach, centre[2] + reach]
        box = self.box(low, high)
        x, y, z = self.x[box] - centre[0], self.y[box] - centre[1], self.z[box] - centre[2]
        cos, sin = np.float32(np.cos(tilt)), np.float32(np.sin(tilt))
        v, w = cos * y + sin * z, cos * z - sin * y
        q = [np.abs(c) - np.float32(h - round_mm) for c, h in zip((x, v, w), half, strict=True)]
        outside = np.sqrt(sum(np.clip(c, 0, None) ** 2 for c in q))
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0)
        return box, np.asarray(outside + inside - np.float32(round_mm), dtype=np.float32)

    def paint(
        self,
        shape: tuple[Box, Field],
        tissue: int | None = None,
        structure: int | None = None,
        inset: float = 0.0,
    ) -> None:
        """Set tissue and/or structure where the shape, shrunk by `inset` mm, is."""
        box, distance = shape
        inside = distance < -inset
        if tissue is not None:
            self.tissue[box][inside] = tissue
        if structure is not None:
            self.structure[box][inside] = structure

    def bone(
        self, shape: tuple[Box, Field], marrow: int, cortex: int, thickness: float, structure: int | None
    ) -> None:
        """A bone: cortex `thickness` mm thick round marrow."""
        self.paint(shape, cortex, structure)
        self.paint(shape, marrow, inset=thickness)

    def paint_where(
        self, shape: tuple[Box, Field], allowed: Sequence[int], tissue: int, structure: int
    ) -> None:
        """As `paint`, but only over the tissues listed."""
        box, distance = shape
        chosen = (distance < 0) & np.isin(self.tissue[box], allowed)
        self.tissue[box][chosen] = tissue
        self.structure[box][chosen] = structure


def smooth_noise(grid: HeadGrid, rng: np.random.Generator, knot_mm: float, box: Box | None = None) -> Field:
    """Smooth unit-variance noise (Z, Y, X) on a grid (or its part), the same in world space on any grid."""
    count = int(np.ceil(440.0 / knot_mm)) + 4
    knots = rng.standard_normal((count, count, count)).astype(np.float32)
    weights = []
    for k, axis in enumerate(grid.axes()):
        part = axis if box is None else axis[box[k]]
        t = np.abs((part[:, None] + 220.0) / knot_mm - np.arange(-1, count - 1)[None, :])
        inner = 2 / 3 - t**2 + t**3 / 2
        weights.append(np.where(t < 1, inner, np.clip(2 - t, 0, None) ** 3 / 6).astype(np.float32))
    field = np.tensordot(weights[0], knots, axes=1)
    field = np.einsum("yb,zbc->zyc", weights[1], field, optimize=True)
    return np.asarray((field @ weights[2].T) * np.float32(2.6), dtype=np.float32)
