"""The bundle's own engines on this machine: built where no such GPU was, executed nowhere until one ran them.

A maker's signature stays whole, so what became of an engine at a site is not in the manifest: its golden
cases' result is a row of that machine's acceptance record, which names the engine by its hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.acceptance import INSTALLED, ArtefactResult, Runtimes, Trial
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.choice import key_of, row_of
from npc_edge.engine.model.manifest import Artefact, EngineSpec
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.devices import Gpu, runtime_version, vendor_engine
from npc_edge.engine.model.runners.pairs import Pair, gpu_pairs
from npc_edge.engine.remembered import Remembered, Row


def verify_engines(
    bundle: Bundle, remembered: Remembered, gpu: Gpu | None = None, runtimes: Runtimes = INSTALLED
) -> tuple[ArtefactResult, ...]:
    """One result for each engine of the bundle.

    Those that fit the GPU and the runtime of this machine run their golden cases, are timed, and are
    remembered. Of the others `why` begins with "built, not executed", or says what is remembered of them.
    """
    return tuple(_results(bundle, remembered, gpu, runtimes))


def _results(
    bundle: Bundle, remembered: Remembered, gpu: Gpu | None, runtimes: Runtimes
) -> Iterator[ArtefactResult]:
    for network in bundle.manifest.networks:
        cores, isa = available_cores(), instruction_set()
        trial = replace(Trial.of(bundle, network.name, cores, isa, gpu), runtimes=runtimes)
        for artefact in network.artefacts:
            if artefact.engine is None:
                continue
            pair = Pair(artefact.precision, artefact.engine.runtime, artefact.precision)
            result = _untried(trial, artefact, artefact.engine, pair)
            if not result.why:
                ran = trial.measure(pair, artefact=artefact)
                if ran.status != "skipped":
                    remembered.add([row_of(key_of(trial, pair), ran)])
                    yield ran
                    continue
                result = replace(result, why=ran.why)
            yield replace(result, why=f"{_known(bundle, artefact, remembered)}: {result.why}")


def _untried(trial: Trial, artefact: Artefact, built: EngineSpec, pair: Pair) -> ArtefactResult:
    """The result of an engine that has not run; why: what keeps it from running here, "" for nothing."""
    bundle, network, gpu = trial.bundle, trial.network.name, trial.gpu
    here = (built.runtime, runtime_version(pair))
    if gpu is None:
        why = "no GPU answers here"
    elif gpu.capability != built.compute_capability:
        why = f"the GPU here is an {gpu.capability}"
    elif vendor_engine(bundle, network, pair, gpu.capability) != artefact.file:
        why = f"made with {built.runtime} {built.runtime_version}, here is {' '.join(here)}"
    else:
        why = ""
    return ArtefactResult(
        *(network, artefact.file, artefact.precision, built.runtime, built.compute_capability),
        *("skipped", why),
        execution=artefact.precision,
        allowed=pair in gpu_pairs(bundle, network),
    )


def _known(bundle: Bundle, artefact: Artefact, remembered: Remembered) -> str:
    """Whether this very file ever ran on this machine, in words."""
    row = _row(bundle.manifest.files[artefact.file], remembered)
    return "built, not executed" if row is None else f"executed here on {row.key.machine}, {row.status}"


def _row(sha256: str, remembered: Remembered) -> Row | None:
    """What is remembered of an engine: its hash is part of the runtime's version (`choice.key_of`)."""
    return next((row for row in remembered.rows if row.key.runtime.endswith(f" {sha256}")), None)
