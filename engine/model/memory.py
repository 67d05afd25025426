"""Will it fit? What a network's windows take, on the host and on a GPU, planned before the first of them.

An estimate, on the safe side: what the engine itself allocates is counted exactly; what a runtime needs for
one window is a number of bytes a voxel, measured as the growth of a process (docs/runners.md). A plan that
does not fit is made smaller, several windows at once becoming fewer; one window that does not fit is refused,
for a process that the system ends for its memory says nothing at all.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial

from npc_edge.engine.errors import Refusal
from npc_edge.engine.machine import available_memory_mb
from npc_edge.engine.model.manifest import Manifest, NetworkSpec
from npc_edge.engine.types import RunnerInfo
from npc_edge.engine.voxels import Tiles

Shape = tuple[int, int, int]

_WORK = {"openvino": 640, "onnxruntime": 1280}
"""Bytes a voxel of one window, of a backend's own work on a CPU. ONNX Runtime unfolds every convolution."""
_WORK_ON_GPU = 1280
_SHARE = 0.9  # of what is free: other programs go on
_CONTEXT_MB = 600.0  # a GPU's context, its libraries' code and workspaces


@dataclass(frozen=True)
class Room:
    """What is free. None: nobody says, so nothing is refused for it. on_device: the voxel operations work
    there, so what the engine holds lies there too; else only the network does."""

    host_mb: float | None
    device_mb: float | None = None
    on_device: bool = False


@dataclass(frozen=True)
class MemoryPlan:
    """windows: how many cover the grid. at_once: how many go through the network together; less than `wanted`
    where memory is short. host_mb, device_mb: what that takes, beside what the process holds already."""

    network: str
    windows: int
    at_once: int
    wanted: int
    host_mb: float
    device_mb: float

    def sentence(self) -> str:
        """In words, for a report."""
        short = f" instead of {self.wanted}, for memory is short" if self.at_once < self.wanted else ""
        device = f", {self.device_mb:.0f} MB on the GPU" if self.device_mb else ""
        return f"{self.windows} windows, {self.at_once} at once{short}: {self.host_mb:.0f} MB{device}"


def room(device_mb: float | None = None, on_device: bool = False) -> Room:
    """What is free on this machine now. device_mb: of the GPU where one is used; see `Room`."""
    return Room(available_memory_mb(), device_mb, on_device)


def plan(
    network: NetworkSpec, manifest: Manifest, shape: Shape, runner: RunnerInfo, free: Room, wanted: int = 1
) -> MemoryPlan:
    """How many windows of a grid (Z, Y, X) go through the network at once, `wanted` at most.

    Refusal TOO_LARGE when not even one at a time fits.
    """
    count = math.prod(_windows(n, w, network.overlap) for n, w in zip(shape, network.window, strict=True))
    at_once = max(1, min(wanted, count))
    needs = partial(_needs_on_device, network, manifest, shape)
    if not free.on_device:
        needs = partial(_needs, network, manifest, shape, runner)
    made = needs(MemoryPlan(network.name, count, at_once, at_once, 0.0, 0.0))
    while made.at_once > 1 and not _fits(made, free):
        made = needs(replace(made, at_once=made.at_once // 2))
    if not _fits(made, free):
        raise Refusal(
            "TOO_LARGE",
            f"network {network.name} needs about {max(made.host_mb, made.device_mb):.0f} MB for this field "
            "of view, more than is free",
            "close other programs, or run it on a machine with more memory",
        )
    return made


def channels(network: NetworkSpec, manifest: Manifest) -> int:
    """Of all maps the network gives together, as the manifest's labels have it."""
    labels = 1 + max((label.code for label in manifest.labels), default=1)
    size = {"anatomy": labels, "segmentation": labels, "tumour": 1, "heatmap": 1, "detection": 0}
    return sum(size[output.kind] for output in network.outputs)


def _needs(
    network: NetworkSpec, manifest: Manifest, shape: Shape, runner: RunnerInfo, made: MemoryPlan
) -> MemoryPlan:
    grid, window = math.prod(shape), math.prod(network.window)
    given, maps = len(network.inputs), channels(network, manifest)
    # The input, the maps it becomes, and where windows overlap their weights.
    held = 4 * grid * (given + maps + (made.windows > 1))
    # What is handed over, and what comes back before it is added.
    passed = 4 * window * made.at_once * (given + 2 * maps)
    on_gpu = runner.device != "cpu"
    work = window * made.at_once * (_WORK_ON_GPU if on_gpu else _WORK.get(runner.backend, 0))
    host = held + passed + (0 if on_gpu else work)
    device = _CONTEXT_MB + (passed + work) / 1e6 if on_gpu else 0.0
    return replace(made, host_mb=round(host / 1e6, 1), device_mb=round(device, 1))


def _needs_on_device(network: NetworkSpec, manifest: Manifest, shape: Shape, made: MemoryPlan) -> MemoryPlan:
    """Where volumes and the opened network lie on the device already, and are not free: the input, the maps
    it becomes, the windows they are blended from, and what is passed to and from the network."""
    tiles = Tiles.over(shape, network)
    grid, window = math.prod(shape), math.prod(network.window)
    given, maps = len(network.inputs), channels(network, manifest)
    held = 4 * grid * (given + maps)
    kept = 4 * window * maps * tiles.deep * tiles.layer if made.windows > 1 else 0
    passed = window * made.at_once * (4 * (given + maps) + _WORK_ON_GPU)
    return replace(made, device_mb=round((held + kept + passed) / 1e6, 1))


def _fits(made: MemoryPlan, free: Room) -> bool:
    host = free.host_mb is None or made.host_mb <= _SHARE * free.host_mb
    return host and (free.device_mb is None or made.device_mb <= _SHARE * free.device_mb)


def _windows(length: int, window: int, overlap: float) -> int:
    """As many as `sliding_window` spreads along an axis; one where the grid is smaller (it is padded)."""
    return math.ceil(max(0, length - window) / max(1.0, window * (1 - overlap))) + 1
