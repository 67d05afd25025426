"""`auto`: which pair runs a network on this machine. Measured once, remembered, and the same ever after.

A pair may be chosen when the bundle's parity table allows it and its golden cases pass here. Of those the
fastest is taken; within a tenth the order of `pairs.CPU_PAIRS` decides, so that noise does not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from npc_edge.engine.machine import available_cores, cpu_model
from npc_edge.engine.model.acceptance import ArtefactResult, Trial
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.devices import Gpu, missing_on, runtime_version
from npc_edge.engine.model.runners.pairs import (
    CPU_PAIRS,
    GPU_PAIRS,
    Pair,
    allowed_pairs,
    asked_for,
    cannot_run,
    gpu_pairs,
    missing_here,
    not_installed,
    unproven_pairs,
)
from npc_edge.engine.remembered import Key, Remembered, Row
from npc_edge.engine.types import Options

TIE = 1.1
"""Times that differ by less than this are equal: timing a few windows is no more certain."""

Say = Callable[[str], None]
Measure = Callable[[Pair, float | None], ArtefactResult]
"""A pair and the fastest time so far, ms → what its golden cases and its timing came to."""


@dataclass(frozen=True)
class Choice:
    """The pair that runs a network. fallback: why it is not the one that should come first here, None where
    it is. rows: what it was chosen from. fresh: it was measured just now. build: pairs that wait for an
    engine to be built for this GPU."""

    network: str
    pair: Pair
    fallback: str | None = None
    rows: tuple[tuple[Pair, Row], ...] = ()
    fresh: bool = False
    build: tuple[Pair, ...] = ()

    def sentence(self) -> str:
        """What was measured and taken, in one line."""
        told = ", ".join(
            f"{pair} {row.status if row.ms is None else f'{row.ms:.0f} ms'}" for pair, row in self.rows
        )
        busy = ", on a busy machine: compared by processor time" if any(r.busy for _, r in self.rows) else ""
        what = f"network {self.network} runs on {self.pair} here"
        return f"{what}, the fastest of what may run ({told} a window{busy})"


@dataclass(frozen=True)
class Candidates:
    """What the options ask for and the bundle allows, in the order of preference. absent: why some of them
    cannot be had, though they might. build: those that wait for an engine. unproven: those for which a parity
    row alone does not speak; they need golden cases here."""

    ranked: tuple[Pair, ...]
    open: tuple[Pair, ...]
    absent: dict[Pair, str]
    unproven: frozenset[Pair]
    build: tuple[Pair, ...] = ()


def decide(
    bundle: Bundle, network: str, options: Options, remembered: Remembered, say: Say, gpu: Gpu | None = None
) -> Choice:
    """The pair for one network, measured now where nothing is remembered. say: told before measuring begins.

    gpu: the one to use, where the options let one be used. BackendError when nothing that was asked for may
    run, or when what may run fails its golden cases here.
    """
    isa, threads = instruction_set(), options.threads or available_cores()
    found = candidates(bundle, network, options, isa, gpu)
    if not found.open:
        allowed = [p for p in allowed_pairs(bundle, network, isa) if not missing_here(p, isa)]
        raise cannot_run(bundle, network, options, isa, allowed)
    trial = Trial.of(bundle, network, threads, isa, gpu)
    fresh = [pair for pair in found.open if remembered.find(key_of(trial, pair)) is None]
    failed: dict[Pair, Row] = {}
    if fresh:
        say(f"network {network}: golden cases and speed, once on this machine ({len(fresh)} ways to run it)")
        with remembered.measuring():
            made = survey([p for p in fresh if remembered.find(key_of(trial, p)) is None], trial.measure)
            # Keys anew: an engine may have been built on the way, and its hash is part of one.
            remembered.add([row_of(key_of(trial, pair), result) for pair, result in made if _lasting(result)])
            failed = {p: row_of(key_of(trial, p), result) for p, result in made if not _lasting(result)}
    known = {pair: remembered.find(key_of(trial, pair)) or failed.get(pair) for pair in found.open}
    rows = tuple((pair, row) for pair, row in known.items() if row is not None)
    pair = fastest(rows, found.unproven)
    if pair is None:
        told = "; ".join(f"{pair}: {row.why}" for pair, row in rows)
        raise cannot_run(bundle, network, options, isa, (), f"golden cases on this machine: {told}")
    return Choice(network, pair, fallback(pair, rows, found), rows, bool(fresh), found.build)


def candidates(
    bundle: Bundle, network: str, options: Options, isa: str, gpu: Gpu | None = None
) -> Candidates:
    """Sort every pair the bundle allows, and the options ask for, into what can be tried here and what not.

    What is asked for is asked of the network that decides: a locator without it takes what it may.
    """
    unproven = unproven_pairs(bundle, network, isa)
    on_gpu = () if gpu is None else gpu_pairs(bundle, network)
    ranked = [*on_gpu, *allowed_pairs(bundle, network, isa, unproven)]
    wanted = [pair for pair in ranked if asked_for(pair, options)]
    if not wanted and bundle.network(network).locates:
        wanted = ranked
    wanted = [pair for pair in wanted if not _twin(pair, wanted)]
    opened, build, absent = [], [], {}
    for pair in wanted:
        if why := missing_on(pair, gpu) if pair.on_gpu else not_installed(pair):
            absent[pair] = why
        elif _wants_engine(bundle, network, pair, options, gpu):
            absent[pair] = "its engine for this GPU is not built yet"
            build.append(pair)
        elif pair.on_gpu or not missing_here(pair, isa):  # a CPU without bf16 misses nothing it might have
            opened.append(pair)
    return Candidates(
        tuple(wanted), tuple(opened), absent, frozenset(unproven) | frozenset(on_gpu), tuple(build[:1])
    )


def survey(pairs: Sequence[Pair], measure: Measure) -> list[tuple[Pair, ArtefactResult]]:
    """Measure pairs one after the other; each is told the fastest so far, for a slow one is timed once."""
    made: list[tuple[Pair, ArtefactResult]] = []
    for pair in pairs:
        best = min((r.ms for _, r in made if r.ms is not None), default=None)
        made.append((pair, measure(pair, best)))
    return made


def fastest(rows: Sequence[tuple[Pair, Row]], unproven: frozenset[Pair] = frozenset()) -> Pair | None:
    """The fastest of what passed, the first of those within TIE of it; rows in the order of preference.

    A pair without golden cases may run where the bundle's table alone speaks for it (not in `unproven`).
    Where other programs took the processors from one that was timed, all are compared by processor time.
    """
    fit = [
        (pair, row)
        for pair, row in rows
        if row.ms is not None
        and (row.status == "passed" or (row.status == "untested" and pair not in unproven))
    ]
    by_processor = any(row.busy for _, row in fit) and not any(pair.on_gpu for pair, _ in fit)
    times = [(pair, row.cpu_ms if by_processor else row.ms) for pair, row in fit]
    known = [(pair, time) for pair, time in times if time is not None]
    best = min((time for _, time in known), default=0.0)
    return next((pair for pair, time in known if time <= TIE * best), None)


def fallback(taken: Pair, rows: Sequence[tuple[Pair, Row]], found: Candidates) -> str | None:
    """Why a pair that comes before the one taken does not serve: it is absent, or failed here. None where
    there is no such pair; being slower on this machine is no failure."""
    faults = {pair: row.why for pair, row in rows if row.status in ("failed", "skipped")} | found.absent
    for pair in found.ranked[: found.ranked.index(taken)]:
        if pair in faults:
            return f"{pair} cannot serve ({faults[pair]}): {taken} does"
    return None


def remembered_choices(remembered: Remembered) -> tuple[tuple[str, str], ...]:
    """What was chosen on this machine as it is now: (what for, what was measured and taken), a network each.

    Rows of another processor, or of a runtime that has changed since, say nothing any more."""
    groups: dict[tuple[str, str, int], list[tuple[Pair, Row]]] = {}
    for pair in (*GPU_PAIRS, *CPU_PAIRS):
        for row in remembered.rows:
            key = row.key
            if (key.artefact, key.backend, key.precision) != (pair.artefact, pair.backend, pair.precision):
                continue
            here = pair.on_gpu or (key.machine, key.isa) == (cpu_model(), instruction_set())
            if here and key.runtime.split()[0] == runtime_version(pair):
                groups.setdefault((key.bundle_sha256, key.network, key.threads), []).append((pair, row))
    told = []
    for (bundle, network, threads), rows in groups.items():
        taken = fastest(rows)
        if taken is not None:
            what = f"network {network} of bundle {bundle[:12]}, {threads} threads"
            told.append((what, Choice(network, taken, rows=tuple(rows)).sentence()))
    return tuple(told)


def key_of(trial: Trial, pair: Pair) -> Key:
    """What a measurement of this pair holds for. Nothing is imported to know it.

    A rebuilt engine is not the one that was measured: its hash is part of the runtime's version."""
    bundle, network, gpu = trial.bundle, trial.network.name, trial.gpu
    runtime, machine, isa = runtime_version(pair), cpu_model(), trial.isa
    if pair.on_gpu and gpu is not None:
        machine, isa = gpu.machine, gpu.capability
        if pair.family == "tensorrt":
            runtime += f" {gpu.engine_sha256(bundle, network, pair) or 'no engine'}"
    return Key(
        bundle_sha256=bundle.manifest_sha256,
        network=network,
        artefact=pair.artefact,
        backend=pair.backend,
        precision=pair.precision,
        runtime=runtime,
        machine=machine,
        isa=isa,
        threads=trial.threads,
    )


def _lasting(result: ArtefactResult) -> bool:
    """False where nothing ran: a runtime that does not load today may load tomorrow."""
    return result.status != "skipped" or bool(result.cases)


def row_of(key: Key, result: ArtefactResult) -> Row:
    return Row(
        key=key,
        status=result.status,
        why=result.why,
        ms=result.ms,
        cpu_ms=result.cpu_ms,
        busy=result.busy,
    )


def _twin(pair: Pair, wanted: Sequence[Pair]) -> bool:
    """True for an fp16 file that a CPU runs as it runs the fp32 one beside it: it only saves disk."""
    return (
        pair.artefact == "fp16"
        and not pair.on_gpu
        and any(other.artefact == "fp32" and other.backend == pair.backend for other in wanted)
    )


def _wants_engine(bundle: Bundle, network: str, pair: Pair, options: Options, gpu: Gpu | None) -> bool:
    """True where an engine must be built first, and something else may serve meanwhile."""
    if gpu is None or pair.family != "tensorrt" or options.backend != "auto":
        return False
    return gpu.engine_sha256(bundle, network, pair) is None
