"""Which runner runs a network here: one file per runtime, each the sole importer of its runtime."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners.pairs import Pair, choose
from npc_edge.engine.types import Options

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


def open_runner(bundle: Bundle, network_name: str, options: Options, proven: Collection[Pair] = ()) -> Runner:
    """A runner for one network, to be entered: the fastest the bundle allows here of what the options ask.

    proven: pairs whose golden cases this machine has passed. BackendError when what was asked for is not
    there or the bundle does not allow it.
    """
    pair = choose(bundle, network_name, options, instruction_set(), proven)
    return open_pair(bundle, network_name, pair, options.threads)


def open_pair(bundle: Bundle, network_name: str, pair: Pair, threads: int = 0) -> Runner:
    """The runner of one pair, to be entered, allowed or not: for measuring. threads 0: all cores.

    BackendError for a backend that has no runner."""
    path, threads = bundle.artefact(network_name, pair.artefact), threads or available_cores()
    if pair.backend == "openvino":
        from npc_edge.engine.model.runners.openvino import OpenVinoRunner

        return OpenVinoRunner(path, threads=threads, precision=pair.precision, root=bundle.root)
    if pair.backend == "onnxruntime":
        from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner

        return OnnxRuntimeRunner(path, threads=threads, precision=pair.precision, root=bundle.root)
    raise BackendError(f"there is no {pair.backend} runner in this version", "leave --backend at auto")


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
