"""Calibrators of the artefacts that passed the gate: each from its own answers to the gate's cases.

The original's temperature is its maker's; another artefact's is that one, rescaled. What says how sure a
result is, Venn-Abers steps and sets of T categories, is fitted anew for every artefact, where the cases are
enough; where not, their counts say so in the manifest.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from npc_edge.calibration import venn_abers
from npc_edge.calibration.conformal import Conformal, fit_conformal
from npc_edge.engine.cohort import EDITIONS
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.calibrator import CategorySets, VennAbersTable
from npc_edge.engine.model.manifest import Calibrator
from npc_edge.engine.model.parity import CaseParity
from npc_edge.export.parity_report import Tried

LEVEL = 0.9
"""Of the sets: "T3 or T4 at 90 %"."""


def calibrators(bundle: Bundle, pairs: Sequence[Tried], fed: Collection[str]) -> dict[str, Calibrator]:
    """By artefact file: one for each artefact that passed, and for the original of each network.

    fed: names of the cases whose inputs an artefact was made with. Its own tables leave them out: it may do
    better on them. The original keeps its tables unless they come from fewer cases than these.
    """
    found: dict[str, Calibrator] = {}
    staged = bundle.manifest.staging is not None
    for pair in pairs:
        original = bundle.find(pair.network, "fp32")
        known = None if original is None else bundle.manifest.calibrators.get(original.file)
        if known is None or original is None:
            continue
        found[original.file] = _with_more(known, reference_tables(pair.cases, staged))
        if not pair.verdict or pair.artefact == original.file or pair.artefact in found:
            continue  # pairs come fastest first: the one that will run speaks for its file
        scale = pair.verdict.rescale
        words = (
            f"{known.population}; too few cases to refit for this artefact"
            if scale is None
            else f"{known.population}; rescaled by {scale:.4f} on {pair.verdict.cases} cases"
        )
        rescaled = {
            "temperature": known.temperature * (scale or 1.0),
            "bias": known.bias * (scale or 1.0),
            "population": words,
        }
        own = candidate_tables([case for case in pair.cases if case.case not in fed], staged)
        found[pair.artefact] = known.model_copy(update={**rescaled, **own})
    return found


def reference_tables(cases: Sequence[CaseParity], staged: bool) -> dict[str, Any]:
    """`venn_abers` and `sets` of a calibrator, from what the original answered. staged: the bundle stages."""
    return {
        "venn_abers": steps((c.score_reference, c.npc) for c in cases),
        "sets": {e: _sets(cases, e, [c.distribution_reference for c in cases]) for e in EDITIONS if staged},
    }


def candidate_tables(cases: Sequence[CaseParity], staged: bool) -> dict[str, Any]:
    """The same, from what the candidate answered."""
    return {
        "venn_abers": steps((c.score_candidate, c.npc) for c in cases),
        "sets": {e: _sets(cases, e, [c.distribution_candidate for c in cases]) for e in EDITIONS if staged},
    }


def steps(scored: Iterable[tuple[float | None, bool | None]]) -> VennAbersTable:
    """Venn-Abers of logits with their truth; those without either do not count. From too few cases, or of one
    kind only, the counts alone."""
    known = [(score, npc) for score, npc in scored if score is not None and npc is not None]
    known = [(score, npc) for score, npc in known if np.isfinite(score)]
    labels = [int(npc) for _, npc in known]
    prevalence = sum(labels) / len(labels) if labels else 0.0
    if venn_abers.why_not(len(known)) or len(set(labels)) < 2:
        return VennAbersTable(cases=len(known), prevalence=prevalence)
    fitted = venn_abers.fit_venn_abers([score for score, _ in known], labels)
    return VennAbersTable(
        cases=fitted.cases,
        prevalence=fitted.prevalence,
        scores=fitted.scores,
        lower=fitted.lower,
        upper=fitted.upper,
    )


def _sets(cases: Sequence[CaseParity], edition: str, said: Sequence[Any]) -> CategorySets:
    """Sets of one edition, from the cases whose category is known and that got one."""
    both = [
        (distributions[edition], case.categories[edition])
        for case, distributions in zip(cases, said, strict=True)
        if edition in distributions and edition in case.categories
    ]
    fitted = fit_conformal([d for d, _ in both], [t for _, t in both], LEVEL)
    thresholds = dict(fitted.thresholds) if isinstance(fitted, Conformal) else None
    return CategorySets.model_validate(
        {"level": LEVEL, "cases": dict(fitted.cases), "thresholds": thresholds}
    )


def _with_more(known: Calibrator, new: dict[str, Any]) -> Calibrator:
    """The calibrator with each new table that comes from more cases than the one it has."""
    table, sets = new["venn_abers"], dict(known.sets)
    if known.venn_abers is not None and known.venn_abers.cases >= table.cases:
        table = known.venn_abers
    for edition, fresh in new["sets"].items():
        if edition not in sets or sum(sets[edition].cases.values()) < sum(fresh.cases.values()):
            sets[edition] = fresh
    return known.model_copy(update={"venn_abers": table, "sets": sets})
