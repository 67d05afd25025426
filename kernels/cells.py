"""Which class wins between voxels, without interpolating where the corners of a cell already say it.

A cell's corners bound every class within it: interpolation stays between the least and the largest of eight
logits. A class whose largest lies below another's least wins nowhere in the cell, so in most cells that are
not settled two classes are left of many.
"""

from __future__ import annotations

from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.sampling import EDGE, Floats, Shape, thin_index
from npc_edge.kernels.threads import on_cores, slabs

_CHUNK = 8192
"""Voxels labelled at a time: what is made of them stays in a core's cache."""

_FEW = 3
"""Rivals of a cell that are looked at one by one; with more, all classes are interpolated."""

_ROUNDING = 1e-5
"""Of the largest logit: how far float32 may carry a class beyond its corners. Some 20 times the truth."""

T = TypeVar("T", bound=np.generic)


class Cells:
    """The cells between logit voxels: who wins at their first corner, and who may win within.

    found: per cell, the first corner's winner + 256 times how many rivals there are: 0 where all corners
    agree, else 2 to _FEW, or _FEW + 1 for more. An open cell is one whose corners do not agree; place_of says
    where it is in names (_FEW, open cells), its rivals ascending, and in duels (_FEW, 8, open cells), their
    logits at its corners.
    """

    def __init__(self, classes: NDArray[np.float32]) -> None:
        self.classes = classes
        # One more layer at the far end makes every axis at least two long, so each voxel starts a cell.
        winner = np.pad(_winner(classes), (0, 1), mode="edge")
        self.size = (winner.shape[0], winner.shape[1], winner.shape[2])
        cells = np.flatnonzero(_open(winner))
        self.place_of = np.zeros(winner.size, dtype=np.int32)
        self.place_of[cells] = np.arange(cells.size, dtype=np.int32)
        self.names = np.empty((_FEW, cells.size), dtype=np.uint8)
        self.duels = np.empty((_FEW, 8, cells.size), dtype=np.float32)
        counts = np.empty(cells.size, dtype=np.uint16)

        def choose(part: slice) -> None:
            corners = self._corners(unravelled(cells[part], self.size))
            counts[part], self.names[:, part] = _rivals(corners)
            self.duels[:, :, part] = np.take_along_axis(corners, self.names[:, None, part], axis=0)

        on_cores(choose, slabs(cells.size, _CHUNK // 4))
        self.found = winner.astype(np.uint16)
        self.found.reshape(-1)[cells] += counts * np.uint16(256)

    def _corners(self, cell: tuple[NDArray[np.intp], ...]) -> NDArray[np.float32]:
        """(K, 8, cells), x fastest: the logits at the corners of cells given by their (z, y, x)."""
        _, *shape = self.classes.shape
        (z, z1), (y, y1), (x, x1) = (
            (at, np.minimum(at + 1, length - 1)) for at, length in zip(cell, shape, strict=True)
        )
        voxels = [(a * shape[1] + b) * shape[2] + c for a in (z, z1) for b in (y, y1) for c in (x, x1)]
        return self.classes.reshape(len(self.classes), -1).take(np.stack(voxels), axis=1)

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
        flat, rivals = labels.reshape(-1), (found >> 8).astype(np.uint8).reshape(-1)
        for count in range(2, _FEW + 2):
            wanted = np.flatnonzero(rivals == count)
            for part in slabs(wanted.size, _CHUNK if count <= _FEW else _CHUNK // 4):
                place = unravelled(wanted[part], shape)
                cell = tuple(_at(floor, place) for floor in floors)
                weights = [_at(fraction, place) for fraction in fractions]
                flat[wanted[part]] = self._among(count, cell, weights)
        return labels

    def _look(self, floors: list[NDArray[np.int32]], shape: Shape) -> NDArray[np.uint16]:
        """`found` of the cells (z, y, x), which broadcast to a slab; what comes back does too."""
        along = [int(np.argmax(floor.shape)) for floor in floors]
        if len(set(along)) < 3 or any(max(floor.shape) < floor.size for floor in floors):
            z, y, x = floors
            cell = (z * self.size[1] + y) * self.size[2] + x
            return np.broadcast_to(self.found.reshape(-1)[cell], shape)
        # Grids that run along each other: whole planes, then single voxels of a few lines, then whole lines.
        planes = self.found.take(floors[0].ravel(), axis=0)
        lines = planes.take(floors[2].ravel(), axis=2).take(floors[1].ravel(), axis=1)
        return lines.transpose(np.argsort(along))

    def _among(
        self, count: int, cell: tuple[NDArray[np.intp], ...], fractions: list[NDArray[np.float32]]
    ) -> NDArray[np.uint8]:
        """The winning class at points given by their cell, one with so many rivals, and the (z, y, x)
        fraction within it: the lowest on a tie."""
        if count > _FEW:
            everyone = self._corners(cell).transpose(1, 0, 2)
            return np.asarray(np.argmax(_blend(list(everyone), fractions), axis=0), dtype=np.uint8)
        z, y, x = cell
        place = self.place_of[(z * self.size[1] + y) * self.size[2] + x].astype(np.intp)
        best = self.names[0][place]
        most = _blend([corner[place] for corner in self.duels[0]], fractions)
        for rival in range(1, count):
            value = _blend([corner[place] for corner in self.duels[rival]], fractions)
            best = np.where(value > most, self.names[rival][place], best)
            most = np.maximum(value, most)
        return best


def _rivals(corners: NDArray[np.float32]) -> tuple[NDArray[np.uint16], NDArray[np.uint8]]:
    """(K, 8, cells) logits → how many classes may win in each cell, _FEW + 1 at most, and which: (_FEW,
    cells), ascending, anything where there are fewer."""
    low, high = corners.min(axis=1), corners.max(axis=1)
    margin = np.float32(_ROUNDING) * np.maximum(-low.min(axis=0), high.max(axis=0))
    may_win = high >= low.max(axis=0) - margin
    count = may_win.sum(axis=0, dtype=np.uint16)
    number = np.arange(len(corners), dtype=np.uint8)[:, None]
    names = np.zeros((_FEW, corners.shape[2]), dtype=np.uint8)
    for rank in range(min(_FEW, len(corners))):
        names[rank] = np.where(may_win, number, np.uint8(255)).min(axis=0)
        may_win &= number != names[rank]
    # Where corners have two winners, neither lies below what any class has everywhere: there are always two.
    return np.minimum(count, np.uint16(_FEW + 1)), np.minimum(names, np.uint8(len(corners) - 1))


def unravelled(flat: NDArray[np.intp], shape: Shape) -> tuple[NDArray[np.intp], ...]:
    """(z, y, x) of flat indices; NumPy's own division is several times as fast as `unravel_index`."""
    _, ny, nx = shape
    line = flat // nx
    z = line // ny
    return z, line - z * ny, flat - line * nx


def _at(array: NDArray[T], place: tuple[NDArray[np.intp], ...]) -> NDArray[T]:
    """Elements of an array that broadcasts to the slab these places (z, y, x) are in."""
    found = array[tuple(p if n > 1 else 0 for p, n in zip(place, array.shape, strict=True))]
    return np.broadcast_to(found, place[0].shape)


def _blend(corners: list[NDArray[np.float32]], weights: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Eight corners, x fastest, and the weight of the far one along z, y, x: along x first."""
    for weight in reversed(weights):
        corners = [_mix(near, far, weight) for near, far in zip(corners[::2], corners[1::2], strict=True)]
    return corners[0]


def _mix(
    near: NDArray[np.float32], far: NDArray[np.float32], weight: NDArray[np.float32]
) -> NDArray[np.float32]:
    """near + (far - near) * weight, in place of far."""
    far -= near
    far *= weight
    far += near
    return far


def _open(winner: NDArray[np.uint8]) -> NDArray[np.bool_]:
    """Of the winners at cell corners (Z, Y, X): the cells whose corners differ."""
    differ = np.zeros(winner.shape, dtype=np.bool_)
    first, inner = winner[:-1, :-1, :-1], differ[:-1, :-1, :-1]
    for corner in range(1, 8):
        far = tuple(slice(1, None) if corner >> bit & 1 else slice(None, -1) for bit in (2, 1, 0))
        inner |= winner[far] != first
    return differ


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
