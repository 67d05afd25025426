"""Engines for a bundle: built for GPUs that need not be here. That one ran, only a site's record can say."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BundleError, OutputError, UsageError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.embedded import EMBEDDED
from npc_edge.engine.model.manifest import Artefact, EngineSpec, NetworkSpec
from npc_edge.engine.model.runners.tensorrt_build import TensorRt, build_engine
from npc_edge.export.pack import pack, reason

DEFAULT = ("fp16", "int8-s8s8")
"""Precisions that are worth an engine: TensorRT refuses unsigned activations, and fp32 gains little."""


@dataclass(frozen=True)
class Wanted:
    """targets: compute capabilities, "sm86" …. precisions: of artefacts; empty: those of DEFAULT that each
    network holds, fp32 for a locator without them."""

    targets: tuple[str, ...]
    precisions: tuple[str, ...] = ()


@dataclass(frozen=True)
class Built:
    """An engine as it was built. seconds: on this machine, with whatever else it was doing."""

    network: str
    artefact: Artefact
    size: int
    seconds: float


@dataclass(frozen=True)
class Watching:
    """Who waits. on_build: told the file being built and how far all of them are, 0..1. on_built: told each
    engine that is done; none is in the bundle before all are."""

    on_build: Callable[[str, float], None] = lambda file, fraction: None
    on_built: Callable[[Built], None] = lambda built: None


def compile_bundle(
    bundle: Bundle, wanted: Wanted, trt: TensorRt, key: Ed25519PrivateKey, watching: Watching | None = None
) -> tuple[Built, ...]:
    """Build engines of a bundle's networks and sign them into it, all of them or none.

    An engine of the same network, precision, target and runtime version that is there already is replaced;
    one of another version stays beside it, for sites that have that one. Raises BackendError
    (an unknown target), BundleError (a precision that is not there; what TensorRT refuses), UsageError for
    the embedded bundle, OutputError.
    """
    if bundle.root == EMBEDDED:
        raise UsageError("the embedded bundle is part of the program", "copy its folder and compile the copy")
    for target in wanted.targets:
        trt.check(target)
    jobs = [
        (network, artefact, target)
        for network in bundle.manifest.networks
        for artefact in _chosen(bundle, network, wanted.precisions)
        for target in wanted.targets
    ]
    try:
        with tempfile.TemporaryDirectory(prefix=f".{bundle.root.name}.", dir=bundle.root.parent) as scratch:
            built = tuple(_build(bundle, trt, jobs, Path(scratch), watching or Watching()))
            engines = {one.artefact.file: Path(scratch) / Path(one.artefact.file).name for one in built}
            pack(bundle.root, _with(bundle, built), key, engines)
    except OSError as error:
        raise OutputError(f"the engines cannot be written: {reason(error)}") from error
    return built


def engine_file(network: str, precision: str, target: str, trt: TensorRt) -> str:
    """An engine's name in the bundle: everything that decides whether it fits is in it."""
    version = re.sub(r"[^0-9A-Za-z]+", ".", trt.version).strip(".")
    return f"artefacts/{network}.{precision}.{target}.{trt.name}-{version}.engine"


def _chosen(bundle: Bundle, network: NetworkSpec, precisions: Sequence[str]) -> list[Artefact]:
    """The artefacts to build from; BundleError for one that was asked for and is not there, or for none. What
    is asked is asked of the network that decides: a locator, which is never quantized, is built in fp32."""
    found = {name: bundle.find(network.name, name) for name in precisions or DEFAULT}
    missing = [name for name, artefact in found.items() if artefact is None]
    original = bundle.find(network.name, "fp32")
    if network.locates and missing and original is not None:
        return [artefact for artefact in found.values() if artefact is not None] or [original]
    if missing and (precisions or len(missing) == len(found)):
        held = sorted({a.precision for a in network.artefacts if a.format == "onnx"})
        other = ", or ask for --precision fp32" if "fp32" in held else ""
        raise BundleError(
            f"network {network.name} of {bundle.name} holds no {' or '.join(missing)} artefact, "
            f"only {', '.join(held)}",
            f"add one with npc-edge quantize{other}",
        )
    return [artefact for artefact in found.values() if artefact is not None]


def _build(
    bundle: Bundle,
    trt: TensorRt,
    jobs: Sequence[tuple[NetworkSpec, Artefact, str]],
    scratch: Path,
    watching: Watching,
) -> Iterator[Built]:
    for number, (network, source, target) in enumerate(jobs):
        file = engine_file(network.name, source.precision, target, trt)

        def told(fraction: float, file: str = file, number: int = number) -> None:
            watching.on_build(file, (number + fraction) / len(jobs))

        told(0.0)
        begun = time.perf_counter()
        plan = build_engine(trt, bundle.file(source.file), source.file, target, told)
        (scratch / Path(file).name).write_bytes(plan)
        spec = EngineSpec(runtime=trt.name, runtime_version=trt.version, compute_capability=target)
        artefact = Artefact(precision=source.precision, file=file, format="engine", engine=spec)
        built = Built(network.name, artefact, len(plan), time.perf_counter() - begun)
        told(1.0)
        watching.on_built(built)
        yield built


def _with(bundle: Bundle, built: Sequence[Built]) -> dict[str, object]:
    """The manifest, without its files, with the engines after what each network had."""
    manifest = bundle.manifest.model_dump(mode="json", exclude={"files"})
    for network in manifest["networks"]:
        fresh = [one.artefact for one in built if one.network == network["name"]]
        replaced = {artefact.file for artefact in fresh}
        kept = [held for held in network["artefacts"] if held["file"] not in replaced]
        network["artefacts"] = [*kept, *(artefact.model_dump(mode="json") for artefact in fresh)]
    return manifest
