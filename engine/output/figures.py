"""Pictures of the report: a slice as an embedded PNG; outlines, side letters and scale bar as vectors on it.

Shown in radiological convention: an axial slice with the patient's right on the image's left, anterior up.
Units inside a picture are millimetres.
"""

from __future__ import annotations

import base64
import zlib
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from npc_edge.calibration.markup import Markup, tag
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.output.contours import edge_loops
from npc_edge.engine.types import Volume

Mask = NDArray[np.bool_]

# Where the picture's right and down should point, LPS, for each plane.
_WANTED = {
    "axial": (np.array([1.0, 0, 0]), np.array([0, 1.0, 0])),
    "coronal": (np.array([1.0, 0, 0]), np.array([0, 0, -1.0])),
    "sagittal": (np.array([0, 1.0, 0]), np.array([0, 0, -1.0])),
}
_LETTERS = (("L", "R"), ("P", "A"), ("S", "I"))
_SCALE_MM = 20.0


@dataclass(frozen=True)
class Outline:
    """What to draw around: a mask of the whole slice and the style class of its line."""

    mask: Mask
    style: str


@dataclass(frozen=True)
class Frame:
    """The part of a reference slice to show: y0:y1, x0:x1, and how to turn it for the viewer."""

    z: int
    y0: int
    y1: int
    x0: int
    x1: int
    transpose: bool
    flip_right: bool
    flip_down: bool
    right: str
    left: str

    @staticmethod
    def around(grid: Geometry, z: int, centre_yx: tuple[float, float], size_mm: float) -> Frame:
        """A square of `size_mm` around a point of slice z, moved back where it would stick out."""
        _, height, width = grid.shape
        sx, sy, _ = grid.spacing
        y0, y1 = _span(centre_yx[0], size_mm / sy, height)
        x0, x1 = _span(centre_yx[1], size_mm / sx, width)
        right, down = _WANTED[grid.plane()]
        along_x, along_y = grid.direction[:, 0], grid.direction[:, 1]
        transpose = abs(along_y @ right) > abs(along_x @ right)
        across, vertical = (along_y, along_x) if transpose else (along_x, along_y)
        flip_right, flip_down = bool(across @ right < 0), bool(vertical @ down < 0)
        seen = -across if flip_right else across
        return Frame(z, y0, y1, x0, x1, transpose, flip_right, flip_down, _letter(seen), _letter(-seen))

    def turn(self, pixels: NDArray[np.float32]) -> NDArray[np.float32]:
        """Rows and columns as the viewer wants them."""
        pixels = pixels.T if self.transpose else pixels
        pixels = pixels[:, ::-1] if self.flip_right else pixels
        return pixels[::-1] if self.flip_down else pixels

    def size_mm(self, grid: Geometry) -> tuple[float, float]:
        """(width, height) of the picture."""
        width, height = (self.x1 - self.x0) * grid.spacing[0], (self.y1 - self.y0) * grid.spacing[1]
        return (height, width) if self.transpose else (width, height)

    def place(self, corners: NDArray[np.float64], grid: Geometry) -> NDArray[np.float64]:
        """(N, 2) voxel indices (x, y) → (N, 2) mm in the picture."""
        mm = (corners - [self.x0 - 0.5, self.y0 - 0.5]) * grid.spacing[:2]
        mm = mm[:, ::-1] if self.transpose else mm
        width, height = self.size_mm(grid)
        horizontal = width - mm[:, 0] if self.flip_right else mm[:, 0]
        vertical = height - mm[:, 1] if self.flip_down else mm[:, 1]
        return np.column_stack([horizontal, vertical])


def _span(centre: float, wanted: float, available: int) -> tuple[int, int]:
    length = min(available, max(8, round(wanted)))
    start = min(max(0, round(centre - length / 2)), available - length)
    return start, start + length


def _letter(direction: NDArray[np.float64]) -> str:
    axis = int(np.argmax(np.abs(direction)))
    return _LETTERS[axis][0 if direction[axis] > 0 else 1]


class Painter:
    """Draws slices of one reference grid; the window of each volume is found once."""

    def __init__(self, grid: Geometry) -> None:
        self.grid = grid
        self._window = cache(window)

    def lines(self, outlines: list[Outline], frame: Frame) -> list[Markup]:
        """The outlines that a frame shows, for every panel of it."""
        found = (self._path(outline, frame) for outline in outlines)
        return [line for line in found if line is not None]

    def panel(self, volume: Volume, frame: Frame, lines: list[Markup], title: str, alt: str) -> Markup:
        """An <svg> of one volume seen on the reference slice, with lines on it."""
        low, high = self._window(volume)
        pixels = frame.turn(on_reference(volume, self.grid, frame))
        width, height = frame.size_mm(self.grid)
        picture = tag(
            "image",
            href=png(np.clip((pixels - low) / (high - low), 0, 1)),
            width=_mm(width),
            height=_mm(height),
            preserveAspectRatio="none",
        )
        furniture = _furniture(frame, width, height, title)
        return tag(
            "svg",
            picture,
            lines,
            furniture,
            viewBox=f"0 0 {_mm(width)} {_mm(height)}",
            role="img",
            aria_label=alt,
        )

    def _path(self, outline: Outline, frame: Frame) -> Markup | None:
        part = outline.mask[frame.y0 : frame.y1, frame.x0 : frame.x1]
        loops = edge_loops(part)
        if len(loops.ends) == 1:
            return None
        places = frame.place(loops.corners / 2 + [frame.x0, frame.y0], self.grid)
        words = [" ".join(pair) for pair in zip(_all_mm(places[:, 0]), _all_mm(places[:, 1]), strict=True)]
        pieces = ["M" + "L".join(words[start:end]) + "Z" for start, end in pairwise(loops.ends.tolist())]
        return tag("path", d="".join(pieces), class_=f"line {outline.style}")


