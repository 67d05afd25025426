"""A TensorRT pair's engine on this machine: the bundle's own where it fits, else built here and kept."""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners.devices import Gpu, vendor_engine
from npc_edge.engine.model.runners.engine_cache import EngineCache, EngineKey
from npc_edge.engine.model.runners.pairs import Pair
from npc_edge.engine.model.runners.tensorrt import Engine, TensorRtRunner
from npc_edge.engine.model.runners.tensorrt_build import OnProgress, TensorRt, build_engine, load_tensorrt


@dataclass(frozen=True)
class _Kernels:
    """What a runtime compiled for one engine, beside it in the cache."""

    cache: EngineCache
    key: EngineKey

    def load(self) -> bytes:
        return self.cache.kernels(self.key)

    def save(self, blob: bytes) -> None:
        if blob != self.load():
            self.cache.keep_kernels(self.key, blob)


def open_engine(
    bundle: Bundle, network: str, pair: Pair, gpu: Gpu, on_progress: OnProgress | None = None
) -> Runner:
    """The runner of a TensorRT pair, to be entered. An engine that is not here yet is built first, which may
    take minutes. Nothing is deserialised whose hash was not checked: the manifest's, or the recorded one."""
    trt = _runtime(pair)
    own = vendor_engine(bundle, network, pair, gpu.capability)
    if own is not None:
        return TensorRtRunner(Engine(lambda: _listed(bundle, own), own, pair.precision), trt, gpu)
    if gpu.engines is None:
        raise BackendError(f"{pair} has no engine and nowhere to keep one", "name a state directory")
    cache, key = EngineCache(gpu.engines), gpu.engine_key(bundle, network, pair)
    plan = cache.obtain(key, lambda: _build(bundle, network, pair, gpu, on_progress))
    artefact = bundle.find(network, pair.artefact)
    name = key.name() if artefact is None else artefact.file
    return TensorRtRunner(Engine(lambda: plan, name, pair.precision, _Kernels(cache, key)), trt, gpu)


def build_here(bundle: Bundle, network: str, pair: Pair, gpu: Gpu, on_progress: OnProgress) -> None:
    """Build a pair's engine and keep it, unless it is there already."""
    if gpu.engines is None:
        raise BackendError(f"{pair} has no engine and nowhere to keep one", "name a state directory")
    key = gpu.engine_key(bundle, network, pair)
    EngineCache(gpu.engines).obtain(key, lambda: _build(bundle, network, pair, gpu, on_progress))


def _runtime(pair: Pair) -> TensorRt:
    return load_tensorrt("rtx" if pair.backend == "tensorrt-rtx" else "tensorrt")


def _build(bundle: Bundle, network: str, pair: Pair, gpu: Gpu, on_progress: OnProgress | None) -> bytes:
    """The plan of a pair for this GPU, from the bundle's ONNX file, its hash checked."""
    path = bundle.artefact(network, pair.artefact)
    return build_engine(_runtime(pair), path, path.name, gpu.capability, on_progress)


def _listed(bundle: Bundle, file: str) -> bytes:
    """A file of the bundle: the very bytes whose hash is the manifest's."""
    plan = bundle.file(file).read_bytes()
    if not hmac.compare_digest(hashlib.sha256(plan).hexdigest(), bundle.manifest.files[file]):
        raise BundleError(f"{file} of the bundle changed while it was read", "copy the bundle again")
    return plan
