"""Launching through PyCUDA, for hosts that live in a PyCUDA context. The only importer of that library.

The context that is current is used as it is; where there is none, the device's primary one is retained, which
ONNX Runtime, TensorRT and cuda.core share. Never `pycuda.autoinit`, which makes a third. PyCUDA is installed
from source, with a C++ compiler and the CUDA headers. Built, not executed: no GPU was at hand (docs/gpu.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npc_edge.kernels.cuda import nvrtc, source
from npc_edge.kernels.launch import (
    ARGUMENT_BYTES,
    THREADS,
    CudaArray,
    DeviceArray,
    LaunchError,
    blocks,
    checked_copy,
    checked_sizes,
    packed,
)


class PyCudaLauncher:
    """A Launcher (see `kernels.launch`) in the current context, or in the primary one of `ordinal`.

    stream: a `pycuda.driver.Stream` to work on; None: one of its own. Call `close` to give back a context
    that it retained itself. LaunchError where there is no GPU, driver or library.
    """

    def __init__(self, ordinal: int = 0, stream: Any = None) -> None:
        try:
            import pycuda.driver as driver
        except (ImportError, OSError) as error:
            raise LaunchError(f"PyCUDA is not there ({error}); pip install 'npc-edge[pycuda]'") from error
        self._driver = driver
        self._retained: Any = None
        try:
            driver.init()
            if driver.Context.get_current() is None:
                self._retained = driver.Device(ordinal).retain_primary_context()
                self._retained.push()
            self._device = driver.Context.get_device()
            self.stream = driver.Stream() if stream is None else stream
        except driver.Error as error:
            raise LaunchError(f"GPU {ordinal} does not answer: {error}") from error
        self._context = driver.Context.get_current() if self._retained is None else self._retained
        self._ordinal = ordinal if self._retained is not None else _ordinal(driver, self._device)
        attribute = driver.device_attribute.MULTIPROCESSOR_COUNT
        self._processors = int(self._device.get_attribute(attribute))
        self._kernels: dict[str, tuple[Any, str]] = {}
        self._kept: list[Any] = []

    @property
    def device(self) -> str:
        """The GPU's name."""
        return str(self._device.name())

    @property
    def target(self) -> str:
        """What its kernels are compiled for, such as "sm_90"."""
        major, minor = self._device.compute_capability()
        return f"sm_{major}{minor}"

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
        """The context is pushed where the calling thread has none, and popped again."""
        if self._driver.Context.get_current() is not None:
            yield
            return
        self._call(self._context.push)
        try:
            yield
        finally:
            self._context.pop()

    def load(self) -> None:
        """Some 30 ms a source file."""
        for operation in source.OPERATIONS:
            self._load(next(iter(source.kernels(operation))))

    def free_mb(self) -> float | None:
        """As the driver says; other programs' memory is not free."""
        try:
            return float(self._driver.mem_get_info()[0]) / 1e6
        except self._driver.Error as error:
            raise LaunchError(f"the GPU does not say what memory is free: {error}") from error

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> CudaArray:
        """Memory of the context; it is freed no earlier than the next `synchronize`, for kernels may be using
        it."""
        kind = np.dtype(dtype)
        try:
            memory = self._driver.mem_alloc(max(prod(shape) * kind.itemsize, 1))
        except self._driver.Error as error:
            raise LaunchError(f"no memory on the GPU for {shape} {kind}: {error}") from error
        self._kept.append(memory)
        return CudaArray(int(memory), shape, kind, memory)

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Page-locked memory; its copies run while the host goes on."""
        try:
            return np.asarray(self._driver.pagelocked_empty(shape, np.dtype(dtype)))
        except self._driver.Error as error:
            raise LaunchError(f"no page-locked memory for {shape} {np.dtype(dtype)}: {error}") from error

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        """Queued; pageable memory is read before this returns, page-locked memory later."""
        data = checked_copy(target, host)
        self._kept.append(data)
        self._call(self._driver.memcpy_htod_async, target.pointer, data, self.stream)

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        """A new host array."""
        host: NDArray[Any] = np.empty(source.shape, dtype=source.dtype)
        self._call(self._driver.memcpy_dtoh_async, host, source.pointer, self.stream)
        self.synchronize()
        return host

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """Queued."""
        checked_sizes(target, source)
        self._call(self._driver.memcpy_dtod_async, target.pointer, source.pointer, source.nbytes, self.stream)

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        """Queue a kernel, compiled at its first use."""
        function, kind = self._kernels.get(kernel) or self._load(kernel)
        grid, block = (blocks(kind, work, self._processors), 1), (THREADS, 1, 1)
        self._call(function.prepared_async_call, grid, block, self.stream, packed(arguments))

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """PyCUDA has no documented way to capture a stream: nothing is captured."""
        return queue

    def mark(self) -> Any:
        """An event."""
        event = self._driver.Event()
        event.record(self.stream)
        return event

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """Between two events."""
        end.synchronize()
        return float(start.time_till(end))

    def synchronize(self) -> None:
        """Wait for the stream; LaunchError when a kernel failed."""
        self._call(self.stream.synchronize)
        self._kept.clear()

    def close(self) -> None:
        """Give back the primary context, where it was retained here."""
        if self._retained is not None:
            self._kernels.clear()
            self._retained.pop()
            self._retained = None

    def _load(self, kernel: str) -> tuple[Any, str]:
        operation, _ = source.home(kernel)
        try:
            module = self._driver.module_from_buffer(nvrtc.cubin(operation, self.target))
        except (nvrtc.CompileError, self._driver.Error) as error:
            raise LaunchError(str(error)) from error
        for name, kind in source.kernels(operation).items():
            function = module.get_function(name)
            function.prepare([f"{ARGUMENT_BYTES}s"])
            self._kernels[name] = (function, kind)
        return self._kernels[kernel]

    def _call(self, function: Any, *given: Any) -> None:
        try:
            function(*given)
        except self._driver.Error as error:
            raise LaunchError(f"the GPU refused: {error}") from error


def _ordinal(driver: Any, device: Any) -> int:
    """The driver's number of a device."""
    numbers = range(driver.Device.count())
    return next(n for n in numbers if driver.Device(n).pci_bus_id() == device.pci_bus_id())
