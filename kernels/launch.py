"""How kernels are launched, whoever owns the GPU: one small protocol, and the arrays that live beyond it.

Three follow it: `cuda.cuda_core` (the default), `cuda.py_cuda` (a host's existing PyCUDA context) and
`cuda.host` (the same bodies compiled by g++, for tests and measurements). Everything but `copy_out`,
`elapsed_ms` and `synchronize` only queues work, in order, on one stream.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from math import prod
from typing import Any, Protocol

import numpy as np
from numpy.typing import DTypeLike, NDArray

THREADS = 256
"""In a block; the kernels' launch bounds say the same."""

WARP = 32

ARGUMENT_BYTES = 256
"""Of a kernel's arguments: 32 words (see common.cuh)."""


class LaunchError(RuntimeError):
    """The GPU, its driver or a library for it is not there, or refused; says which."""


@dataclass(frozen=True, eq=False)
class DeviceArray:
    """A C-contiguous array in device memory. owner keeps the memory alive."""

    pointer: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    owner: Any = field(default=None, repr=False)

    @property
    def nbytes(self) -> int:
        """Bytes from the first element to the end of the last."""
        return prod(self.shape) * self.dtype.itemsize

    def part(self, start: int, stop: int) -> DeviceArray:
        """[start:stop] along the first axis, sharing the memory."""
        first, rest = self.shape[0], self.shape[1:]
        if not 0 <= start <= stop <= first:
            raise ValueError(f"{start}:{stop} does not lie within an axis of {first}")
        offset = start * prod(rest) * self.dtype.itemsize
        return type(self)(self.pointer + offset, (stop - start, *rest), self.dtype, self)

    def shaped(self, *shape: int) -> DeviceArray:
        """The same memory in another shape."""
        if prod(shape) != prod(self.shape):
            raise ValueError(f"an array of shape {self.shape} has no shape {shape}")
        return type(self)(self.pointer, shape, self.dtype, self)


class CudaArray(DeviceArray):
    """A DeviceArray on a GPU: ONNX Runtime, TensorRT, PyTorch or CuPy take it without a copy."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        """Version 3 without a stream: whoever takes it waits for, or works on, the launcher's stream."""
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.pointer, False),
            "strides": None,
            "version": 3,
        }


def from_interface(given: Any) -> CudaArray:
    """Anything with `__cuda_array_interface__` as an array of ours, without a copy.

    TypeError without one, ValueError unless it is C-contiguous and unmasked.
    """
    try:
        interface = given.__cuda_array_interface__
    except AttributeError as error:
        raise TypeError(f"a {type(given).__name__} has no __cuda_array_interface__") from error
    shape, dtype = tuple(int(n) for n in interface["shape"]), np.dtype(interface["typestr"])
    strides, packed = interface.get("strides"), dtype.itemsize
    if interface.get("mask") is not None:
        raise ValueError("a masked array is not taken")
    if strides is not None:
        for length, stride in zip(reversed(shape), reversed(strides), strict=True):
            if length > 1 and stride != packed:
                raise ValueError("a C-contiguous array is wanted")
            packed *= length
    return CudaArray(int(interface["data"][0]), shape, dtype, given)


class Launcher(Protocol):
    """A device with its memory and one stream."""

    @property
    def device(self) -> str:
        """The device's name."""

    @property
    def place(self) -> str:
        """Where its memory is: "cuda:0", or "cpu"."""

    @property
    def handle(self) -> int:
        """Its stream, as runtimes take it; 0: there is none to share."""

    def current(self) -> AbstractContextManager[None]:
        """While it lasts the calling thread works on this device. Whoever comes from another thread than the
        one that made the launcher asks for it, for itself and for a runtime it calls."""

    def load(self) -> None:
        """Compile every kernel now, not at its first use. LaunchError where what compiles them is missing."""

    def free_mb(self) -> float | None:
        """Megabytes (1e6 bytes) of its memory that are free now; None: nobody says."""

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Memory with nothing particular in it, given back when nobody holds the array any more."""

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Host memory that `copy_in` reads while the host goes on: decode a slice into it, queue its copy,
        decode the next. It must not be written again before `synchronize`."""

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        """Host → device; shape and dtype must be the target's."""

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        """Device → a new host array, once all that was queued before is done."""

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Device → device, of the same number of bytes."""

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        """Queue a kernel. arguments: a structured scalar of `cuda.arguments`. work: rows or elements."""

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """What `queue` queues, as one graph to queue again; `queue` itself where there are no graphs. It has
        run once before: nothing in it may wait, nor take memory."""

    def mark(self) -> Any:
        """A point in the stream."""

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Milliseconds between two marks, once both are passed."""

    def synchronize(self) -> None:
        """Wait until all that was queued is done."""


def open_default(ordinal: int) -> Launcher:
    """The launcher of the default library on a GPU; LaunchError where library, driver or GPU is missing."""
    from npc_edge.kernels.cuda.cuda_core import CudaCoreLauncher

    return CudaCoreLauncher(ordinal)


def blocks(kind: str, work: int, processors: int) -> int:
    """How many blocks a kernel of a kind (ROWS, EACH, REDUCE) gets on a GPU of so many multiprocessors.

    A warp a row, a thread an element; more rounds rather than more blocks than the GPU holds a few times
    over, and only what it holds at once where every block ends with atomics.
    """
    units = THREADS // WARP if kind == "ROWS" else THREADS
    most = processors * (4 if kind == "REDUCE" else 32)
    return max(1, min(-(-work // units), most))


def packed(arguments: np.void) -> bytes:
    """A kernel's arguments as the 256 bytes it takes, 32 words one after the other."""
    raw = arguments.tobytes()
    if len(raw) > ARGUMENT_BYTES:
        raise ValueError(f"{len(raw)} bytes of arguments, at most {ARGUMENT_BYTES} are passed")
    return raw.ljust(ARGUMENT_BYTES, b"\0")


def checked_copy(target: DeviceArray, host: NDArray[Any]) -> NDArray[Any]:
    """The host array as it can be copied byte by byte; ValueError when it is not what the target holds."""
    if host.shape != target.shape or host.dtype != target.dtype:
        wanted = f"{target.shape} {target.dtype}"
        raise ValueError(f"an array {host.shape} {host.dtype} does not fit into one {wanted}")
    return np.ascontiguousarray(host)


def checked_sizes(target: DeviceArray, source: DeviceArray) -> None:
    """ValueError unless both have the same number of bytes."""
    if target.nbytes != source.nbytes:
        raise ValueError(f"{source.nbytes} bytes are not copied into {target.nbytes}")
