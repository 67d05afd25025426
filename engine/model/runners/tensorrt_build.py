"""An ONNX file becomes a TensorRT engine: for GPUs that need not be here. With its runner the only importer.

Stays inside what TensorRT 10.x, 11.x and TensorRT-RTX share: strongly typed networks, whose precision is a
property of the file. The module is a value; what only some versions have is looked for. An engine built so
has not run: whoever holds the GPU it is for must let it pass the golden cases first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.model.runners.feed import first_line

Runtime = Literal["rtx", "tensorrt"]

RUNTIMES: Mapping[Runtime, Literal["tensorrt-rtx", "tensorrt"]] = {
    "rtx": "tensorrt-rtx",
    "tensorrt": "tensorrt",
}
"""What --runtime says → the package, and the name in a manifest."""

_INSTALL = {
    "rtx": "pip install tensorrt-rtx, under NVIDIA's licence",
    "tensorrt": "pip install tensorrt: its libraries come from NVIDIA's own package index, under its licence",
}

OnProgress = Callable[[float], bool | None]
"""Told how far a build is, 0..1, never less than before; answers False to stop it."""


@dataclass(frozen=True)
class TensorRt:
    """A TensorRT at hand. module: `tensorrt` or `tensorrt_rtx`."""

    module: Any
    name: Literal["tensorrt-rtx", "tensorrt"]
    version: str

    def targets(self) -> tuple[str, ...]:
        """The compute capabilities it builds for here, "sm86" …: those it knows; of plain TensorRT, which
        builds for the GPU in the machine only, those of this machine's GPUs."""
        if not hasattr(self.module, "ComputeCapability"):
            return tuple(dict.fromkeys(find_gpus().capabilities))
        names = self.module.ComputeCapability.__members__
        return tuple(sorted((n.lower() for n in names if n.startswith("SM")), key=lambda n: (len(n), n)))

    def check(self, target: str) -> None:
        """BackendError for a compute capability it does not build for here."""
        if target not in self.targets():
            known = ", ".join(self.targets()) or "none: it needs the GPU itself, and none answers here"
            raise BackendError(f"{self.name} {self.version} does not build for {target}", f"it knows {known}")


def load_tensorrt(runtime: Runtime) -> TensorRt:
    """Import a TensorRT; BackendError when it is not installed or does not load."""
    module: Any
    try:
        if runtime == "rtx":
            import tensorrt_rtx

            module = tensorrt_rtx
        else:
            import tensorrt

            module = tensorrt
    except ModuleNotFoundError as error:
        raise BackendError(f"{RUNTIMES[runtime]} is not installed", _INSTALL[runtime]) from error
    except (ImportError, OSError, RuntimeError) as error:
        raise BackendError(
            f"{RUNTIMES[runtime]} does not load here: {first_line(error)}", _INSTALL[runtime]
        ) from error
    return TensorRt(module, RUNTIMES[runtime], str(module.__version__))


def build_engine(
    trt: TensorRt, path: Path, name: str, target: str, on_progress: OnProgress | None = None
) -> bytes:
    """Build a file for one compute capability; no GPU is needed where the TensorRT can do without.

    name: what errors call the file. A free batch axis is fixed to 1. Raises BackendError (the target is not
    known, no builder starts), BundleError with TensorRT's reason when it refuses an operator or the network.
    """
    trt.check(target)
    module, log = trt.module, quiet_log(trt.module)
    try:
        builder = module.Builder(log)
        flags = module.NetworkDefinitionCreationFlag
        # TensorRT 11 knows no other kind and may have dropped the word.
        typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
        network, config = builder.create_network(typed), builder.create_builder_config()
        parser = module.OnnxParser(network, log)
    except (RuntimeError, TypeError) as error:
        raise BackendError(
            f"{trt.name} {trt.version} starts no builder here: {log.last or first_line(error)}"
        ) from error
    if not parser.parse_from_file(str(path)):
        raise BundleError(f"{trt.name} {trt.version} refuses {name}: {_refused(parser)}")
    _fix_batch(builder, config, network, name)
    if hasattr(config, "num_compute_capabilities"):
        config.num_compute_capabilities = 1
        config.set_compute_capability(module.ComputeCapability.__members__[target.upper()], 0)
    if on_progress is not None and hasattr(module, "IProgressMonitor"):
        config.progress_monitor = _monitor(module, on_progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise BundleError(f"{trt.name} {trt.version} cannot build {name} for {target}: {log.last}")
    return bytes(memoryview(plan))


def _fix_batch(builder: Any, config: Any, network: Any, name: str) -> None:
    """A free first axis is 1; BundleError for any other free axis."""
    shapes = {network.get_input(i).name: list(network.get_input(i).shape) for i in range(network.num_inputs)}
    if any(-1 in shape[1:] for shape in shapes.values()):
        raise BundleError(f"{name} has a free axis that is not the batch", "export it with a fixed window")
    if all(-1 not in shape for shape in shapes.values()):
        return
    profile = builder.create_optimization_profile()
    for wanted, shape in shapes.items():
        one = [1, *shape[1:]] if shape and shape[0] == -1 else shape
        profile.set_shape(wanted, one, one, one)
    config.add_optimization_profile(profile)


def _refused(parser: Any) -> str:
    """The parser's first error: the operator, the node and why. Older ones name neither operator nor node."""
    if not parser.num_errors:
        return "it is no ONNX network"
    error = parser.get_error(0)
    operator = error.node_operator() if hasattr(error, "node_operator") else ""
    node = error.node_name() if hasattr(error, "node_name") else f"node {error.node()}"
    what = f"operator {operator} {f'({node})' if node else ''}".strip() if operator else node
    return f"{what}: {' '.join(error.desc().split())[:200]}"


def quiet_log(module: Any) -> Any:
    """A logger that prints nothing and keeps the last error."""

    class Log(module.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            module.ILogger.__init__(self)
            self.last = ""

        def log(self, severity: Any, message: str) -> None:
            if severity in (module.ILogger.INTERNAL_ERROR, module.ILogger.ERROR):
                self.last = " ".join(message.split())[:300]

    return Log()


def _monitor(module: Any, on_progress: OnProgress) -> Any:
    """TensorRT's phases, nested and of unknown length, as one growing fraction."""

    class Monitor(module.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.phases: dict[str, list[Any]] = {}  # name → [parent, steps, steps done], while it lasts
            self.best = 0.0

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.phases[phase_name] = [parent_phase, max(num_steps, 1), 0]

        def step_complete(self, phase_name: str, step: int) -> bool:
            if phase_name in self.phases:
                self.phases[phase_name][2] = step + 1
            self.best = max(self.best, self.fraction(None))
            return on_progress(self.best) is not False

        def phase_finish(self, phase_name: str) -> None:
            self.phases.pop(phase_name, None)

        def fraction(self, parent: str | None) -> float:
            inside = [
                (done + self.fraction(name)) / steps
                for name, (above, steps, done) in self.phases.items()
                if above == parent
            ]
            return min(1.0, max(inside, default=0.0))

    return Monitor()
