"""Where a session's voxel operations run: on the device of the networks, or, said aloud, on the processor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npc_edge.engine.device_voxels import DeviceVoxels
from npc_edge.engine.errors import BackendError, UsageError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.choice import Choice
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.pairs import Pair
from npc_edge.engine.types import Options
from npc_edge.engine.voxel_check import difference
from npc_edge.engine.voxels import Voxels
from npc_edge.kernels.launch import Launcher, LaunchError, open_default

_ON_THE_PROCESSOR = "the voxel operations run on the processor"


@dataclass(frozen=True)
class Placed:
    """voxels: by network, those that run on a device; the processor's around every other. launcher: theirs,
    which runners on that device share. notes: a line each for what is on the processor and might not be."""

    voxels: Mapping[str, Voxels]
    launcher: Launcher | None = None
    notes: tuple[str, ...] = ()


def wanted_device(options: Options, given: Launcher | None) -> Options:
    """The options with the device of the launcher that a host program gives; UsageError when they name
    another."""
    if given is None:
        return options
    if options.device not in ("auto", given.place):
        raise UsageError(f"the launcher works on {given.place}, the options say {options.device}")
    return replace(options, device=given.place)


def place(bundle: Bundle, choices: Sequence[Choice], gpu: Gpu | None, given: Launcher | None) -> Placed:
    """Open the voxel operations that fit what was chosen to run each network.

    They are tried against the processor's first. Where they cannot serve the processor's do, and a note says
    so; with a launcher that was given it is a BackendError."""
    launcher, notes = given, list[str]()
    if launcher is None and gpu is not None and any(one.pair.on_gpu for one in choices):
        try:
            launcher = open_default(gpu.number)
        except LaunchError as error:
            notes.append(f"{_ON_THE_PROCESSOR}: {error}")
    if launcher is None:
        return Placed({}, None, tuple(notes))
    if bundle.manifest.networks[0].nnunet is not None:
        note = f"{_ON_THE_PROCESSOR}: nnU-Net's own order and rounding are kept there"
        return Placed({}, launcher, (*notes, note))
    voxels = DeviceVoxels(launcher)
    if wrong := _wrong(voxels):
        if given is not None:
            raise BackendError(f"the voxel operations cannot run on {voxels.describe()}: {wrong}")
        return Placed({}, launcher, (*notes, f"{_ON_THE_PROCESSOR}: {wrong}"))
    here = {one.network: voxels for one in choices if _takes_arrays(one.pair, launcher)}
    notes += [
        f"network {one.network} and the voxel operations around it run on the processor: "
        f"{one.pair} takes no arrays on {launcher.place}"
        for one in choices
        if one.network not in here
    ]
    return Placed(here, launcher, tuple(notes))


def _wrong(voxels: DeviceVoxels) -> str:
    """Why they cannot serve, "" where they can: compiled, and tried against the processor's."""
    try:
        voxels.load()
    except BackendError as error:
        return error.message
    found = difference(voxels)
    return f"on {voxels.describe()} they differ: {found}" if found else ""


def _takes_arrays(pair: Pair, launcher: Launcher) -> bool:
    """Every runner of a GPU takes arrays there; on the host's memory ONNX Runtime does."""
    return pair.backend == "onnxruntime" if launcher.place == "cpu" else pair.on_gpu
