"""Site acceptance over a cohort: whole cases through every pair a bundle holds here, against its original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from npc_edge.engine.cohort import Case
from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.parity import Limits, Verdict, judge
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.pairs import REFERENCE, Pair, allowed_pairs, held_pairs, missing_here
from npc_edge.engine.trial import Runners, Trial, compare


@dataclass(frozen=True)
class Accepted:
    """A pair over the cohort. allowed: `run` may choose it here."""

    network: str
    pair: Pair
    allowed: bool
    verdict: Verdict


@dataclass(frozen=True)
class Acceptance:
    """pairs: what each came to. refused: cases the engine would not answer, with the reason. notes: what was
    odd about the files."""

    pairs: tuple[Accepted, ...]
    refused: tuple[str, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Candidate:
    """A network on another runner than the original's. runner: not yet entered."""

    name: str
    network: str
    runner: Runner


def accept(bundle: Bundle, cases: Sequence[Case], threads: int, say: Callable[[str], None]) -> Acceptance:
    """Hold every pair this machine can run against the original on ONNX Runtime, over the cases.

    threads 0: all cores. BundleError when the engine answers none of the cases.
    """
    isa = instruction_set()
    tried = {
        f"{network.name} {pair}": (network.name, pair)
        for network in bundle.manifest.networks
        for pair in (() if network.locates else held_pairs(bundle, network.name))
        if pair != REFERENCE and not missing_here(pair, isa)
    }
    candidates = [
        Candidate(name, network, open_pair(bundle, network, pair, threads))
        for name, (network, pair) in tried.items()
    ]
    trial = hold(bundle, candidates, cases, threads, say)
    found = []
    for name, rows in trial.cases.items():
        network, pair = tried[name]
        verdict = judge(rows, Limits(), *calibrator(bundle, network))
        found.append(Accepted(network, pair, pair in allowed_pairs(bundle, network, isa), verdict))
    return Acceptance(tuple(found), trial.refused, trial.notes)


def hold(
    bundle: Bundle,
    candidates: Sequence[Candidate],
    cases: Sequence[Case],
    threads: int,
    say: Callable[[str], None],
) -> Trial:
    """Each case through the original on ONNX Runtime and through every candidate.

    One that this machine cannot run, or whose backend refuses the network, is said and left out. Raises the
    last of these errors when none is left, BundleError when the engine answers none of the cases.
    """
    with ExitStack() as stack:
        reference = {
            network.name: stack.enter_context(open_pair(bundle, network.name, REFERENCE, threads))
            for network in bundle.manifest.networks
        }
        opened: dict[str, Runners] = {}
        refused: BackendError | BundleError | None = None
        for one in candidates:
            try:
                opened[one.name] = {**reference, one.network: stack.enter_context(one.runner)}
            except (BackendError, BundleError) as error:
                say(f"{one.name}: not tried, {error.message}")
                refused = error
        if refused is not None and not opened:
            raise refused
        trial = compare(bundle, reference, opened, cases, say)
    if not all(trial.cases.values()):
        first = trial.refused[0] if trial.refused else "no case was given"
        raise BundleError(f"no case can be judged: {first}", "name other cases with --cases")
    return trial


def calibrator(bundle: Bundle, network: str) -> tuple[float, float]:
    """Temperature and bias of the original's score."""
    original = bundle.find(network, "fp32")
    known = None if original is None else bundle.manifest.calibrators.get(original.file)
    return (1.0, 0.0) if known is None else (known.temperature, known.bias)