def _furniture(frame: Frame, width: float, height: float, title: str) -> list[Markup]:
    """Side letters, sequence name and scale bar. Sizes follow the picture's."""
    size = height / 17
    end, base = width - size * 0.6, height - size * 0.7
    return [
        tag("text", frame.left, x=_mm(size * 0.5), y=_mm(height / 2), class_="mark", font_size=_mm(size)),
        tag(
            "text",
            frame.right,
            x=_mm(width - size * 0.5),
            y=_mm(height / 2),
            class_="mark end",
            font_size=_mm(size),
        ),
        tag("text", title, x=_mm(size * 0.5), y=_mm(size * 1.35), class_="mark", font_size=_mm(size)),
        tag("path", d=f"M{_mm(end - _SCALE_MM)} {_mm(base)}H{_mm(end)}", class_="scale"),
        tag(
            "text",
            "2 cm",
            x=_mm(end),
            y=_mm(base - size * 0.4),
            class_="mark end",
            font_size=_mm(size * 0.8),
        ),
    ]


def _all_mm(values: NDArray[np.float64]) -> list[str]:
    """Of many places that lie on few lines: each line is put in words once."""
    lines, where = np.unique(values, return_inverse=True)
    words = [_mm(value) for value in lines.tolist()]
    return [words[at] for at in where.tolist()]


def _mm(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def window(volume: Volume) -> tuple[float, float]:
    """(low, high): 1st and 99.5th percentile of the head, taken from every fourth voxel each way."""
    sample = volume.voxels[:, ::4, ::4]
    head = sample[sample > 0.2 * sample.mean()]
    if head.size < 16:
        return 0.0, max(1.0, float(sample.max()))
    low, high = np.percentile(head, [1, 99.5])
    return float(low), float(max(high, low + 1e-6))


def on_reference(volume: Volume, grid: Geometry, frame: Frame) -> NDArray[np.float32]:
    """(Y, X) float32: the volume on the frame's pixels; interpolated linearly unless it shares the grid."""
    if volume.geometry is grid or volume.geometry.same_grid(grid):
        return volume.voxels[frame.z, frame.y0 : frame.y1, frame.x0 : frame.x1]
    x, y = np.meshgrid(np.arange(frame.x0, frame.x1), np.arange(frame.y0, frame.y1))
    index = np.column_stack([x.ravel(), y.ravel(), np.full(x.size, frame.z)])
    found = linear(volume.voxels, volume.geometry.to_index(grid.to_world(index)))
    return found.reshape(x.shape)


def linear(voxels: NDArray[np.float32], index_xyz: NDArray[np.float64]) -> NDArray[np.float32]:
    """Trilinear samples at (N, 3) fractional indices in x, y, z order; 0 outside the grid."""
    flat = np.ascontiguousarray(voxels).reshape(-1)
    inside = np.ones(len(index_xyz), dtype=np.bool_)
    first = np.zeros(len(index_xyz), dtype=np.int64)  # flat index of each cell's first corner
    # Of each corner the weight, and how far from the first one it lies.
    corners: list[tuple[NDArray[Any], int]] = [(np.ones(1, dtype=np.float32), 0)]
    for axis, length in enumerate(voxels.shape):
        at, step = index_xyz[:, 2 - axis], int(np.prod(voxels.shape[axis + 1 :]))
        inside &= (at >= -0.5) & (at <= length - 0.5)
        at = np.clip(at, 0, length - 1)
        low = np.minimum(at.astype(np.int64), max(length - 2, 0))
        part = (at - low).astype(np.float32)
        first += low * step
        steps = ((1 - part, 0), (part, step if length > 1 else 0))
        corners = [(w * weight, o + offset) for w, o in corners for weight, offset in steps]
    total = np.zeros(len(index_xyz), dtype=np.float32)
    for weight, offset in corners:
        total += weight * flat[first + offset]
    return np.where(inside, total, np.float32(0))


def png(grey: NDArray[np.float32]) -> str:
    """(H, W) 0..1 → a data URI."""
    buffer = BytesIO()
    picture = Image.fromarray(np.asarray(np.round(grey * 255), dtype=np.uint8))
    # In a filtered MR slice there is nothing to find but runs: smaller than at level 4, in half the time.
    picture.save(buffer, "PNG", compress_level=1, compress_type=zlib.Z_RLE)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
