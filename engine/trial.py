"""One case through the corridor twice, with two sets of runners: what differs between the two answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine import pipeline
from npc_edge.engine.clock import Clock
from npc_edge.engine.cohort import Case, LoadedCase, load_case
from npc_edge.engine.errors import Refusal
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.metrics import dice, overlap, relative_error
from npc_edge.engine.model.parity import CaseParity
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.study.align import align
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Findings, Options, Predictions, Staging, Volume, Watch
from npc_edge.engine.voxels import HOST

Say = Callable[[str], None]
Answer = tuple[Predictions, Findings]
"""What the networks said, and what follows from it."""


Runners = Mapping[str, Runner]
"""The runner of each network, by the network's name."""


@dataclass(frozen=True)
class Trial:
    """cases: what was measured of each candidate, by its name. refused: what the engine would not answer,
    with the reason. notes: what was odd about the files of a case."""

    cases: Mapping[str, tuple[CaseParity, ...]]
    refused: tuple[str, ...]
    notes: tuple[str, ...]


def compare(
    bundle: Bundle,
    reference: Runners,
    candidates: Mapping[str, Runners],
    cases: Sequence[Case],
    say: Say | None = None,
) -> Trial:
    """Every case, as the engine reads and aligns it, through the reference and each candidate."""
    measured: dict[str, list[CaseParity]] = {name: [] for name in candidates}
    refused, notes = [], []
    with Reader() as reader:
        for number, case in enumerate(cases, start=1):
            try:
                loaded = load_case(case, bundle.manifest, reader)
                volumes, _ = align(loaded.volumes, bundle.manifest.reference_sequence)
                expected = answer(bundle, reference, volumes)
                found = {name: answer(bundle, runners, volumes) for name, runners in candidates.items()}
            except Refusal as refusal:
                refused.append(f"{case.name}: {refusal.code}, {refusal.one_line()}")
                continue
            for name, other in found.items():
                measured[name].append(difference(loaded, expected, other))
            notes += [f"{case.name}: {note}" for note in loaded.notes]
            if say is not None and (number % 10 == 0 or number == len(cases)):
                say(f"{number} of {len(cases)} cases")
    return Trial({name: tuple(rows) for name, rows in measured.items()}, tuple(refused), tuple(notes))


def difference(loaded: LoadedCase, expected: Answer, found: Answer) -> CaseParity:
    """What a candidate made of a case beside what the reference made of it."""
    (predictions, findings), (others, other) = expected, found
    masks = findings.segmentation.tumour > 0, other.segmentation.tumour > 0
    apart = overlap(masks[1], masks[0], findings.segmentation.geometry.spacing)
    return CaseParity(
        case=loaded.case.name,
        npc=loaded.case.npc,
        relative_error=_errors(predictions, others),
        dice=apart.dice,
        hd95_mm=apart.hd95_mm,
        assd_mm=apart.assd_mm,
        dice_reference=_against(masks[0], loaded.truth),
        dice_candidate=_against(masks[1], loaded.truth),
        score_reference=_score(findings),
        score_candidate=_score(other),
        changed=_categories(findings.staging) != _categories(other.staging),
        finding_changed=_finding(findings) != _finding(other),
        categories=loaded.case.categories,
        distribution_reference=_distributions(findings.staging),
        distribution_candidate=_distributions(other.staging),
    )


def answer(bundle: Bundle, runners: Runners, volumes: Mapping[str, Volume]) -> Answer:
    """What one set of runners makes of aligned volumes."""
    # The volumes are there already: the reader's child is never started.
    kit = pipeline.Kit(bundle, Reader(), runners, Options(), str)
    return pipeline.answer(volumes, kit, Clock(Watch()))


@contextmanager
def opened(runners: Runners) -> Iterator[Runners]:
    """All of them entered, and closed together."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(runner) for name, runner in runners.items()}


def _errors(expected: Predictions, found: Predictions) -> dict[str, float]:
    """By output; inf for one that is missing. The grids differ by what a locator of another precision moved
    them: values are then compared as they stand on the grid, as a later room would."""
    missing = np.empty(0, dtype=np.float32)
    return {
        name: relative_error(HOST.host(found.outputs.get(name, missing)), HOST.host(values))
        for name, values in expected.outputs.items()
    }


def _against(mask: NDArray[np.bool_], truth: NDArray[np.bool_] | None) -> float | None:
    return None if truth is None or not truth.any() else dice(mask, truth)


def _score(found: Findings) -> float | None:
    return None if found.detection is None else found.detection.raw_score


def _finding(found: Findings) -> str | None:
    return None if found.detection is None else found.detection.finding


def _distributions(staging: Staging | None) -> dict[str, Mapping[str, float]]:
    given = {} if staging is None else {"ajcc8": staging.ajcc8, "ajcc9": staging.ajcc9}
    return {edition: category.distribution for edition, category in given.items() if category is not None}


def _categories(staging: Staging | None) -> tuple[str | None, str | None]:
    if staging is None:
        return None, None
    eighth, ninth = staging.ajcc8, staging.ajcc9
    return eighth.t if eighth else None, ninth.t if ninth else None
