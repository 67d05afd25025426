"""TensorRT on an NVIDIA GPU: 10.x, 11.x and TensorRT-RTX through one module value. Built, not executed:
no such GPU was at hand, and the first machine that has one must pass the golden cases (docs/runners.md).

With its builder the only importer of tensorrt and tensorrt_rtx. What only some versions have is looked for:
a runtime configuration with a cache of compiled kernels and whole-graph capture (RTX); where the module has
no capture of its own, the launch is captured here.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.feed import Shape, checked, first_line
from npc_edge.engine.model.runners.tensorrt_build import TensorRt, quiet_log
from npc_edge.engine.types import RunnerInfo

Launch = Callable[[], None]
_FAULTS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)
_HINT = "leave --backend at auto, or see npc-edge doctor"


@dataclass(frozen=True)
class DeviceArray:
    """A C-contiguous array that stays on the GPU, valid until the runner's next call."""

    address: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.dtype.itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "typestr": self.dtype.str,
            "data": (self.address, False),
            "strides": None,
            "version": 3,
        }


class DeviceMemory(Protocol):
    """One GPU's memory and one stream; every call is queued on the stream but `wait`."""

    stream: int
    """The stream's handle, as runtimes take it."""

    def allocate(self, size: int) -> int:
        """The address of `size` bytes, kept until `close`."""
        ...

    def upload(self, address: int, array: NDArray[Any] | DeviceArray) -> None: ...

    def download(self, address: int, array: NDArray[Any]) -> None: ...

    def capture(self, launch: Launch) -> Launch:
        """What `launch` queues, as one graph to queue again."""
        ...

    def wait(self) -> None: ...

    def close(self) -> None: ...


class KernelStore(Protocol):
    """Where what the runtime compiled is kept for the next process."""

    def load(self) -> bytes: ...

    def save(self, blob: bytes) -> None: ...


@dataclass(frozen=True)
class Engine:
    """What is to run. plan: gives its bytes, signature or hash checked, or raises. name: of the artefact."""

    plan: Callable[[], bytes]
    name: str
    precision: str
    kernels: KernelStore | None = None


class TensorRtRunner:
    """One engine on one GPU: fixed shapes, one window at a time, buffers allocated once, one stream.

    memory: opens the GPU's memory; None for cuda.core's. Raises BackendError when no GPU answers, when the
    engine is not for it, or when a run fails; BundleError for inputs the engine does not take.
    """

    at_once = 1

    def __init__(
        self, engine: Engine, trt: TensorRt, gpu: Gpu, memory: Callable[[int], DeviceMemory] | None = None
    ) -> None:
        self._engine, self._trt, self._gpu = engine, trt, gpu
        self._open_memory = open_device if memory is None else memory
        self._open = ExitStack()
        self._memory: DeviceMemory | None = None
        self._context: Any = None
        self._launch: Launch | None = None
        self._shapes: dict[str, tuple[tuple[int, ...], np.dtype[Any]]] = {}
        self._inputs: dict[str, Shape] = {}
        self._addresses: dict[str, int] = {}

    def __enter__(self) -> Self:
        plan = self._engine.plan()
        with ExitStack() as opening:
            try:
                self._memory = self._open_memory(self._gpu.number)
                opening.callback(self._memory.close)
                self._start(plan)
            except _FAULTS as error:
                raise BackendError(f"{self._who()} does not start: {first_line(error)}", _HINT) from error
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._launch = self._context = None
        self._open.close()
        self._memory = None

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs, on the host or the GPU → all named outputs on the host, float32."""
        found = self.infer_on_device(inputs)
        assert self._memory is not None
        outputs: Arrays = {}
        try:
            for name, array in found.items():
                host = np.empty(array.shape, array.dtype)
                self._memory.download(array.address, host)
                outputs[name] = host
            self._memory.wait()
        except _FAULTS as error:
            raise BackendError(f"{self._who()} failed: {first_line(error)}") from error
        return {name: np.asarray(array, dtype=np.float32) for name, array in outputs.items()}

    def infer_on_device(self, inputs: Arrays) -> dict[str, DeviceArray]:
        """The same with outputs left on the GPU, queued on the runner's stream. An input may be anything with
        `__cuda_array_interface__`, of the engine's own type, ready on that stream."""
        if self._memory is None or self._launch is None:
            raise BackendError(f"the runner of {self._engine.name} is not open")
        on_host = {n: a for n, a in inputs.items() if not hasattr(a, "__cuda_array_interface__")}
        wanted = {n: shape for n, shape in self._inputs.items() if n in on_host or n not in inputs}
        feed = checked(self._engine.name, wanted, on_host)
        try:
            for name, array in feed.items():
                self._memory.upload(self._addresses[name], array.astype(self._shapes[name][1], copy=False))
            for name in set(inputs) - set(on_host):
                self._take(name, inputs[name])
            self._launch()
        except _FAULTS as error:
            raise BackendError(f"{self._who()} failed: {first_line(error)}") from error
        return {
            name: DeviceArray(self._addresses[name], shape, dtype)
            for name, (shape, dtype) in self._shapes.items()
            if name not in self._inputs
        }

    def describe(self) -> RunnerInfo:
        """backend, device, precision of the file, its name, the runtime's version, compute capability."""
        return RunnerInfo(
            backend=self._trt.name,
            device=self._gpu.device,
            precision=self._engine.precision,
            artefact=self._engine.name,
            version=self._trt.version,
            isa=self._gpu.capability,
        )

    def _who(self) -> str:
        return f"{self._trt.name} {self._trt.version} on {self._gpu.device} with {self._engine.name}"

    def _start(self, plan: bytes) -> None:
        """Deserialise, configure, allocate every tensor, run once, capture."""
        module, log = self._trt.module, quiet_log(self._trt.module)
        runtime = module.Runtime(log)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"{self._who()}: the engine does not load: {log.last}", _HINT)
        cache, captures = None, hasattr(module, "CudaGraphStrategy")
        if hasattr(engine, "create_runtime_config"):
            config = engine.create_runtime_config()
            if hasattr(config, "create_runtime_cache"):
                cache = self._kernels(config)
            if captures:
                config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._context = engine.create_execution_context(config)
        else:
            self._context, captures = engine.create_execution_context(), False
        if self._context is None:
            raise BackendError(f"{self._who()} has no room for it: {log.last}", _HINT)
        self._allocate(module, engine)
        # Kept with the context: an engine must outlive it, and a runtime its engine.
        self._kept = (runtime, engine)
        self._enqueue()  # the first run compiles and settles what a capture may not
        assert self._memory is not None
        self._memory.wait()
        self._launch = self._enqueue if captures else self._memory.capture(self._enqueue)
        if cache is not None and self._engine.kernels is not None:
            self._engine.kernels.save(bytes(memoryview(cache.serialize())))

    def _kernels(self, config: Any) -> Any:
        cache = config.create_runtime_cache()
        known = b"" if self._engine.kernels is None else self._engine.kernels.load()
        if known:
            cache.deserialize(known)  # False when it is another version's or GPU's: then it is compiled anew
        config.set_runtime_cache(cache)
        return cache

    def _allocate(self, module: Any, engine: Any) -> None:
        assert self._memory is not None
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            given = engine.get_tensor_mode(name) == module.TensorIOMode.INPUT
            shape = tuple(int(size) for size in engine.get_tensor_shape(name))
            if given and -1 in shape:  # a free batch is 1; the builder lets no other axis be free
                shape = (1, *shape[1:])
                self._context.set_input_shape(name, shape)
            self._shapes[name] = (shape, np.dtype(module.nptype(engine.get_tensor_dtype(name))))
            if given:
                self._inputs[name] = shape
        for name, (shape, dtype) in self._shapes.items():
            if -1 in shape:
                shape = tuple(int(size) for size in self._context.get_tensor_shape(name))
                self._shapes[name] = (shape, dtype)
            size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
            self._addresses[name] = self._memory.allocate(max(size, 1))
            self._context.set_tensor_address(name, self._addresses[name])

    def _enqueue(self) -> None:
        assert self._memory is not None
        if not self._context.execute_async_v3(self._memory.stream):
            raise BackendError(f"{self._who()} could not be queued")

    def _take(self, name: str, array: Any) -> None:
        """An input that is on the GPU already is copied to where the captured graph reads it."""
        held = array.__cuda_array_interface__
        if name not in self._inputs:
            raise BundleError(f"{self._engine.name} wants inputs {sorted(self._inputs)}, not {name}")
        shape, dtype = self._shapes[name]
        if tuple(held["shape"]) != shape or np.dtype(held["typestr"]) != dtype or held.get("strides"):
            raise BundleError(
                f"{self._engine.name} wants {name} as contiguous {dtype} of shape {list(shape)}"
            )
        assert self._memory is not None
        self._memory.upload(self._addresses[name], DeviceArray(int(held["data"][0]), shape, dtype))


