"""OpenVINO on a CPU: the fast path. The only importer of openvino."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.feed import Shape, checked, first_line
from npc_edge.engine.model.runners.openvino_graph import (
    blocks_channels_last,
    convolve_apart,
    fix_batch,
    resize_by_planes,
)
from npc_edge.engine.types import RunnerInfo

_HINTS = {"fp32": "f32", "bf16": "bf16", "int8-u8s8": "f32", "int8-bf16": "bf16"}
"""Execution precision → what the layers that the file leaves in floating point run in."""
_LEAVE_IT = "leave --precision at auto"
_COMPUTE = ("Convolution", "Deconvolution", "MatMul", "FullyConnected")
_PLACES = ("Exception from", "Check '", "FrontEnd API")


def load_openvino() -> Any:
    """The module, imported with its telemetry off.

    Its tools write a client id under the user's home and look up a host as soon as they are imported, unless
    they find no telemetry module. It does nothing for a host program that imported openvino earlier.
    Raises BackendError when openvino is not installed or does not load.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    try:
        import openvino
        import openvino.frontend
    except (ImportError, OSError) as error:
        raise BackendError(
            f"OpenVINO does not load here: {first_line(error)}",
            "pip install openvino, or --backend onnxruntime",
        ) from error
    return openvino


@dataclass(frozen=True)
class Layer:
    """What a layer of the compiled network took in the last run. kind: OpenVINO's word for what it does. ran:
    the code that did it, with its precision."""

    name: str
    kind: str
    ran: str
    ms: float


