"""Venn-Abers: a probability with an interval that says how sure it can be.

The inductive predictor of Vovk and Petej (UAI 2014): the isotonic fit of the calibration cases and the new
case, once as if it were negative (p0), once as if it were positive (p1). One of the two is calibrated,
whatever the score means; the interval between them is wide where there are few calibration cases. Fitted once
for an artefact into two step functions, applied by looking them up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.calibration.calibrators import Floats, cases_of

WANTED = 1000
"""Calibration cases from which the interval is narrow enough to be of use: 0.025 wide on average, where two
normal scores overlap to an AUC of 0.87 to 0.98. It is valid with any number."""

LEAST = 100
"""Calibration cases below which none is given: from 100 it is 0.10 wide on average, and wider from fewer."""


@dataclass(frozen=True)
class VennAbers:
    """scores (K,): the calibration scores at which p0 or p1 steps up, ascending. lower (K + 1,): p0 of a
    score s is lower[number of scores <= s]; upper (K + 1,): p1 of s is upper[number of scores < s]."""

    scores: tuple[float, ...]
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    cases: int
    prevalence: float

    def interval(self, logit: ArrayLike) -> tuple[Floats, Floats]:
        """(p0, p1), each the shape of logit, p0 <= p1."""
        x, known = np.asarray(logit, np.float64), np.asarray(self.scores)
        low = np.asarray(self.lower)[np.searchsorted(known, x, side="right")]
        return low, np.asarray(self.upper)[np.searchsorted(known, x, side="left")]

    def probability(self, logit: ArrayLike) -> Floats:
        """The one number with the least regret under log loss: p1 / (1 - p0 + p1), the shape of logit."""
        low, high = self.interval(logit)
        return np.asarray(high / (1 - low + high))


def fit_venn_abers(logits: ArrayLike, labels: ArrayLike) -> VennAbers:
    """logits, labels (N,), labels 0 or 1, both present; ValueError.

    Scores that lie between the same two calibration scores have the same p0 and p1; those at which neither
    steps are left out. p0 is the slope, left of the new case's place, of the greatest convex minorant of the
    sum of labels over the number of cases, with a negative case put in; p1 the slope of the same from the
    right.
    """
    x, y = cases_of(logits, labels)
    scores, where = np.unique(x, return_inverse=True)
    weight: Floats = np.bincount(where.ravel()).astype(np.float64)
    positive: Floats = np.bincount(where.ravel(), weights=y).astype(np.float64)
    upper = _with_a_positive(weight, positive)
    lower = 1 - _with_a_positive(weight[::-1], (weight - positive)[::-1])[::-1]
    steps = (lower[1:] != lower[:-1]) | (upper[1:] != upper[:-1])
    kept = np.concatenate([[True], steps])
    return VennAbers(
        tuple(scores[steps].tolist()),
        tuple(lower[kept].tolist()),
        tuple(upper[kept].tolist()),
        len(x),
        float(y.mean()),
    )


def why_not(cases: int) -> str:
    """Why so many calibration cases allow no interval; empty when they do."""
    return f"not allowed: {cases} calibration cases; {LEAST} are needed" if cases < LEAST else ""


def _with_a_positive(weight: Floats, positive: Floats) -> Floats:
    """p1 (K + 1,) of a new positive case whose score is, for i < K, that of group i (or just below it, which
    pools to the same), and for i = K above all.

    Isotonic regression at the new case is the largest, over groups that end there, of the smallest mean of
    what begins there and runs up. The new case raises every such mean, so p1[i] is the min over the right
    ends of the max over the left ends: by the minorant of the points to the left kept as a stack, and a walk
    along that of the points to the right.
    """
    count = len(weight)
    x = np.concatenate([[0.0], np.cumsum(weight)])
    y = np.concatenate([[0.0], np.cumsum(positive)])
    right = _right_corners(x, y)
    found = np.empty(count + 1)
    left: list[int] = []
    for index in range(count + 1):
        while len(left) >= 2 and _turn(x, y, left[-2], left[-1], index) <= 0:
            left.pop()
        left.append(index)
        found[index] = _slope(x, y, left, right, index)
    return found


def _right_corners(x: Floats, y: Floats) -> NDArray[np.intp]:
    """next[i]: the corner after i of the convex minorant of the points i, i + 1, …; the last has itself."""
    count = len(x)
    following = np.arange(count)
    for index in range(count - 2, -1, -1):
        after = index + 1
        while following[after] != after and _turn(x, y, index, after, int(following[after])) <= 0:
            after = int(following[after])
        following[index] = after
    return following


def _turn(x: Floats, y: Floats, a: int, b: int, c: int) -> float:
    """> 0 when a, b, c turn upwards: b is a corner of the minorant."""
    return float((x[b] - x[a]) * (y[c] - y[b]) - (y[b] - y[a]) * (x[c] - x[b]))


def _slope(x: Floats, y: Floats, left: list[int], right: NDArray[np.intp], at: int) -> float:
    """Isotonic value of a positive case put in at `at`: right of it every point moves by (1, 1).

    Pool the case with its neighbours while they break the order, from the nearest corner on either side.
    """
    low = len(left) - 1
    high = at
    start, end = left[low], high
    while True:
        value = (y[end] - y[start] + 1) / (x[end] - x[start] + 1)
        if right[end] != end and _mean(x, y, end, int(right[end])) < value:
            end = int(right[end])
        elif low > 0 and _mean(x, y, left[low - 1], left[low]) > value:
            low -= 1
            start = left[low]
        else:
            return float(value)


def _mean(x: Floats, y: Floats, start: int, end: int) -> float:
    return float((y[end] - y[start]) / (x[end] - x[start]))
