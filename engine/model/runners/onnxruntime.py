"""ONNX Runtime on a CPU: the portable reference. The only importer of onnxruntime."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.feed import checked, first_line
from npc_edge.engine.types import RunnerInfo

_FATAL_ONLY = 4  # what matters is raised; ONNX Runtime's own log would break "one line on standard error"


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
    """One ONNX file on the CPU, deterministic: a fixed number of threads, nodes one after the other.

    root: the bundle's folder, to name the artefact by. Raises BundleError when the file is no network that
    ONNX Runtime can run.
    """

    def __init__(self, path: Path, *, threads: int, precision: str, root: Path | None = None) -> None:
        self._path = path
        self._threads = threads
        self._precision = precision
        self._name = path.name if root is None else path.relative_to(root).as_posix()
        self._session: Any = None
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
        try:
            self._session = ort.InferenceSession(
                str(self._path), sess_options=options, providers=["CPUExecutionProvider"]
            )
        except self._faults as error:
            raise BundleError(f"ONNX Runtime cannot load {self._name}: {first_line(error)}") from error
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

    def describe(self) -> RunnerInfo:
        """backend, device, precision of the artefact, its name, the runtime's version, instruction set."""
        return RunnerInfo(
            backend="onnxruntime",
            device="cpu",
            precision=self._precision,
            artefact=self._name,
            version=self._version,
            isa=instruction_set(),
            threads=self._threads,
        )


def faults() -> tuple[type[Exception], ...]:
    """Everything ONNX Runtime raises: each of its own classes, which share no base, and pybind11's."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    own = [v for v in vars(state).values() if isinstance(v, type) and issubclass(v, Exception)]
    return (*own, RuntimeError, ValueError, MemoryError)
