"""Agreement of what the engine said and what became known: categories, criteria, masks."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.estimate import Estimate, nothing, wald

CATEGORIES = ("T1", "T2", "T3", "T4")


def confusion(
    said: Sequence[str | None], truth: Sequence[str | None], levels: Sequence[str] = CATEGORIES
) -> NDArray[np.int64]:
    """Counts (levels + 1, levels + 1): rows the truth, columns what was said; the last is anything else."""
    place = {level: index for index, level in enumerate(levels)}
    counts = np.zeros((len(levels) + 1, len(levels) + 1), np.int64)
    for one, other in zip(truth, said, strict=True):
        counts[place.get(one or "", len(levels)), place.get(other or "", len(levels))] += 1
    return counts


def kappa(counts: NDArray[np.int64]) -> Estimate:
    """Cohen's kappa of a square table with the interval of Fleiss, Cohen and Everitt (1969)."""
    n = int(counts.sum())
    if n == 0:
        return nothing(0, "no cases")
    p = counts / n
    rows, columns = p.sum(axis=1), p.sum(axis=0)
    agreed, by_chance = float(np.trace(p)), float(rows @ columns)
    if by_chance >= 1:
        return nothing(n, "only one answer was ever given")
    value = (agreed - by_chance) / (1 - by_chance)
    means = columns[:, None] + rows[None, :]  # p.j for the truth's row i, pi. for the column j
    diagonal = np.diag(p) @ (1 - (rows + columns) * (1 - value)) ** 2
    aside = (1 - value) ** 2 * ((p * means**2).sum() - np.diag(p) @ (rows + columns) ** 2)
    variance = diagonal + aside - (value - by_chance * (1 - value)) ** 2
    return wald(value, sqrt(max(0.0, float(variance)) / n) / (1 - by_chance), n)
