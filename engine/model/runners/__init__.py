"""Which runner runs a network here: one file per runtime, each the sole importer of its runtime."""

from __future__ import annotations

import platform
from pathlib import Path

from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.types import Options

_CPU_PRECISIONS = {"auto": "fp32", "fp32": "fp32", "fp16": "fp16", "int8": "int8-u8s8"}
"""What is asked for → the artefact ONNX Runtime runs on a CPU. Signed int8 activations are TensorRT's."""

_SETS = (
    ("amx_int8", "amx_int8"),
    ("avx512_bf16", "avx512_bf16"),
    ("avx512_vnni", "avx512_vnni"),
    ("avx512f", "avx512"),
    ("avx_vnni", "avx_vnni"),
    ("avx2", "avx2"),
    ("avx", "avx"),
    ("asimddp", "neon_dotprod"),
    ("asimd", "neon"),
)


def open_runner(bundle: Bundle, network_name: str, options: Options) -> Runner:
    """A runner for one network, to be entered. BackendError when what was asked for is not there."""
    if options.backend not in ("auto", "onnxruntime"):
        raise BackendError(f"backend {options.backend} is not in this version", "use --backend onnxruntime")
    if options.device not in ("auto", "cpu"):
        raise BackendError(f"device {options.device} is not in this version", "use --device cpu")
    precision = _CPU_PRECISIONS.get(options.precision)
    if precision is None or bundle.find(network_name, precision) is None:
        held = sorted({artefact.precision for artefact in bundle.network(network_name).artefacts})
        raise BackendError(
            f"network {network_name} of {bundle.name} cannot run in precision {options.precision} here",
            f"it holds {', '.join(held)}; leave --precision at auto",
        )
    from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner

    threads = options.threads or available_cores()
    path = bundle.artefact(network_name, precision)
    return OnnxRuntimeRunner(path, threads=threads, precision=precision, root=bundle.root)


def instruction_set(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The widest instruction set for matrix products this CPU names; its architecture where it names none."""
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        return platform.machine() or "unknown"
    flags: set[str] = set()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            flags = set(value.split())
            break
    return next((name for flag, name in _SETS if flag in flags), platform.machine() or "unknown")
