"""A TensorRT of values: a module whose engine doubles its input, and a GPU whose memory is the host's.

What it cannot show is what only a GPU shows; it shows that shapes, addresses, order and errors are right.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.kernels.cuda.host import HostLauncher
from npc_edge.kernels.launch import DeviceArray

SHAPE = (1, 2, 3, 4, 5)
KERNELS = b"kernels"


def view(address: int, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
    """The array at an address."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype=dtype).reshape(shape)


class HostMemory(HostLauncher):
    """A GPU's memory and stream in the host's memory, without kernels. log: what was done, in order."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.memory_mb, self.held_bytes = None, 0
        self.log: list[str] = [f"open {number}"]

    @property
    def place(self) -> str:
        return f"cuda:{self.number}"

    @property
    def handle(self) -> int:
        return 77

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        self.log.append("upload")
        super().copy_in(target, host)

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        self.log.append("download")
        return super().copy_out(source)

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        self.log.append("copy")
        super().copy(target, source)

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        self.log.append("capture")
        return queue

    def synchronize(self) -> None:
        self.log.append("wait")


class _Context:
    def __init__(self, queued: bool) -> None:
        self.addresses: dict[str, int] = {}
        self.queued = queued

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        assert (name, shape) == ("image", SHAPE)
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return SHAPE

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == 77
        given = view(self.addresses["image"], SHAPE, np.float32)
        view(self.addresses["map"], SHAPE, np.float16)[...] = 2 * given
        return self.queued


class _Cache:
    def __init__(self) -> None:
        self.loaded = b""

    def deserialize(self, blob: bytes) -> bool:
        self.loaded = blob
        return True

    def serialize(self) -> bytes:
        return KERNELS


class _Engine:
    num_io_tensors = 2

    def __init__(self, plan: bytes) -> None:
        self._queued = b"busy" not in plan
        self._none = b"full" in plan

    def get_tensor_name(self, number: int) -> str:
        return ("map", "image")[number]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "image" else "out"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return (-1, *SHAPE[1:])

    def get_tensor_dtype(self, name: str) -> str:
        return "float32" if name == "image" else "float16"

    def create_execution_context(self, config: Any = None) -> _Context | None:
        return None if self._none else _Context(self._queued)


class _RtxEngine(_Engine):
    def create_runtime_config(self) -> Any:
        def create() -> _Cache:
            return _Cache()

        return SimpleNamespace(
            create_runtime_cache=create, set_runtime_cache=lambda cache: True, cuda_graph_strategy=None
        )


class _Logger:
    INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

    def __init__(self) -> None: ...


def module(rtx: bool) -> Any:
    """What both have; what only TensorRT-RTX has with `rtx`. Plans that say "bad", "full" or "busy" fail."""

    class Runtime:
        def __init__(self, log: Any) -> None:
            self._log = log

        def deserialize_cuda_engine(self, plan: bytes) -> _Engine | None:
            if b"bad" in plan:
                self._log.log(_Logger.ERROR, "it was built\nfor another GPU")
                return None
            return (_RtxEngine if rtx else _Engine)(plan)

    made: dict[str, Any] = {
        "ILogger": _Logger,
        "Runtime": Runtime,
        "TensorIOMode": SimpleNamespace(INPUT="in", OUTPUT="out"),
        "nptype": np.dtype,
    }
    if rtx:
        made["CudaGraphStrategy"] = SimpleNamespace(WHOLE_GRAPH_CAPTURE="whole")
    return SimpleNamespace(**made)
