"""The voxel operations on a device: volumes go up once, and until masks are made nothing comes home.

All of it is queued on a launcher's one stream, the network's work too where its runner shares it. What comes
home: small structs that say whether all values were finite, coarse heatmaps, scores, and of the reference's
grid the part the model saw: uint8 labels, float32 probabilities.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import prod

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.runner import IMAGE, Runner, infer_on_device
from npc_edge.engine.types import Array, Volume
from npc_edge.engine.voxels import Blending, Corner, Tiles, rule_of
from npc_edge.kernels.cuda.operations import MOST_VOXELS, Operations
from npc_edge.kernels.cuda.values import Grids, Rule, Sampling
from npc_edge.kernels.launch import DeviceArray, Launcher, LaunchError
from npc_edge.kernels.sampling import Shape


@dataclass(frozen=True, eq=False)
class _Lent:
    """A volume's voxels on both sides, and what a look at them found; the host's array is held, so that no
    other can have its identity."""

    host: NDArray[np.float32]
    device: DeviceArray
    found: DeviceArray


class DeviceVoxels:
    """The operations (see `voxels.Voxels`) through one launcher. Not to be shared between threads."""

    def __init__(self, launcher: Launcher) -> None:
        self._launcher = launcher
        self._do = Operations(launcher)
        self._lent: dict[int, _Lent] = {}
        self._staged: list[NDArray[np.float32]] = []

    def describe(self) -> str:
        return f"{self._launcher.place} ({self._launcher.device})"

    def load(self) -> None:
        """Everything a first study would have to wait for. BackendError where a kernel cannot be compiled."""
        with _translated(), self._launcher.current():
            self._launcher.load()

    def free_mb(self) -> float | None:
        with _translated():
            return self._launcher.free_mb()

    @contextmanager
    def holding(self, volumes: Iterable[Volume]) -> Iterator[None]:
        """Every slice is on its way while the next one is copied into page-locked memory, and the last ones
        while the caller goes on. That memory is kept for the next study."""
        with _translated(), self._launcher.current():
            try:
                for number, volume in enumerate(volumes):
                    staged = self._staging(number, volume.voxels.shape)
                    self._lent[id(volume.voxels)] = self._up(volume.voxels, staged)
                yield
            finally:
                self._lent.clear()
                self._launcher.synchronize()

    def image(self, volumes: Mapping[str, Volume], network: NetworkSpec, target: Geometry) -> Array:
        given = rule_of(network)
        rule = Rule(given.method, given.lower, given.upper, given.foreground)
        sampling = Sampling(
            "bspline" if network.resampling == "bspline" else "linear", network.resampling == "linear"
        )
        looked: list[tuple[str, DeviceArray]] = []
        with _translated():
            array = self._launcher.empty((1, len(network.inputs), *target.shape), np.float32)
            for channel, name in enumerate(network.inputs):
                volume = volumes[name]
                lent = self._lent.get(id(volume.voxels)) or self._up(volume.voxels)
                plane = array.shaped(*array.shape[1:]).part(channel, channel + 1).shaped(*target.shape)
                grids = Grids(volume.geometry.affine, target.affine, target.shape)
                looked.append((name, lent.found))
                looked.append((name, self._do.channel(lent.device, grids, sampling, rule, plane)))
            for name, found in looked:
                if not self._all_finite(found):
                    raise Refusal("UNREADABLE", f"sequence {name} holds values that are not finite")
        return array

    def gather(self, image: Array, corners: Sequence[Corner], window: Shape) -> Array:
        here = _on_device(image)
        if here.shape[2:] == window and len(corners) == 1:
            return here
        with _translated():
            return self._do.gather(here.shaped(*here.shape[1:]), corners, window)

    def run(self, runner: Runner, windows: Array) -> Mapping[str, Array]:
        """One call is under way at a time: the deadline is asked while windows are computed, not while the
        last of them is queued."""
        with _translated():
            self._launcher.synchronize()
        return infer_on_device(runner, {IMAGE: _on_device(windows)})

    def blending(self, tiles: Tiles) -> Blending:
        return _DeviceBlending(self._do, tiles)

    def host(self, array: Array) -> NDArray[np.float32]:
        with _translated():
            return self._launcher.copy_out(_on_device(array)).astype(np.float32, copy=False)

    def finite(self, array: Array) -> bool:
        """Scores, which are on the host already, too."""
        if isinstance(array, np.ndarray):
            return bool(np.isfinite(array).all())
        flat = array.shaped(prod(array.shape))
        with _translated():
            ends = range(0, flat.shape[0], MOST_VOXELS)
            parts = [flat.part(start, min(start + MOST_VOXELS, flat.shape[0])) for start in ends]
            found = [self._do.check(part) for part in parts]
            return all(self._all_finite(one) for one in found)

    def margin(self, logits: Array, code: int) -> Array:
        here = _on_device(logits)
        with _translated():
            made = self._do.margin(here.shaped(*here.shape[1:]), code)
        return made.shaped(1, 1, *made.shape)

    def probability(self, logit: Array, model: Geometry, target: Geometry) -> NDArray[np.float32]:
        here = _on_device(logit)
        with _translated():
            made = self._do.probability(here.shaped(*here.shape[2:]), _grids(model, target))
            return self._launcher.copy_out(made)

    def labels(self, logits: Array, model: Geometry, target: Geometry) -> NDArray[np.uint8]:
        here = _on_device(logits)
        with _translated():
            made = self._do.labels(here.shaped(*here.shape[1:]), _grids(model, target))
            return self._launcher.copy_out(made)

    def _staging(self, number: int, shape: tuple[int, ...]) -> NDArray[np.float32]:
        """Page-locked memory for the volume of that number; grown, never shrunk."""
        size = prod(shape)
        if number == len(self._staged):
            self._staged.append(self._launcher.pinned((size,), np.float32))
        if self._staged[number].size < size:
            self._staged[number] = self._launcher.pinned((size,), np.float32)
        return self._staged[number][:size].reshape(shape)

    def _up(self, voxels: NDArray[np.float32], staged: NDArray[np.float32] | None = None) -> _Lent:
        """A volume on its way up, and the look at it queued."""
        z, y, x = voxels.shape
        device = self._do.upload_slices(voxels, (z, y, x), staged)
        return _Lent(voxels, device, self._do.check(device))

    def _all_finite(self, found: DeviceArray) -> bool:
        return not self._launcher.copy_out(found).reshape(1)[0]["bad"]


class _DeviceBlending:
    """The windows of as many layers as a slice may need are in memory; a slab of slices is made as soon as
    all of its windows are there, and each slice is written once."""

    def __init__(self, do: Operations, tiles: Tiles) -> None:
        self._do, self._tiles = do, tiles
        self._windows: dict[str, DeviceArray] = {}
        self._maps: dict[str, DeviceArray] = {}
        self._done = 0

    def add(self, maps: Mapping[str, Array]) -> None:
        given = {name: _on_device(array) for name, array in maps.items()}
        for number in range(max((array.shape[0] for array in given.values()), default=0)):
            with _translated():
                for name, array in given.items():
                    self._keep(name, array.part(number, number + 1))
                self._done += 1
                if self._done % self._tiles.layer == 0 and len(self._tiles.corners) > 1:
                    self._slab(self._done // self._tiles.layer - 1)

    def maps(self) -> dict[str, Array]:
        return dict(self._maps)

    def _keep(self, name: str, one: DeviceArray) -> None:
        """A window's map goes into memory of ours: the runner's is written again by its next call."""
        tiles, launcher = self._tiles, self._do.launcher
        if len(tiles.corners) == 1:
            self._maps[name] = launcher.empty(one.shape, one.dtype)
            launcher.copy(self._maps[name], one)
            return
        if name not in self._windows:
            count = tiles.deep * tiles.layer
            self._windows[name] = launcher.empty((count, *one.shape[1:]), one.dtype)
            self._maps[name] = launcher.empty((1, one.shape[1], *tiles.shape), np.float32)
        held = self._windows[name]
        place = self._done % held.shape[0]
        launcher.copy(held.part(place, place + 1), one)

    def _slab(self, layer: int) -> None:
        """The slices that no later layer reaches."""
        tiles = self._tiles
        z, y, x = tiles.starts
        first, end = z[layer], z[layer + 1] if layer + 1 < len(z) else tiles.shape[0]
        # Which layer lies at which place: a newer one has taken the place of the one `deep` before it.
        there = range(max(0, layer + 1 - tiles.deep), layer + 1)
        starts = tuple(z[one] for one in sorted(there, key=lambda one: one % tiles.deep))
        for name, held in self._windows.items():
            whole = self._maps[name].shaped(*self._maps[name].shape[1:])
            windows = held.part(0, len(starts) * tiles.layer)
            self._do.blend(windows, (starts, y, x), whole, first, end - first)


def _on_device(array: Array) -> DeviceArray:
    if not isinstance(array, DeviceArray):
        raise BackendError("an array on the host was given to a device's operations")
    return array


def _grids(model: Geometry, target: Geometry) -> Grids:
    """From one grid to another; the very same affine where they are the same, for then nothing is to be
    interpolated."""
    return Grids(model.affine, model.affine if model.same_grid(target) else target.affine, target.shape)


@contextmanager
def _translated() -> Iterator[None]:
    """A launcher's error as one of the engine's."""
    try:
        yield
    except LaunchError as error:
        raise BackendError(f"the voxel operations failed: {error}", "run it with --device cpu") from error
