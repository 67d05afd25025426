"""The voxel operations between assembled volumes and masks: one small set of them, here on the processor.

A session opens them once. What a room holds between two of them is an `Array`: on the processor NumPy's, on a
device (`device_voxels`) an array that stays there. Only `host`, `probability` and `labels` bring something
home, so a room that keeps to these operations is the same on both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, BundleError, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec, Normalisation
from npc_edge.engine.model.runner import IMAGE, Runner
from npc_edge.engine.types import Array, Volume
from npc_edge.kernels import cpu
from npc_edge.kernels.intensity import normalise
from npc_edge.kernels.sampling import Shape, index_map, inside
from npc_edge.kernels.threads import on_cores, slabs
from npc_edge.kernels.windows import gaussian_weight

Corner = tuple[int, int, int]
Box = tuple[slice, slice, slice]

_NOTHING = -30.0  # logit of what lies outside the model's window: probability 1e-13


@dataclass(frozen=True)
class Tiles:
    """Windows over a grid (Z, Y, X). starts: first voxels along z, y and x, ascending; every combination is a
    window, z slowest."""

    shape: Shape
    window: Shape
    starts: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

    @property
    def corners(self) -> list[Corner]:
        """The first voxel of each window."""
        return [(z, y, x) for z, y, x in itertools.product(*self.starts)]

    @property
    def layer(self) -> int:
        """How many windows begin at the same slice."""
        return len(self.starts[1]) * len(self.starts[2])

    @property
    def deep(self) -> int:
        """How many layers of windows must be in memory together, so that every slice finds all of its own."""
        starts, length = self.starts[0], self.window[0]
        return max(sum(low < s + length for s in starts[: k + 1]) for k, low in enumerate(starts))

    @staticmethod
    def over(shape: Shape, network: NetworkSpec) -> Tiles:
        """Evenly spread, overlapping by at least the network's overlap. BundleError when the grid is smaller
        than the window."""
        z, y, x = (_starts(n, w, network.overlap) for n, w in zip(shape, network.window, strict=True))
        return Tiles(shape, network.window, (z, y, x))


class Blending(Protocol):
    """Maps of overlapping windows that become maps of the whole grid."""

    def add(self, maps: Mapping[str, Array]) -> None:
        """What the next windows (n, K, z, y, x) said, in the order of `Tiles.corners`."""
        ...

    def maps(self) -> dict[str, Array]:
        """(1, K, Z, Y, X) float32, once all windows were added; of a single window its own array."""
        ...


class Voxels(Protocol):
    """The operations. Arrays they are given are their own, or NumPy's where it says so; whatever a device
    refuses is a BackendError."""

    def describe(self) -> str:
        """Where they run: "cpu", or the device's place and name."""
        ...

    def free_mb(self) -> float | None:
        """Memory of the device that is free now; None on the processor, or where nobody says."""
        ...

    def holding(self, volumes: Iterable[Volume]) -> AbstractContextManager[None]:
        """Around all that is done with a study: its voxels begin to go where they are wanted, while whoever
        called goes on; leaving gives back all that was taken for it."""
        ...

    def image(self, volumes: Mapping[str, Volume], network: NetworkSpec, target: Geometry) -> Array:
        """The network's input (1, C, Z, Y, X) float32: each sequence resampled and normalised, 0 outside its
        volume. Refusal UNREADABLE for a voxel that is not finite."""
        ...

    def gather(self, image: Array, corners: Sequence[Corner], window: Shape) -> Array:
        """(1, C, Z, Y, X) → the windows that begin at these voxels, (n, C, z, y, x)."""
        ...

    def run(self, runner: Runner, windows: Array) -> Mapping[str, Array]:
        """What a network says of windows (n, C, z, y, x); valid until it is asked again."""
        ...

    def blending(self, tiles: Tiles) -> Blending:
        """Begin to put windows together."""
        ...

    def host(self, array: Array) -> NDArray[np.float32]:
        """An array's values on the host: for scores, and for small maps."""
        ...

    def finite(self, array: Array) -> bool:
        """Whether every value is."""
        ...

    def margin(self, logits: Array, code: int) -> Array:
        """(1, K, Z, Y, X) → (1, 1, Z, Y, X): one class against all others, log p / (1 - p) of the softmax."""
        ...

    def probability(self, logit: Array, model: Geometry, target: Geometry) -> NDArray[np.float32]:
        """(1, 1, Z, Y, X) on the model's grid → (Z, Y, X) on another: the interpolated logit's sigmoid."""
        ...

    def labels(self, logits: Array, model: Geometry, target: Geometry) -> NDArray[np.uint8]:
        """(1, K, Z, Y, X) on the model's grid → (Z, Y, X) on another: the class whose interpolated logit is
        largest, the lowest on a tie. On the same grid nothing is interpolated: the rounding of an index would
        decide ties."""
        ...


