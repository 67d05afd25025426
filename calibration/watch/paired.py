"""What quantisation does: the same cases through two artefacts, case by case."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import comb

import numpy as np

from npc_edge.calibration.record import CaseRecord, Level, Verdict
from npc_edge.calibration.watch.estimate import Estimate, mean, wilson

TOLERATED = 0.02
"""Difference of mean probability, and share of findings that flip, up to which two artefacts are alike."""


@dataclass(frozen=True)
class Paired:
    """artefacts: both names. difference: mean of the second's probability less the first's. limits: of
    agreement, mean ± 1.96 SD (Bland and Altman 1986). flipped: share of cases whose finding differs.
    p_one_way: exact McNemar test, are flips to suspicious as frequent as flips away from it? volume_ml: mean
    difference."""

    artefacts: tuple[str, str]
    cases: int
    difference: Estimate
    limits: tuple[float, float]
    largest: float
    flipped: Estimate
    p_one_way: float
    volume_ml: Estimate


def paired(records: Iterable[CaseRecord], one: str, other: str) -> Paired:
    """Compares the last results that artefacts `one` and `other` gave of the same cases and bundle name."""
    last: dict[str, dict[tuple[str, str], CaseRecord]] = {one: {}, other: {}}
    for record in sorted(records, key=lambda r: r.at):
        if record.artefact in last and record.outcome == "result" and record.probability is not None:
            last[record.artefact][(record.case_key, record.bundle)] = record
    both = [(last[one][key], last[other][key]) for key in last[one] if key in last[other]]
    change = np.array([(b.probability or 0.0) - (a.probability or 0.0) for a, b in both])
    to = sum(a.finding != "suspicious" and b.finding == "suspicious" for a, b in both)
    away = sum(a.finding == "suspicious" and b.finding != "suspicious" for a, b in both)
    flips = sum(a.finding != b.finding for a, b in both)
    spread = float(change.std(ddof=1)) if len(change) > 1 else float("nan")
    middle = float(change.mean()) if len(change) else float("nan")
    volumes = [
        b.volume_ml - a.volume_ml for a, b in both if a.volume_ml is not None and b.volume_ml is not None
    ]
    return Paired(
        (one, other),
        len(both),
        mean(change),
        (middle - 1.96 * spread, middle + 1.96 * spread),
        float(np.abs(change).max()) if len(change) else float("nan"),
        wilson(flips, len(both)),
        mcnemar(to, away),
        mean(volumes),
    )


def mcnemar(one_way: int, other_way: int) -> float:
    """Two-sided exact p-value of McNemar's test."""
    n, few = one_way + other_way, min(one_way, other_way)
    return float(min(1.0, 2 * sum(comb(n, k) for k in range(few + 1)) / 2**n))


def paired_verdict(result: Paired) -> Verdict:
    """At most "watch": the gate of a bundle decides what may run, and a difference is no drift."""
    flipped, difference = result.flipped, result.difference
    beyond = bool(flipped.low > TOLERATED or difference.low > TOLERATED or difference.high < -TOLERATED)
    level: Level = "watch" if beyond else "quiet"
    first, second = result.artefacts
    words = f"The same {result.cases} cases ran with {first} and with {second}: on average the second's "
    words += (
        f"probability differs by {difference.text(3).replace('-', '−')} from the first's, and the finding "
    )
    words += (
        f"in {100 * flipped.value:.1f} % of them ({100 * flipped.low:.1f} to {100 * flipped.high:.1f} %)."
    )
    half = difference.high - difference.low
    return Verdict(
        watcher="artefacts.paired",
        group=f"{first} | {second}",
        level=level,
        statistic=abs(difference.value) if result.cases > 1 else 0.0,
        limit=TOLERATED,
        cases=result.cases,
        reason=words if result.cases > 1 else f"Fewer than 2 cases went through both {first} and {second}.",
        check_first="Run `npc-edge verify` on the bundle: are the golden cases right?" if beyond else "",
        power="Too few cases."
        if result.cases < 2
        else f"A mean difference of {TOLERATED + 0.83 * half:.3f} would have been seen with 90 % power.",
    )


def artefacts_in_both(records: Iterable[CaseRecord]) -> list[tuple[str, str]]:
    """Pairs of artefacts that share at least one case, by name."""
    seen: dict[str, set[str]] = {}
    for record in records:
        seen.setdefault(record.case_key, set()).add(record.artefact)
    found = {
        (one, other) for names in seen.values() for one in names for other in names if one < other and one
    }
    return sorted(found)