class OpenVinoRunner:
    """One ONNX file on the CPU: a fixed number of threads, one stream, the precision said, nothing cached.

    precision: what it executes in, "fp32", "bf16", "int8-u8s8" (a Q/DQ file with unsigned activations; what
    it does not quantise runs in fp32) or "int8-bf16" (the same file; that runs in bf16). A free batch axis is
    fixed to 1, which OpenVINO runs faster, and larger batches go one by one. root: the bundle's folder, to
    name the artefact by. counted: keep what each layer takes, which slows a run a little. Raises BundleError
    when the file is no network that OpenVINO can run, BackendError when this CPU cannot run it in that
    precision.
    """

    at_once = 1

    def __init__(
        self, path: Path, *, threads: int, precision: str, root: Path | None = None, counted: bool = False
    ) -> None:
        self._path = path
        self._threads = threads
        self._precision = precision
        self._counted = counted
        self._name = path.name if root is None else path.relative_to(root).as_posix()
        self._request: Any = None
        self._inputs: dict[str, Shape] = {}
        self._outputs: list[str] = []
        self._faults: tuple[type[Exception], ...] = ()
        self._batched = False
        self._version = ""

    def __enter__(self) -> Self:
        openvino = load_openvino()
        self._version = openvino.__version__.partition("-")[0]
        self._faults = _faults(openvino)
        hint = _HINTS.get(self._precision)
        if hint is None:
            raise BackendError(
                f"OpenVINO does not run {self._precision} on a CPU", "leave --precision at auto"
            )
        try:
            # Its own reader, by name: asked for any reader, OpenVINO has others try, which print.
            reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
            model = reader.convert(reader.load(str(self._path)))
            if not model.inputs or not model.outputs:
                raise BundleError(f"OpenVINO cannot load {self._name}: it holds no network")
            self._inputs = {port.get_any_name(): _sizes(port.partial_shape) for port in model.inputs}
            self._outputs = [port.get_any_name() for port in model.outputs]
            self._batched = fix_batch(model, self._inputs)
            if hint == "f32":  # in bf16 it is no faster
                resize_by_planes(openvino, model)
            else:
                convolve_apart(openvino, model)
            blocks_channels_last(openvino, model)
            compiled = openvino.Core().compile_model(model, "CPU", self._settings(hint))
            self._tell_the_truth(compiled, hint)
            self._request = compiled.create_infer_request()
        except self._faults as error:
            raise BundleError(f"OpenVINO cannot load {self._name}: {_reason(error)}") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._request = None

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs → all named outputs, float32. BundleError when names or shapes are not the network's,
        BackendError when the run itself fails (memory, mostly)."""
        if self._request is None:
            raise BackendError(f"the runner of {self._name} is not open")
        feed = checked(self._name, self._inputs, inputs)
        if not self._batched:
            return self._run(feed)
        sizes = {len(array) for array in feed.values()}
        if len(sizes) != 1 or 0 in sizes:
            raise BundleError(f"{self._name} wants inputs of one batch size, not {sorted(sizes)}")
        items = [
            self._run({name: array[i : i + 1] for name, array in feed.items()}) for i in range(sizes.pop())
        ]
        if len(items) == 1:
            return items[0]
        return {name: np.concatenate([item[name] for item in items]) for name in self._outputs}

    def describe(self) -> RunnerInfo:
        """backend, device, precision it executes in (what the layers of an int8 file ran in when none of them
        ran in int8), the artefact's name, the runtime's version, instruction set, threads OpenVINO took."""
        return RunnerInfo(
            backend="openvino",
            device="cpu",
            precision=self._precision,
            artefact=self._name,
            version=self._version,
            isa=instruction_set(),
            threads=self._threads,
        )

    def layers(self) -> tuple[Layer, ...]:
        """What the last run's layers took, in their order; none unless counted."""
        held = () if self._request is None or not self._counted else self._request.get_profiling_info()
        taken = [(one, one.real_time.total_seconds() * 1e3) for one in held]
        return tuple(Layer(one.node_name, one.node_type, one.exec_type, ms) for one, ms in taken if ms > 0)

    def _settings(self, hint: str) -> dict[str, Any]:
        return {
            "INFERENCE_PRECISION_HINT": hint,  # unset, an fp32 network runs in bf16 where the CPU has it
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,  # nothing becomes int8 that the file does not make int8
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,  # several processes would all be pinned to the same first cores
            "LOG_LEVEL": "LOG_NONE",
            "PERF_COUNT": self._counted,
        }

    def _tell_the_truth(self, compiled: Any, hint: str) -> None:
        """Ask what was made of the settings: OpenVINO takes another precision without a word."""
        self._threads = int(compiled.get_property("INFERENCE_NUM_THREADS"))
        took = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
        if took != hint:
            raise BackendError(
                f"OpenVINO would run {self._name} in {took} on this CPU, not in {self._precision}", _LEAVE_IT
            )
        if self._precision.startswith("int8") and not _any_int8(compiled):
            self._precision = "bf16" if hint == "bf16" else "fp32"

    def _run(self, feed: Arrays) -> Arrays:
        try:
            self._request.infer(feed, share_inputs=True)
            # Copies: the next call writes into the same memory.
            return {
                name: np.array(self._request.get_output_tensor(number).data, dtype=np.float32)
                for number, name in enumerate(self._outputs)
            }
        except self._faults as error:
            raise BackendError(f"OpenVINO failed on {self._name}: {_reason(error)}") from error


def _sizes(shape: Any) -> Shape:
    if shape.rank.is_dynamic:
        raise BundleError("a network's input has no known number of dimensions")
    return [None if size.is_dynamic else size.get_length() for size in shape]


def _any_int8(compiled: Any) -> bool:
    """True when a layer that computes runs on 8-bit integers."""
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        layer, precision = facts["layerType"].value, facts["runtimePrecision"].value
        if precision in ("u8", "i8") and layer in _COMPUTE:
            return True
    return False


def _faults(openvino: Any) -> tuple[type[Exception], ...]:
    """Everything OpenVINO raises: the classes of its bindings, which share no base, and pybind11's."""
    own = [v for v in vars(openvino._pyopenvino).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, TypeError, MemoryError)


def _reason(error: Exception) -> str:
    """What OpenVINO's error says, without the places in its own source that it starts with."""
    lines = [line.strip() for line in str(error).splitlines()]
    told = [line for line in lines if line and not line.startswith(_PLACES)]
    return " ".join(told)[:200] if told else first_line(error)
