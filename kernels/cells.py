"""Which class wins between voxels, without interpolating where the corners of a cell already say it."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.sampling import EDGE, Floats, Shape, thin_index
from npc_edge.kernels.threads import on_cores, slabs

_CHUNK = 8192
"""Voxels labelled at a time: 25 classes of float32 stay in a core's cache."""

_MIXED = np.uint16(256)
"""Added to the first corner's class where another corner has another."""

T = TypeVar("T", bound=np.generic)


class Cells:
    """The cells between logit voxels: which are decided by their corners, and the logits of the rest.

    found: per cell, the winner at its first corner, _MIXED more where that does not settle it. rows: a row of
    logits for each corner of a mixed cell, the rest left out; row_of says which.
    """

    def __init__(self, classes: NDArray[np.float32]) -> None:
        # One more layer at the far end makes every axis at least two long, so each voxel starts a cell.
        winner = np.pad(_winner(classes), (0, 1), mode="edge")
        self.size = (winner.shape[0], winner.shape[1], winner.shape[2])
        mixed, asked = np.zeros(self.size, dtype=np.bool_), np.zeros(self.size, dtype=np.bool_)
        first, inner = winner[:-1, :-1, :-1], mixed[:-1, :-1, :-1]
        corners = [
            tuple(slice(1, None) if corner >> bit & 1 else slice(None, -1) for bit in (2, 1, 0))
            for corner in range(8)
        ]
        for corner in corners:
            inner |= winner[corner] != first
        for corner in corners:
            asked[corner] |= inner
        # One look at a cell says both: who wins at its first corner, and whether that settles it.
        self.found = winner + mixed * _MIXED
        flat = np.flatnonzero(asked)
        self.rows = _rows(classes, _unravelled(flat, self.size))
        self.row_of = np.zeros(winner.size, dtype=np.int32)
        self.row_of[flat] = np.arange(flat.size, dtype=np.int32)

    def labels(self, mapping: Floats, shape: Shape) -> NDArray[np.uint8]:
        """(Z, Y, X) uint8 for the target voxels of one slab; 0 outside."""
        within: NDArray[np.bool_] = np.ones((1, 1, 1), dtype=np.bool_)
        floors, fractions = [], []
        for row, length in zip(mapping[[2, 1, 0]], self.size, strict=True):
            index = thin_index(row, shape)
            within = within & (index >= -0.5 - EDGE) & (index <= length - 1.5 + EDGE)
            index = np.clip(index, 0, length - 2)
            floors.append(index.astype(np.int32))
            fractions.append((index - floors[-1]).astype(np.float32))
        found = np.where(within, self._look(floors, shape), np.uint16(0))
        labels = found.astype(np.uint8)
        flat, wanted = labels.reshape(-1), np.flatnonzero(found >= _MIXED)
        for start in range(0, wanted.size, _CHUNK):
            some = wanted[start : start + _CHUNK]
            place = _unravelled(some, shape)
            cell = self._cell([_at(floor, place) for floor in floors])
            flat[some] = self._interpolate(cell, [_at(fraction, place) for fraction in fractions])
        return labels

    def _cell(self, floors: list[NDArray[np.int32]]) -> NDArray[np.int32]:
        z, y, x = floors
        return np.asarray((z * self.size[1] + y) * self.size[2] + x)

    def _look(self, floors: list[NDArray[np.int32]], shape: Shape) -> NDArray[np.uint16]:
        """`found` of the cells (z, y, x), which broadcast to a slab; what comes back does too."""
        along = [int(np.argmax(floor.shape)) for floor in floors]
        if len(set(along)) < 3 or any(max(floor.shape) < floor.size for floor in floors):
            return np.broadcast_to(self.found.reshape(-1)[self._cell(floors)], shape)
        # Grids that run along each other: whole planes, then single voxels of a few lines, then whole lines.
        planes = self.found.take(floors[0].ravel(), axis=0)
        lines = planes.take(floors[2].ravel(), axis=2).take(floors[1].ravel(), axis=1)
        return lines.transpose(np.argsort(along))

    def _interpolate(self, cell: NDArray[np.int32], fractions: list[NDArray[np.float32]]) -> NDArray[np.intp]:
        """The winning class at points given by their cell and the (z, y, x) fraction within it."""
        _, ny, nx = self.size
        z, y, x = fractions
        planes = []
        for step in (0, ny * nx):
            lines = []
            for far in (0, nx):
                lines.append(self._blend(cell + (step + far), x))
            planes.append(_mix(lines[0], lines[1], y))
        return np.asarray(np.argmax(_mix(planes[0], planes[1], z), axis=1))

    def _blend(self, cell: NDArray[np.int32], x: NDArray[np.float32]) -> NDArray[np.float32]:
        near, far = self.row_of[cell], self.row_of[cell + 1]
        return _mix(self.rows.take(near, axis=0), self.rows.take(far, axis=0), x)


def _mix(
    near: NDArray[np.float32], far: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """near + (far - near) * weight, in place of far."""
    far -= near
    far *= weight[:, None]
    far += near
    return far


def _at(array: NDArray[T], place: tuple[NDArray[np.intp], ...]) -> NDArray[T]:
    """Elements of an array that broadcasts to the slab these places (z, y, x) are in."""
    found = array[tuple(p if n > 1 else 0 for p, n in zip(place, array.shape, strict=True))]
    return np.broadcast_to(found, place[0].shape)


def _unravelled(flat: NDArray[np.intp], shape: Shape) -> tuple[NDArray[np.intp], ...]:
    """(z, y, x) of flat indices; NumPy's own division is several times as fast as `unravel_index`."""
    _, ny, nx = shape
    line = flat // nx
    z = line // ny
    return z, line - z * ny, flat - line * nx


def _rows(classes: NDArray[np.float32], corners: tuple[NDArray[np.intp], ...]) -> NDArray[np.float32]:
    """(corners, K): the logits at cell corners (z, y, x); beyond the last voxel of an axis, those of it."""
    _, *shape = classes.shape
    z, y, x = (np.minimum(at, length - 1) for at, length in zip(corners, shape, strict=True))
    voxel = (z * shape[1] + y) * shape[2] + x
    rows = np.empty((voxel.size, classes.shape[0]), dtype=np.float32)

    def fill(part: slice) -> None:
        here, where = rows[part], voxel[part]
        for number, logits in enumerate(classes):
            here[:, number] = logits.reshape(-1)[where]

    on_cores(fill, slabs(voxel.size, _CHUNK))
    return rows


def _winner(classes: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(K, Z, Y, X) → (Z, Y, X) uint8: the lowest class with the largest logit."""
    winner = np.zeros(classes.shape[1:], dtype=np.uint8)

    def fill(part: slice) -> None:
        best, here = classes[0, part].copy(), winner[part]
        for k in range(1, classes.shape[0]):
            here[classes[k, part] > best] = k
            np.maximum(best, classes[k, part], out=best)

    on_cores(fill, slabs(classes.shape[1], 4))
    return winner
