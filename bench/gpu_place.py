"""Where the GPU suite runs, and how large: one value that its processes share."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.kernels.cuda.host import OPTIMISED, HostLauncher, build
from npc_edge.kernels.launch import Launcher, LaunchError
from npc_edge.kernels.sampling import Shape

Row = dict[str, Any]

NEEDS_A_GPU = "this bench needs an NVIDIA GPU with its driver"


@dataclass(frozen=True)
class Place:
    """number: the GPU, None for the processor, where g++ compiles the kernels' bodies: it shows that all but
    the device's own part works, and its times say nothing of a GPU. until: on the monotonic clock, when a
    step shall end. small: tiny volumes and networks, to see that all of it runs."""

    number: int | None = 0
    launcher: str = "cuda-core"
    small: bool = False
    until: float = float("inf")

    @property
    def device(self) -> str:
        """What PyTorch and ONNX Runtime call its kind."""
        return "cpu" if self.number is None else "cuda"

    @property
    def torch_device(self) -> str:
        """What PyTorch calls it."""
        return "cpu" if self.number is None else f"cuda:{self.number}"

    @property
    def left_s(self) -> float:
        """Seconds left."""
        return max(0.0, self.until - time.monotonic())

    @property
    def study(self) -> Shape:
        """(Z, Y, X) of each of two sequences."""
        return (34, 96, 96) if self.small else (36, 512, 512)

    @property
    def volume(self) -> Shape:
        """(Z, Y, X) on which bandwidth is measured."""
        return (8, 24, 24) if self.small else (256, 256, 256)


def open_launcher(place: Place) -> Launcher:
    """The launcher of a place. BackendError where its library, the driver, the GPU or g++ is missing."""
    try:
        if place.number is None:
            return _on_the_processor(("-O1",) if place.small else OPTIMISED)
        if place.launcher == "pycuda":
            from npc_edge.kernels.cuda.py_cuda import PyCudaLauncher

            return PyCudaLauncher(place.number)
        from npc_edge.kernels.cuda.cuda_core import CudaCoreLauncher

        return CudaCoreLauncher(place.number)
    except LaunchError as error:
        raise BackendError(str(error).rstrip("."), NEEDS_A_GPU) from error


def _on_the_processor(options: tuple[str, ...]) -> Launcher:
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as folder:
        # The library stays mapped when its file is gone.
        return HostLauncher(build(Path(folder), options), available_cores())
