"""Launching through cuda.core: wheels only, no compiler at install. The only importer of that library.

It works in the device's primary context, the one that ONNX Runtime, TensorRT and PyTorch use too, so their
arrays and ours are the same memory. Built, not executed: no GPU was at hand (docs/gpu.md).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npc_edge.kernels.cuda import nvrtc, source
from npc_edge.kernels.launch import (
    THREADS,
    CudaArray,
    DeviceArray,
    LaunchError,
    blocks,
    checked_copy,
    checked_sizes,
    packed,
)


class CudaCoreLauncher:
    """A Launcher (see `kernels.launch`) on one GPU. stream: anything with `__cuda_stream__`, to work on a
    stream that exists; None: one of its own. LaunchError where there is no GPU, driver or library."""

    def __init__(self, ordinal: int = 0, stream: Any = None) -> None:
        try:
            import cuda.core
            from cuda.bindings import driver
        except ImportError as error:
            raise LaunchError(f"cuda.core is not installed ({error}); pip install 'npc-edge[gpu]'") from error
        self._core, self._driver, self._ordinal = cuda.core, driver, ordinal
        try:
            self._device = cuda.core.Device(ordinal)
            self._device.set_current()
            self.stream = self._device.create_stream(stream)
        except (RuntimeError, ValueError, _cuda_error()) as error:
            raise LaunchError(f"GPU {ordinal} does not answer: {error}") from error
        self._kernels: dict[str, tuple[Any, str]] = {}
        self._kept: list[Any] = []

    @property
    def device(self) -> str:
        """The GPU's name."""
        return str(self._device.name)

    @property
    def target(self) -> str:
        """What its kernels are compiled for, such as "sm_90"."""
        return f"sm_{self._device.arch}"

    @property
    def place(self) -> str:
        """The GPU's memory."""
        return f"cuda:{self._ordinal}"

    @property
    def handle(self) -> int:
        """The CUstream."""
        return int(self.stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        """The primary context becomes the calling thread's, and stays it: every runtime here uses it."""
        try:
            self._core.Device(self._ordinal).set_current()
        except (RuntimeError, _cuda_error()) as error:
            raise LaunchError(f"GPU {self._ordinal} does not answer: {error}") from error
        yield

    def load(self) -> None:
        """Some 30 ms a source file."""
        for operation in source.OPERATIONS:
            self._load(next(iter(source.kernels(operation))))

    def free_mb(self) -> float | None:
        """As the driver says; other programs' memory is not free."""
        status, free, _ = self._driver.cuMemGetInfo()
        self._check((status,), "asking for free memory")
        return float(free) / 1e6

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> CudaArray:
        """Memory of the device's pool, given back in the stream's order."""
        kind = np.dtype(dtype)
        try:
            buffer = self._device.allocate(max(prod(shape) * kind.itemsize, 1), stream=self.stream)
        except _cuda_error() as error:
            raise LaunchError(f"no memory on the GPU for {shape} {kind}: {error}") from error
        return CudaArray(int(buffer.handle), shape, kind, buffer)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked memory; its copies run while the host goes on."""
        kind = np.dtype(dtype)
        try:
            buffer = self._core.LegacyPinnedMemoryResource().allocate(max(prod(shape) * kind.itemsize, 1))
        except _cuda_error() as error:
            raise LaunchError(f"no page-locked memory for {shape} {kind}: {error}") from error
        raw = (ctypes.c_uint8 * buffer.size).from_address(int(buffer.handle))
        raw.owner = buffer  # a ctypes array keeps what is set on it
        return np.frombuffer(raw, dtype=kind, count=prod(shape)).reshape(shape)

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        """Queued; pageable memory is read before this returns, page-locked memory later."""
        data = checked_copy(target, host)
        self._kept.append(data)
        self._check(
            self._driver.cuMemcpyHtoDAsync(
                target.pointer, data.ctypes.data, target.nbytes, self.stream.handle
            )
        )

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        """A new host array."""
        host: NDArray[Any] = np.empty(source.shape, dtype=source.dtype)
        self._check(
            self._driver.cuMemcpyDtoHAsync(
                host.ctypes.data, source.pointer, source.nbytes, self.stream.handle
            )
        )
        self.synchronize()
        return host

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Queued."""
        checked_sizes(target, source)
        self._check(
            self._driver.cuMemcpyDtoDAsync(target.pointer, source.pointer, source.nbytes, self.stream.handle)
        )

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        """Queue a kernel, compiled at its first use."""
        code, kind = self._kernels.get(kernel) or self._load(kernel)
        processors = int(self._device.properties.multiprocessor_count)
        config = self._core.LaunchConfig(grid=blocks(kind, work, processors), block=THREADS)
        words = np.frombuffer(packed(arguments), dtype="<u8")
        try:
            self._core.launch(self.stream, config, code, *words)
        except _cuda_error() as error:
            raise LaunchError(f"{kernel} was not launched: {error}") from error

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """A CUDA graph of what `queue` queues on this stream. `queue` may raise errors of its own."""
        try:
            builder = self.stream.create_graph_builder()
            try:
                builder.begin_building()
                queue()
                graph = builder.end_building().complete()
            finally:
                builder.close()  # ends a capture that something broke off
        except _cuda_error() as error:
            raise LaunchError(f"no graph was captured: {error}") from error
        return lambda: self._replay(graph)

    def mark(self) -> Any:
        """An event."""
        return self.stream.record(options=self._core.EventOptions(timing_enabled=True))

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Between two events."""
        end.sync()
        return float(end - start)

    def synchronize(self) -> None:
        """Wait for the stream; LaunchError when a kernel failed."""
        try:
            self.stream.sync()
        except _cuda_error() as error:
            raise LaunchError(f"a kernel failed: {error}") from error
        self._kept.clear()

    def _replay(self, graph: Any) -> None:
        try:
            graph.launch(self.stream)
        except _cuda_error() as error:
            raise LaunchError(f"a graph was not launched: {error}") from error

    def _load(self, kernel: str) -> tuple[Any, str]:
        operation, _ = source.home(kernel)
        try:
            module = self._core.ObjectCode.from_cubin(nvrtc.cubin(operation, self.target))
            for name, kind in source.kernels(operation).items():
                self._kernels[name] = (module.get_kernel(name), kind)
        except (nvrtc.CompileError, _cuda_error()) as error:
            raise LaunchError(str(error)) from error
        return self._kernels[kernel]

    def _check(self, given: tuple[Any, ...], what: str = "a copy") -> None:
        if given[0] != self._driver.CUresult.CUDA_SUCCESS:
            raise LaunchError(f"{what} failed: {given[0].name}")


def _cuda_error() -> type[Exception]:
    from cuda.core._utils.cuda_utils import CUDAError  # the library has no public name for it

    kind: type[Exception] = CUDAError
    return kind
