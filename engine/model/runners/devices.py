"""The GPU a session may use, and what of its runtimes is here. Nothing of a GPU runtime is started."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from npc_edge.engine.errors import BackendError
from npc_edge.engine.gpu import Gpus, find_gpus
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runners.engine_cache import EngineCache, EngineKey
from npc_edge.engine.model.runners.pairs import Pair, not_installed
from npc_edge.engine.types import Options
from npc_edge.kernels.launch import Launcher

_PACKAGES = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu"), "tensorrt-rtx": ("tensorrt_rtx",)}


@dataclass(frozen=True)
class Gpu:
    """A GPU to run on. number: the driver's. engines: where engines built here are kept, None: nowhere.
    launcher: what a session works on it with, so that its runners share memory and stream; None: nothing."""

    number: int
    capability: str
    name: str
    driver: str
    memory_mb: float = 0.0
    engines: Path | None = None
    launcher: Launcher | None = field(default=None, compare=False, repr=False)

    @property
    def device(self) -> str:
        """What --device calls it."""
        return f"cuda:{self.number}"

    @property
    def machine(self) -> str:
        """What a measurement on it holds for, beside the capability."""
        return f"{self.name}, CUDA {self.driver}"

    def engine_key(self, bundle: Bundle, network: str, pair: Pair) -> EngineKey:
        """What an engine of this pair must have been built for to fit here."""
        artefact = bundle.find(network, pair.artefact)
        digest = "0" * 64 if artefact is None else bundle.manifest.files[artefact.file]
        return EngineKey(digest, pair.backend, runtime_version(pair), self.capability, self.driver)

    def engine_sha256(self, bundle: Bundle, network: str, pair: Pair) -> str | None:
        """The hash of the engine that is here for a pair: the bundle's own, or the one built here."""
        if (file := vendor_engine(bundle, network, pair, self.capability)) is not None:
            return bundle.manifest.files[file]
        if self.engines is None:
            return None
        return EngineCache(self.engines).sha256(self.engine_key(bundle, network, pair))


def gpu_for(options: Options, engines: Path | None = None, gpus: Gpus | None = None) -> Gpu | None:
    """The GPU the options let a session use: none with `cpu`, the first that answers with `auto`, that one
    with `cuda:N`; BackendError where it is not there. gpus: those of the machine, None to ask the driver."""
    if options.device == "cpu":
        return None
    named = re.fullmatch(r"cuda:(\d{1,3})", options.device)
    if options.device != "auto" and named is None:
        raise BackendError(f"there is no device {options.device}", "use --device auto, cpu or cuda:0")
    found = find_gpus() if gpus is None else gpus
    number = 0 if named is None else int(named[1])
    if number >= len(found.capabilities):
        if named is None:
            return None
        why = found.why or f"it has {len(found.capabilities)} of them"
        raise BackendError(f"device {options.device} is not in this machine: {why}", "use --device cpu")
    return Gpu(
        number,
        found.capabilities[number],
        found.names[number],
        found.driver,
        found.memory_mb[number],
        engines,
    )


def vendor_engine(bundle: Bundle, network: str, pair: Pair, capability: str) -> str | None:
    """The bundle's own engine for a pair, where it was built by exactly this runtime for exactly this GPU."""
    for artefact in bundle.network(network).artefacts:
        built = artefact.engine
        if built is None or artefact.precision != pair.artefact or built.runtime != pair.backend:
            continue
        if (built.runtime_version, built.compute_capability) == (runtime_version(pair), capability):
            return artefact.file
    return None


def missing_on(pair: Pair, gpu: Gpu | None) -> str:
    """Why a pair of a GPU cannot run here, "" where it can be tried."""
    if gpu is None:
        return "no GPU answers"
    if absent := not_installed(pair):
        return absent
    if pair.family == "onnxruntime":
        from npc_edge.engine.model.runners.onnxruntime import PROVIDERS, load_onnxruntime

        wanted = PROVIDERS[pair.backend]
        held = load_onnxruntime().get_available_providers()
        return (
            ""
            if wanted in held
            else f"this ONNX Runtime has no {wanted} (docs/runners.md says how to swap it)"
        )
    if importlib.util.find_spec("cuda") is None or importlib.util.find_spec("cuda.core") is None:
        return "cuda-core is not installed (pip install 'npc-edge[gpu]')"
    return ""


def runtime_version(pair: Pair) -> str:
    """The version of a pair's runtime as installed, asked of its package: nothing is imported."""
    for package in _PACKAGES.get(pair.backend, _PACKAGES.get(pair.family, (pair.family,))):
        try:
            return version(package)
        except PackageNotFoundError:
            continue
    return "unknown"
