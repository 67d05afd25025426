"""ONNX Runtime: on a CPU the portable reference. On an NVIDIA GPU through its CUDA or TensorRT provider,
where the installed build has them: built, not executed, for no such machine was at hand. The only importer of
it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.runner import Arrays, DeviceArrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.feed import checked, first_line, fits
from npc_edge.engine.types import RunnerInfo
from npc_edge.kernels.launch import CudaArray, DeviceArray, Launcher

_ON_GPU = 4  # windows together: more fill a GPU no better
_TYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16}
_FATAL_ONLY = 4  # what matters is raised; ONNX Runtime's own log would break "one line on standard error"


PROVIDERS = {
    "onnxruntime": "CPUExecutionProvider",
    "onnxruntime-cuda": "CUDAExecutionProvider",
    "onnxruntime-tensorrt": "TensorrtExecutionProvider",
}
"""Backend of a pair → what ONNX Runtime calls it."""


@dataclass(frozen=True)
class Provider:
    """Where a session runs. backend: a key of PROVIDERS. number: the GPU. cache: a folder for the engines
    that the TensorRT provider builds, None: every session builds them. isa: what `describe` says. launcher:
    whose arrays a session takes; the CUDA provider works on its stream."""

    backend: str = "onnxruntime"
    number: int = 0
    cache: Path | None = None
    isa: str = ""
    launcher: Launcher | None = None

    @property
    def memory(self) -> str:
        """Where bound arrays lie, as ONNX Runtime calls it."""
        return "cpu" if self.backend == "onnxruntime" else "cuda"

    @property
    def shares_stream(self) -> bool:
        """True where the session queues behind what the launcher has queued; else it must have finished.
        The TensorRT provider is not trusted with it: ONNX Runtime #32673."""
        return self.backend == "onnxruntime-cuda" and self.launcher is not None

    @property
    def device(self) -> str:
        return "cpu" if self.backend == "onnxruntime" else f"cuda:{self.number}"

    def asked(self) -> list[tuple[str, Mapping[str, str]]]:
        """The providers to ask for with everything said that changes a number, and no other."""
        cuda = {"device_id": str(self.number)}
        exact = {
            "use_tf32": "0",  # on by default: ten bits of mantissa in what calls itself fp32
            "cudnn_conv_algo_search": "EXHAUSTIVE",
            "do_copy_in_default_stream": "1",
        }
        name = PROVIDERS[self.backend]
        if self.backend == "onnxruntime":
            return [(name, {})]
        if self.launcher is not None and self.shares_stream:
            cuda["user_compute_stream"] = str(self.launcher.handle)
        if self.backend == "onnxruntime-cuda":
            return [(name, {**cuda, **exact})]
        kept = (
            {}
            if self.cache is None
            else {"trt_engine_cache_enable": "1", "trt_engine_cache_path": str(self.cache)}
        )
        # Precision is the file's: no flag may lower it. What TensorRT does not take, CUDA runs.
        typed = {"trt_fp16_enable": "0", "trt_int8_enable": "0"}
        return [(name, {**cuda, **typed, **kept}), (PROVIDERS["onnxruntime-cuda"], {**cuda, **exact})]


def load_onnxruntime() -> Any:
    """The module, imported with its telemetry off.

    From 1.29 on its wheels write a device id under the user's home and look up a host as soon as they are
    imported; only this variable, set before, keeps them from both. It does nothing for a host program that
    imported onnxruntime earlier.
    """
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
    import onnxruntime

    onnxruntime.disable_telemetry_events()
    return onnxruntime


