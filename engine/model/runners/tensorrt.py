"""TensorRT on an NVIDIA GPU: 10.x, 11.x and TensorRT-RTX through one module value. Built, not executed:
no such GPU was at hand, and the first machine that has one must pass the golden cases (docs/runners.md).

With its builder the only importer of tensorrt and tensorrt_rtx; memory and stream are a launcher's. What only
some versions have is looked for: a runtime configuration with a cache of compiled kernels and whole-graph
capture (RTX); where the module has no capture of its own, the launcher captures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.model.runner import Arrays, DeviceArrays
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.feed import Shape, checked, first_line
from npc_edge.engine.model.runners.tensorrt_build import TensorRt, quiet_log
from npc_edge.engine.types import RunnerInfo
from npc_edge.kernels.launch import DeviceArray, Launcher, LaunchError, open_default

Launch = Callable[[], None]
_FAULTS = (RuntimeError, ValueError, TypeError, MemoryError, OSError)
_HINT = "leave --backend at auto, or see npc-edge doctor"


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

    launcher: opens the GPU's memory and stream; None: the session's own (`gpu.launcher`), or one of the
    default library. Raises BackendError when no GPU answers, when the engine is not for it, or when a run
    fails; BundleError for inputs the engine does not take.
    """

    at_once = 1

    def __init__(
        self, engine: Engine, trt: TensorRt, gpu: Gpu, launcher: Callable[[int], Launcher] | None = None
    ) -> None:
        self._engine, self._trt, self._gpu = engine, trt, gpu
        self._open_launcher = _launcher_of(gpu) if launcher is None else launcher
        self._launcher: Launcher | None = None
        self._launch: Launch | None = None
        self._kept: list[Any] = []
        self._inputs: dict[str, Shape] = {}
        self._arrays: dict[str, DeviceArray] = {}

    def __enter__(self) -> Self:
        plan = self._engine.plan()
        try:
            launcher = self._launcher = self._open_launcher(self._gpu.number)
            with launcher.current():
                self._start(plan, launcher)
        except _FAULTS as error:
            self._leave()
            raise BackendError(f"{self._who()} does not start: {first_line(error)}", _HINT) from error
        except BackendError:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        """Give everything back, what depends on another thing first, once nothing is under way."""
        launcher, self._launcher, self._launch = self._launcher, None, None
        if launcher is None:
            return
        try:
            with launcher.current():
                launcher.synchronize()
        except LaunchError:
            pass  # what failed has been said; what is left must be given back all the same
        while self._kept:
            self._kept.pop()
        self._arrays, self._inputs = {}, {}

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs → all named outputs on the host, float32."""
        launcher = self._opened()
        feed = checked(self._engine.name, self._inputs, inputs)
        try:
            with launcher.current():
                for name, array in feed.items():
                    held = self._arrays[name]
                    launcher.copy_in(held, array.astype(held.dtype, copy=False))
                self._queue()
                found = {name: launcher.copy_out(array) for name, array in self._outputs().items()}
        except _FAULTS as error:
            raise self._failed(error) from error
        return {name: np.asarray(array, dtype=np.float32) for name, array in found.items()}

    def infer_on_device(self, inputs: DeviceArrays) -> DeviceArrays:
        """The same with outputs left on the GPU, queued on the launcher's stream. Inputs are of the engine's
        own type, ready on that stream; they are copied to where the captured graph reads them."""
        launcher = self._opened()
        if set(inputs) != set(self._inputs):
            raise BundleError(
                f"{self._engine.name} wants inputs {sorted(self._inputs)}, not {sorted(inputs)}"
            )
        for name, array in inputs.items():
            held = self._arrays[name]
            if (array.shape, array.dtype) != (held.shape, held.dtype):
                wanted = f"{held.dtype} of shape {list(held.shape)}"
                raise BundleError(f"{self._engine.name} wants {name} as {wanted}, not {array.dtype}")
        try:
            with launcher.current():
                for name, array in inputs.items():
                    launcher.copy(self._arrays[name], array)
                self._queue()
        except _FAULTS as error:
            raise self._failed(error) from error
        return self._outputs()

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

    def _failed(self, error: Exception) -> BackendError:
        return BackendError(f"{self._who()} failed: {first_line(error)}")

    def _opened(self) -> Launcher:
        if self._launcher is None:
            raise BackendError(f"the runner of {self._engine.name} is not open")
        return self._launcher

    def _outputs(self) -> DeviceArrays:
        return {name: array for name, array in self._arrays.items() if name not in self._inputs}

    def _queue(self) -> None:
        assert self._launch is not None, "a runner that opened has something to launch"
        self._launch()

    def _start(self, plan: bytes, launcher: Launcher) -> None:
        """Deserialise, configure, allocate every tensor, run once, capture."""
        module, log = self._trt.module, quiet_log(self._trt.module)
        runtime = module.Runtime(log)
        engine = runtime.deserialize_cuda_engine(plan)
        if engine is None:
            raise BackendError(f"{self._who()}: the engine does not load: {log.last}", _HINT)
        # In this order: an engine must outlive its context, a runtime its engine.
        self._kept = [log, runtime, engine]
        cache, captures = None, hasattr(module, "CudaGraphStrategy")
        if hasattr(engine, "create_runtime_config"):
            config = engine.create_runtime_config()
            if hasattr(config, "create_runtime_cache"):
                cache = self._kernels(config)
            if captures:
                config.cuda_graph_strategy = module.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            self._kept += [cache, config]
            context = engine.create_execution_context(config)
        else:
            context, captures = engine.create_execution_context(), False
        if context is None:
            raise BackendError(f"{self._who()} has no room for it: {log.last}", _HINT)
        self._kept.append(context)
        self._allocate(engine, context, launcher)
        for name in self._inputs:
            launcher.copy_in(self._arrays[name], np.zeros(self._arrays[name].shape, self._arrays[name].dtype))

        def enqueue() -> None:
            if not context.execute_async_v3(launcher.handle):
                raise BackendError(f"{self._who()} could not be queued: {log.last}")

        enqueue()  # the first run compiles and settles what a capture may not
        launcher.synchronize()
        self._launch = enqueue if captures else launcher.capture(enqueue)
        if cache is not None and self._engine.kernels is not None:
            self._engine.kernels.save(bytes(memoryview(cache.serialize())))

    def _kernels(self, config: Any) -> Any:
        cache = config.create_runtime_cache()
        known = b"" if self._engine.kernels is None else self._engine.kernels.load()
        if known:
            cache.deserialize(known)  # False when it is another version's or GPU's: then it is compiled anew
        if not config.set_runtime_cache(cache):
            raise BackendError(f"{self._who()} takes no cache of compiled kernels", _HINT)
        return cache

    def _allocate(self, engine: Any, context: Any, launcher: Launcher) -> None:
        module = self._trt.module
        tensors: dict[str, tuple[int, ...]] = {}
        for number in range(engine.num_io_tensors):
            name = engine.get_tensor_name(number)
            shape = tuple(int(size) for size in engine.get_tensor_shape(name))
            if engine.get_tensor_mode(name) == module.TensorIOMode.INPUT:
                if -1 in shape:  # a free batch is 1; the builder lets no other axis be free
                    shape = (1, *shape[1:])
                    self._must(context.set_input_shape(name, shape), f"{name} of shape {shape}")
                self._inputs[name] = shape
            tensors[name] = shape
        for name, shape in tensors.items():
            if -1 in shape:
                shape = tuple(int(size) for size in context.get_tensor_shape(name))
            dtype = np.dtype(module.nptype(engine.get_tensor_dtype(name)))
            array = self._arrays[name] = launcher.empty(shape, dtype)
            self._must(context.set_tensor_address(name, array.pointer), f"an address for {name}")

    def _must(self, taken: bool, what: str) -> None:
        if not taken:
            raise BackendError(f"{self._who()} does not take {what}", _HINT)


def _launcher_of(gpu: Gpu) -> Callable[[int], Launcher]:
    """The session's launcher where there is one, else one of the default library on that GPU."""
    held = gpu.launcher
    return open_launcher if held is None else lambda _: held


def open_launcher(number: int) -> Launcher:
    """A GPU's memory and a stream; BackendError when no GPU answers or cuda-core is not installed."""
    found = find_gpus()
    if number >= len(found.capabilities):
        raise BackendError(
            f"there is no GPU cuda:{number} here: {found.why or 'the driver knows fewer'}", "use --device cpu"
        )
    try:
        return open_default(number)
    except LaunchError as error:
        raise BackendError(f"cuda:{number} cannot be used: {error}", _HINT) from error
