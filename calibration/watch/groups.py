"""The measures with labels, for all cases and by site, vendor, fat suppression and artefact."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch import measures
from npc_edge.calibration.watch.agreement import CATEGORIES, confusion, kappa
from npc_edge.calibration.watch.columns import Columns
from npc_edge.calibration.watch.curve import calibration_error
from npc_edge.calibration.watch.estimate import Estimate, bootstrap_mean, wilson
from npc_edge.calibration.watch.pairs import Pair, said_category
from npc_edge.calibration.watch.sample_size import wanted

Floats = NDArray[np.float64]

BY = ("station", "vendor", "T2 fat suppression", "artefact")
"""The facts that tables are made by."""


@dataclass(frozen=True)
class Row:
    """The measures of one group of labelled cases. group: "all" or e.g. "vendor=ge". cases: with a label;
    positives: of these, with NPC. measures: name → estimate. warning: "" or what there are too few cases for.
    """

    group: str
    cases: int
    positives: int
    measures: Mapping[str, Estimate]
    warning: str


@dataclass(frozen=True)
class Agreement:
    """One group's agreement with the truth, each with its interval. confusion (5, 5): rows the truth, T1-T4
    and anything else. category: share of equal categories; kappa: Cohen's of the table. criteria: name →
    (share that agrees, kappa). dice: of corrected masks; accepted: share of reviewed masks."""

    group: str
    confusion: NDArray[np.int64]
    category: Estimate
    category_kappa: Estimate
    criteria: Mapping[str, tuple[Estimate, Estimate]]
    dice: Estimate
    accepted: Estimate


def groups(columns: Columns, by: Sequence[str] = BY) -> dict[str, NDArray[np.bool_]]:
    """Group name → (N,) bool: "all" first, then every level of every fact that some case has."""
    found = {"all": np.ones(len(columns), np.bool_)}
    for name in by:
        fact = columns.facts.get(name)
        if fact is None:
            continue
        for code, level in enumerate(fact.levels):
            inside = fact.codes == code
            if inside.any():
                found[f"{name}={level}"] = inside
    return found


def measured(columns: Columns, npc: Floats, threshold: float = 0.5, by: Sequence[str] = BY) -> list[Row]:
    """The measures of every group with a labelled and scored case; npc (N,): 1, 0, NaN unknown."""
    known = np.isfinite(npc) & np.isfinite(columns.probability)
    rows = []
    for group, inside in groups(columns, by).items():
        chosen = inside & known
        if chosen.any():
            rows.append(row_of(group, columns.probability[chosen], npc[chosen], threshold))
    return rows


def row_of(group: str, probability: Floats, npc: Floats, threshold: float) -> Row:
    """Every measure of one group; probability (N,), npc (N,) 0 or 1."""
    slope, intercept = measures.calibration_slope(probability, npc)
    area = measures.auc(probability, npc)
    found = {
        "brier": measures.brier(probability, npc).score,
        "log_loss": measures.log_loss(probability, npc),
        "calibration_in_the_large": measures.calibration_in_the_large(probability, npc),
        "calibration_slope": slope,
        "calibration_intercept": intercept,
        "calibration_error": calibration_error(probability, npc),
        "auc": area,
        "sensitivity": measures.sensitivity(probability, npc, threshold),
        "specificity": measures.specificity(probability, npc, threshold),
    }
    return Row(group, len(npc), int(npc.sum()), found, _warning(probability, npc, area.value))


def _warning(probability: Floats, npc: Floats, area: float) -> str:
    """In words, what these cases are too few for (Riley et al. 2021)."""
    need = wanted(probability, npc, 0.8 if np.isnan(area) else area)
    if need is None:
        return "Only cases of one kind: nothing can be said about calibration."
    if len(npc) >= need.all:
        return ""
    short = [
        f"{count} for the {name}"
        for name, count in (
            ("slope", need.slope),
            ("ratio found / foretold", need.ratio),
            ("AUC", need.auc),
        )
        if len(npc) < count
    ]
    return f"{len(npc)} cases are few; enough would be {', '.join(short)} (Riley 2021)."


def agreement(
    pairs: Iterable[Pair], columns: Columns, by: Sequence[str] = BY, levels: Sequence[str] = CATEGORIES
) -> list[Agreement]:
    """Agreement in every group that something is known of."""
    given = list(pairs)
    found = []
    for group, inside in groups(columns, by).items():
        chosen = [pair for pair in given if inside[pair.index]]
        if chosen:
            found.append(_agreement(group, chosen, levels))
    return found


def _agreement(group: str, pairs: list[Pair], levels: Sequence[str]) -> Agreement:
    staged = [pair for pair in pairs if pair.truth.category is not None]
    table = confusion([said_category(p) for p in staged], [p.truth.category for p in staged], levels)
    equal = int(np.trace(table[:-1, :-1]))
    reviews = [pair.truth.review for pair in pairs if pair.truth.review is not None]
    dice = [
        pair.truth.dice for pair in pairs if pair.truth.review == "corrected" and pair.truth.dice is not None
    ]
    return Agreement(
        group,
        table,
        wilson(equal, len(staged)),
        kappa(table),
        _criteria(pairs),
        bootstrap_mean(dice),
        wilson(reviews.count("accept"), len(reviews)),
    )


def _criteria(pairs: list[Pair]) -> dict[str, tuple[Estimate, Estimate]]:
    """Per criterion, a 2 x 2 table of the truth and of "unequivocal" among our evidence."""
    tables: dict[str, NDArray[np.int64]] = {}
    for pair in pairs:
        if pair.record.outcome != "result":
            continue
        for name, involved in pair.truth.criteria.items():
            table = tables.setdefault(name, np.zeros((2, 2), np.int64))
            table[int(involved), int(_involved(pair.record.evidence, name))] += 1
    return {
        name: (wilson(int(np.trace(table)), int(table.sum())), kappa(table))
        for name, table in sorted(tables.items())
    }


def _involved(evidence: Mapping[str, str], name: str) -> bool:
    """Whether our evidence calls a structure ("clivus", either side) or "structure.side" unequivocal."""
    return any(
        status == "unequivocal" and (key == name or key.startswith(name + "."))
        for key, status in evidence.items()
    )