class HostVoxels:
    """The operations on the processor: NumPy and SimpleITK (`kernels.cpu`)."""

    def describe(self) -> str:
        return "cpu"

    def free_mb(self) -> float | None:
        return None

    def holding(self, volumes: Iterable[Volume]) -> AbstractContextManager[None]:
        return nullcontext()

    def image(self, volumes: Mapping[str, Volume], network: NetworkSpec, target: Geometry) -> Array:
        array = np.empty((1, len(network.inputs), *target.shape), dtype=np.float32)
        for channel, name in enumerate(network.inputs):
            array[0, channel] = channel_on(target, volumes[name], network, name)
        return array

    def gather(self, image: Array, corners: Sequence[Corner], window: Shape) -> Array:
        here = on_host(image)
        cut = [here[(slice(None), slice(None), *_box(corner, window))] for corner in corners]
        return cut[0] if len(cut) == 1 else np.concatenate(cut)

    def run(self, runner: Runner, windows: Array) -> Mapping[str, Array]:
        return runner.infer({IMAGE: np.ascontiguousarray(on_host(windows))})

    def blending(self, tiles: Tiles) -> Blending:
        return _HostBlending(tiles)

    def host(self, array: Array) -> NDArray[np.float32]:
        return on_host(array)

    def finite(self, array: Array) -> bool:
        here = on_host(array)
        if here.ndim < 5:
            return bool(np.isfinite(here).all())
        return all(bool(np.isfinite(part).all()) for _, part in _slices(here))

    def margin(self, logits: Array, code: int) -> Array:
        given = on_host(logits)
        found = np.empty(given.shape[2:], dtype=np.float32)
        for z, part in _slices(given):
            rest = np.delete(part, code, axis=0)
            peak = rest.max(axis=0)
            found[z] = part[code] - (peak + np.log(np.exp(rest - peak).sum(axis=0)))
        return found[None, None]

    def probability(self, logit: Array, model: Geometry, target: Geometry) -> NDArray[np.float32]:
        given = on_host(logit)[0, 0]
        if model.same_grid(target):
            found = np.array(given, dtype=np.float32)
        else:
            found = cpu.resample(
                np.ascontiguousarray(given),
                model.affine,
                target.affine,
                target.shape,
                anti_alias=False,
                interpolation="linear",
                fill=_NOTHING,
            )
        on_cores(_sigmoid, [found[part] for part in slabs(len(found), 4)])
        return found

    def labels(self, logits: Array, model: Geometry, target: Geometry) -> NDArray[np.uint8]:
        given = on_host(logits)[0]
        if model.same_grid(target):
            return _largest(on_host(logits))
        return cpu.labels_on_grid(np.ascontiguousarray(given), model.affine, target.affine, target.shape)


