"""Which runner runs a network here: one file per runtime, each the sole importer of its runtime."""

from __future__ import annotations

import platform
from collections.abc import Collection
from pathlib import Path

from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners.devices import Gpu
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


def open_pair(
    bundle: Bundle, network_name: str, pair: Pair, threads: int = 0, gpu: Gpu | None = None
) -> Runner:
    """The runner of one pair, to be entered, allowed or not: for measuring. threads 0: all cores. gpu: what a
    pair of a GPU runs on.

    BackendError for a backend that has no runner, or a pair of a GPU without one."""
    threads = threads or available_cores()
    if pair.on_gpu:
        if gpu is None:
            raise BackendError(f"{pair} needs a GPU and none was found", "leave --backend at auto")
        return _on_gpu(bundle, network_name, pair, threads, gpu)
    path = bundle.artefact(network_name, pair.artefact)
    if pair.backend == "openvino":
        from npc_edge.engine.model.runners.openvino import OpenVinoRunner

        return OpenVinoRunner(path, threads=threads, precision=pair.precision, root=bundle.root)
    from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner

    return OnnxRuntimeRunner(path, threads=threads, precision=pair.precision, root=bundle.root)


def _on_gpu(bundle: Bundle, network: str, pair: Pair, threads: int, gpu: Gpu) -> Runner:
    if pair.family == "tensorrt":
        from npc_edge.engine.model.runners.site_engine import open_engine

        return open_engine(bundle, network, pair, gpu)
    from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner, Provider

    # A folder of its own for each key: ONNX Runtime's names say too little of what an engine was built for.
    cache = (
        None if gpu.engines is None else gpu.engines / f"{gpu.engine_key(bundle, network, pair).name()}.ort"
    )
    return OnnxRuntimeRunner(
        bundle.artefact(network, pair.artefact),
        threads=threads,
        precision=pair.precision,
        root=bundle.root,
        provider=Provider(pair.backend, gpu.number, cache, gpu.capability, gpu.launcher),
    )


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
