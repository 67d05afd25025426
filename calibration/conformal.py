"""Sets of T categories that hold the true one at a chosen rate: "T3 or T4 at 90 %".

Class-conditional (Mondrian) split conformal prediction (Vovk, ACML 2012): each category has a threshold of
its own from its own calibration cases, so that the promise holds for T1 as for T4. The score is 1 - the share
of the true category, the least ambiguous one (Sadinle, Lei and Wasserman, JASA 2019;114:223): it takes any
distribution over T1-T4, calibrated or not. Ties, as between shares of a sweep, only make sets larger.

The promise is over many calibration sets; that of one set is Beta-distributed about it (Angelopoulos and
Bates, 2023, section 3.2): from 100 cases of a category at 90 % within 84 to 95 % for nineteen sets of twenty.
With fewer it is too loose to print, and nothing is fitted. It holds for cases that, like the calibration
cases, got a distribution at all: a tumour that was missed has no set.

A set may be empty: no category is as likely as it was in nine of ten of its own cases. Nothing is put in its
place, for that would hide that the case is unlike those cases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import NDArray

CATEGORIES = ("T1", "T2", "T3", "T4")
WANTED = 100
"""Calibration cases wanted of every category: see above for what fewer would be worth."""


@dataclass(frozen=True)
class Conformal:
    """thresholds: a category belongs to the set when its probability reaches it. coverage: the share of cases
    of each category whose set holds it, at least. cases: by category, in the artefact's calibration set."""

    coverage: float
    thresholds: Mapping[str, float]
    cases: Mapping[str, int]

    def categories(self, distribution: Mapping[str, float]) -> tuple[str, ...]:
        """The set for one case, in the order of the categories; may be empty: none of them fits."""
        return tuple(
            name for name in sorted(self.thresholds) if distribution.get(name, 0.0) >= self.thresholds[name]
        )

    def words(self, distribution: Mapping[str, float]) -> str:
        """ "T3 or T4 at 90 %"."""
        return words(self.categories(distribution), self.coverage)


def words(categories: Sequence[str], coverage: float) -> str:
    """A set in words."""
    *others, last = categories or ("no T category fits",)
    listed = f"{', '.join(others)} or {last}" if others else last
    return f"{listed} at {100 * coverage:g} %"


@dataclass(frozen=True)
class NotAllowed:
    """Why there are no sets, and how many cases of each category there were."""

    reason: str
    cases: Mapping[str, int]


def why_not(cases: Mapping[str, int], coverage: float, wanted: int = WANTED) -> str:
    """Why so many cases of each category allow no sets; empty when they do."""
    short = {name: count for name, count in cases.items() if count < wanted}
    if short:
        first, *others = (f"{count} of {name}" for name, count in short.items())
        noun = "case" if first.startswith("1 ") else "cases"
        listed = ", ".join([first.replace(" of", f" {noun} of"), *others])
        each = " of each" if others else ""
        return f"not allowed: {listed} in the calibration set; {wanted}{each} are needed"
    least = ceil(1 / (1 - coverage) - 1e-9) - 1
    if min(cases.values()) < least:
        return f"not allowed: {coverage:.0%} coverage takes {least} cases of each category"
    return ""


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
    if reason := why_not(counts, coverage, wanted):
        return NotAllowed(reason, counts)
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