class _HostBlending:
    """Every window is added to the sum as it comes."""

    def __init__(self, tiles: Tiles) -> None:
        self._tiles = tiles
        self._boxes = iter([_box(corner, tiles.window) for corner in tiles.corners])
        self._single = len(tiles.corners) == 1
        self._weight = None if self._single else gaussian_weight(tiles.window)
        self._total = np.zeros(() if self._single else tiles.shape, dtype=np.float32)
        self._sums: dict[str, NDArray[np.float32]] = {}

    def add(self, maps: Mapping[str, Array]) -> None:
        given = {name: on_host(array) for name, array in maps.items()}
        if self._weight is None:
            self._sums = given
            return
        for number in range(max((len(array) for array in given.values()), default=0)):
            box = next(self._boxes)
            for name, array in given.items():
                if name not in self._sums:
                    self._sums[name] = np.zeros((1, array.shape[1], *self._tiles.shape), dtype=np.float32)
                part = array[number : number + 1]
                self._sums[name][(slice(None), slice(None), *box)] += part * self._weight
            self._total[box] += self._weight

    def maps(self) -> dict[str, Array]:
        if self._weight is not None:
            for array in self._sums.values():
                array /= self._total
        return dict(self._sums)


HOST = HostVoxels()
"""The one there is: it holds nothing."""


@contextmanager
def holding_all(places: Iterable[Voxels], volumes: Iterable[Volume]) -> Iterator[None]:
    """`holding` of each place that is used, once."""
    with ExitStack() as stack:
        for voxels in {id(one): one for one in places}.values():
            stack.enter_context(voxels.holding(volumes))
        yield


def rule_of(network: NetworkSpec) -> Normalisation:
    """How a network wants intensities; BundleError when it does not say."""
    if network.normalisation is None:
        raise BundleError(f"network {network.name} declares no normalisation")
    return network.normalisation


def on_host(array: Array) -> NDArray[Any]:
    """A NumPy array as one. BackendError for one on a device: two kinds of operations were mixed."""
    if not isinstance(array, np.ndarray):
        raise BackendError("an array on a device was given to the processor's operations")
    return array


def channel_on(target: Geometry, volume: Volume, network: NetworkSpec, name: str) -> NDArray[np.float32]:
    """One sequence on a grid, normalised: (Z, Y, X) float32, 0 outside the volume. Refusal UNREADABLE for a
    voxel that is not finite."""
    source, rule = volume.geometry, rule_of(network)
    try:
        values = cpu.resample(
            volume.voxels,
            source.affine,
            target.affine,
            target.shape,
            anti_alias=network.resampling == "linear",
            interpolation="bspline" if network.resampling == "bspline" else "linear",
        )
    except ValueError as error:  # what else it refuses, a volume with a geometry cannot have
        raise Refusal("UNREADABLE", f"sequence {name} holds values that are not finite") from error
    covered = inside(index_map(source.affine, target.affine), source.shape, target.shape)
    return normalise(values, rule.method, rule.lower, rule.upper, rule.foreground, covered)


def _slices(maps: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(1, K, Z, Y, X) of any float → each z with its (K, Y, X) float32: what is made of one stays small."""
    for z in range(maps.shape[2]):
        yield z, maps[0, :, z].astype(np.float32)


def _largest(logits: NDArray[Any]) -> NDArray[np.uint8]:
    """(1, K, Z, Y, X) → (Z, Y, X) the class of the largest, the lowest on a tie. NumPy's own argmax along the
    first axis takes many times as long."""
    found = np.zeros(logits.shape[2:], dtype=np.uint8)
    for z, part in _slices(logits):
        best = part[0]
        for code in range(1, len(part)):
            found[z][part[code] > best] = code
            np.maximum(best, part[code], out=best)
    return found


def _sigmoid(logits: NDArray[np.float32]) -> None:
    """In place. By the hyperbolic tangent, which does not overflow."""
    logits *= 0.5
    np.tanh(logits, out=logits)
    logits *= 0.5
    logits += 0.5


def _box(corner: Corner, window: Shape) -> Box:
    z, y, x = (slice(s, s + w) for s, w in zip(corner, window, strict=True))
    return z, y, x


def _starts(length: int, window: int, overlap: float) -> tuple[int, ...]:
    if length < window:
        raise BundleError(f"a grid of {length} voxels is smaller than the window of {window}")
    step = max(1.0, window * (1 - overlap))
    count = math.ceil((length - window) / step) + 1
    return tuple(round(s) for s in np.linspace(0, length - window, count))