class OnnxRuntimeRunner:
    """One ONNX file, deterministic: a fixed number of threads, nodes one after the other.

    root: the bundle's folder, to name the artefact by. provider: None for the CPU. Raises BundleError when
    the file is no network that ONNX Runtime can run, BackendError when it would run elsewhere than asked.
    """

    def __init__(
        self,
        path: Path,
        *,
        threads: int,
        precision: str,
        root: Path | None = None,
        provider: Provider | None = None,
    ) -> None:
        self._provider = Provider() if provider is None else provider
        self._path = path
        self._threads = threads
        self._precision = precision
        self._name = path.name if root is None else path.relative_to(root).as_posix()
        self._session: Any = None
        self.at_once = 1
        self._faults: tuple[type[Exception], ...] = ()
        self._version = ""

    def __enter__(self) -> Self:
        ort = load_onnxruntime()
        self._version = ort.__version__
        self._faults = faults()
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
        options.use_deterministic_compute = True
        options.log_severity_level = _FATAL_ONLY
        # The arena keeps every byte it ever took; one network at a time does not need that.
        options.enable_cpu_mem_arena = False
        wanted = self._provider.asked()
        require(wanted[0][0], ort.get_available_providers())
        try:
            session = ort.InferenceSession(str(self._path), sess_options=options, providers=wanted)
        except self._faults as error:
            raise BundleError(f"ONNX Runtime cannot load {self._name}: {first_line(error)}") from error
        session.disable_fallback()  # a run that fails must say so, not begin again on the CPU
        require(wanted[0][0], session.get_providers())
        self._session = session
        free = all(not isinstance(node.shape[0], int) for node in session.get_inputs() if node.shape)
        # A CPU is as quick one by one, and needs the memory of one.
        self.at_once = _ON_GPU if free and self._provider.backend == "onnxruntime-cuda" else 1
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session = None

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs → all named outputs, float32. BundleError when names or shapes are not the network's,
        BackendError when the run itself fails (memory, mostly)."""
        if self._session is None:
            raise BackendError(f"the runner of {self._name} is not open")
        wanted = {node.name: node.shape for node in self._session.get_inputs()}
        feed = checked(self._name, wanted, inputs)
        outputs = [node.name for node in self._session.get_outputs()]
        try:
            values = self._session.run(outputs, feed)
        except self._faults as error:
            raise BackendError(f"ONNX Runtime failed on {self._name}: {first_line(error)}") from error
        return {
            name: np.asarray(value, dtype=np.float32) for name, value in zip(outputs, values, strict=True)
        }

    def infer_on_device(self, inputs: DeviceArrays) -> DeviceArrays:
        """The same on arrays where the provider's memory is, outputs left there in the network's own types.
        They are ready when this returns; inputs are ready on the launcher's stream."""
        if self._session is None:
            raise BackendError(f"the runner of {self._name} is not open")
        fits(self._name, {node.name: node.shape for node in self._session.get_inputs()}, inputs)
        provider, names = self._provider, [node.name for node in self._session.get_outputs()]
        where = provider.memory, provider.number
        try:
            if provider.launcher is not None and not provider.shares_stream:
                provider.launcher.synchronize()
            binding = self._session.io_binding()
            for name, array in inputs.items():
                binding.bind_input(name, *where, array.dtype.type, array.shape, array.pointer)
            for name in names:
                binding.bind_output(name, *where)
            self._session.run_with_iobinding(binding)
            values = binding.get_outputs()
        except self._faults as error:
            raise BackendError(f"ONNX Runtime failed on {self._name}: {first_line(error)}") from error
        return {name: self._lent(value) for name, value in zip(names, values, strict=True)}

    def _lent(self, value: Any) -> DeviceArray:
        """ONNX Runtime's own memory as an array that holds it."""
        kind = _TYPES.get(value.data_type())
        if kind is None:
            raise BundleError(f"an output of {self._name} is a {value.data_type()}")
        made = DeviceArray if self._provider.memory == "cpu" else CudaArray
        return made(int(value.data_ptr()), tuple(value.shape()), np.dtype(kind), value)

    def describe(self) -> RunnerInfo:
        """backend, device, precision of the artefact, its name, the runtime's version, instruction set."""
        return RunnerInfo(
            backend=self._provider.backend,
            device=self._provider.device,
            precision=self._precision,
            artefact=self._name,
            version=self._version,
            isa=self._provider.isa or instruction_set(),
            threads=self._threads,
        )


def require(wanted: str, held: Sequence[str]) -> None:
    """BackendError unless a provider is among those of an installation, or of an open session: ONNX Runtime
    takes the CPU without a word when another does not start."""
    if wanted not in held:
        raise BackendError(
            f"ONNX Runtime has no {wanted} here, only {', '.join(held) or 'nothing'}",
            "leave --device at auto, or install a build that has it: docs/runners.md",
        )


def faults() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises: each of its own classes, which share no base, and pybind11's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)
