"""Sets of T categories that hold the true one at a chosen rate: "T3 or T4 at 90 %".

Class-conditional split conformal prediction (Vovk, 2012; Angelopoulos and Bates, 2023): each category has a
threshold of its own from its own calibration cases, so that the promise holds for T1 as for T4. That takes
cases of every category: with fewer than 100 the promise is too loose to print, and nothing is fitted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

CATEGORIES = ("T1", "T2", "T3", "T4")
WANTED = 100
"""Calibration cases wanted of every category."""


@dataclass(frozen=True)
class Conformal:
    """thresholds: a category belongs to the set when its probability reaches it. coverage: the share of cases
    of each category whose set holds it, at least. cases: by category, in the artefact's calibration set."""

    coverage: float
    thresholds: Mapping[str, float]
    cases: Mapping[str, int]

    def categories(self, distribution: Mapping[str, float]) -> tuple[str, ...]:
        """The set for one case, in the order of the categories; may be empty: none of them fits."""
        return tuple(name for name, least in self.thresholds.items() if distribution.get(name, 0.0) >= least)

    def words(self, distribution: Mapping[str, float]) -> str:
        """ "T3 or T4 at 90 %"."""
        found = self.categories(distribution)
        if not found:
            return f"no T category fits at {self.coverage:.0%}".replace("%", " %")
        listed = found[0] if len(found) == 1 else ", ".join(found[:-1]) + " or " + found[-1]
        return f"{listed} at {self.coverage:.0%}".replace("%", " %")


@dataclass(frozen=True)
class NotAllowed:
    """Why there are no sets."""

    reason: str


def fit_conformal(
    distributions: Sequence[Mapping[str, float]],
    truth: Sequence[str],
    coverage: float = 0.9,
    categories: Sequence[str] = CATEGORIES,
    wanted: int = WANTED,
) -> Conformal | NotAllowed:
    """Thresholds from what one artefact said of cases whose category is known; lists of the same length.

    ValueError on another length, an unknown category, or a coverage outside 0..1.
    """
    if len(distributions) != len(truth) or not 0 < coverage < 1 or not set(truth) <= set(categories):
        raise ValueError("one distribution a case, known categories and a coverage within 0..1 are wanted")
    counts = {name: list(truth).count(name) for name in categories}
    short = [f"{count} cases of {name}" for name, count in counts.items() if count < wanted]
    if short:
        return NotAllowed(f"not allowed: {', '.join(short)}, {wanted} wanted")
    least = ceil(1 / (1 - coverage) - 1e-9) - 1
    if min(counts.values()) < least:
        return NotAllowed(f"not allowed: {coverage:.0%} coverage takes {least} cases of each category")
    thresholds = {
        name: _threshold(
            np.array([d.get(name, 0.0) for d, t in zip(distributions, truth, strict=True) if t == name]),
            coverage,
        )
        for name in categories
    }
    return Conformal(coverage, thresholds, counts)


def _threshold(probabilities: NDArray[np.float64], coverage: float) -> float:
    """The k-th largest probability of the true category, k = ceil((n + 1) coverage): a new case of the
    category reaches it with chance k / (n + 1) or more."""
    k = ceil((len(probabilities) + 1) * coverage - 1e-9)
    return float(np.sort(probabilities)[::-1][k - 1])