class _CudaCore:
    """`DeviceMemory` by cuda.core, in the GPU's primary context: the one other runtimes use too."""

    def __init__(self, number: int) -> None:
        from cuda.core import Buffer, Device

        self._buffer = Buffer
        self._device = Device(number)
        self._device.set_current()
        self._stream = self._device.create_stream()
        self.stream = int(self._stream.handle)
        self._blocks: dict[int, Any] = {}
        self._graphs: list[Any] = []

    def allocate(self, size: int) -> int:
        block = self._device.allocate(size, stream=self._stream)
        self._blocks[int(block.handle)] = block
        return int(block.handle)

    def upload(self, address: int, array: NDArray[Any] | DeviceArray) -> None:
        source = array.address if isinstance(array, DeviceArray) else array.ctypes.data
        borrowed = self._buffer.from_handle(source, array.nbytes, owner=array)
        self._blocks[address].copy_from(borrowed, stream=self._stream)

    def download(self, address: int, array: NDArray[Any]) -> None:
        into = self._buffer.from_handle(array.ctypes.data, array.nbytes, owner=array)
        into.copy_from(self._blocks[address], stream=self._stream)

    def capture(self, launch: Launch) -> Launch:
        builder = self._stream.create_graph_builder()
        builder.begin_building()
        launch()
        graph = builder.end_building().complete()
        self._graphs.append(graph)
        return lambda: graph.launch(self._stream)

    def wait(self) -> None:
        self._stream.sync()

    def close(self) -> None:
        for held in (*self._graphs, *self._blocks.values(), self._stream):
            held.close()
        self._graphs, self._blocks = [], {}


def open_device(number: int) -> DeviceMemory:
    """A GPU's memory through cuda.core; BackendError when no GPU answers or cuda-core is not installed."""
    found = find_gpus()
    if number >= len(found.capabilities):
        raise BackendError(
            f"there is no GPU cuda:{number} here: {found.why or 'the driver knows fewer'}", "use --device cpu"
        )
    try:
        return _CudaCore(number)
    except ImportError as error:
        raise BackendError("cuda-core is not installed", "pip install 'npc-edge[gpu]'") from error
