"""Site acceptance over a cohort: whole cases through every pair a bundle holds here, against its original."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from npc_edge.engine.cohort import Case
from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.parity import Limits, Verdict, judge
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.pairs import REFERENCE, Pair, allowed_pairs, held_pairs, missing_here
from npc_edge.engine.trial import Runners, compare


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


def accept(bundle: Bundle, cases: Sequence[Case], threads: int, say: Callable[[str], None]) -> Acceptance:
    """Hold every pair this machine can run against the original on ONNX Runtime, over the cases.

    threads 0: all cores. BundleError when the engine answers none of the cases.
    """
    isa = instruction_set()
    with ExitStack() as stack:
        reference = {
            network.name: stack.enter_context(open_pair(bundle, network.name, REFERENCE, threads))
            for network in bundle.manifest.networks
        }
        candidates: dict[str, Runners] = {}
        tried: list[tuple[str, Pair]] = []
        for network in bundle.manifest.networks:
            for pair in () if network.locates else held_pairs(bundle, network.name):
                if pair == REFERENCE or missing_here(pair, isa):
                    continue
                runner = stack.enter_context(open_pair(bundle, network.name, pair, threads))
                candidates[f"{network.name} {pair}"] = {**reference, network.name: runner}
                tried.append((network.name, pair))
        trial = compare(bundle, reference, candidates, cases, say)
    if candidates and not any(trial.cases.values()):
        raise BundleError(f"no case can be judged: {trial.refused[0] if trial.refused else 'there is none'}")
    found = [
        Accepted(
            name,
            pair,
            pair in allowed_pairs(bundle, name, isa),
            judge(trial.cases[f"{name} {pair}"], Limits(), *calibrator(bundle, name)),
        )
        for name, pair in tried
    ]
    return Acceptance(tuple(found), trial.refused, trial.notes)


def calibrator(bundle: Bundle, network: str) -> tuple[float, float]:
    """Temperature and bias of the original's score."""
    original = bundle.find(network, "fp32")
    known = None if original is None else bundle.manifest.calibrators.get(original.file)
    return (1.0, 0.0) if known is None else (known.temperature, known.bias)
