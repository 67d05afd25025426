"""The few statistics the benches report, each with its interval. Pure: numbers in, numbers out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

Z95 = 1.959964
"""The normal quantile of a two-sided 95 % interval."""


@dataclass(frozen=True)
class Interval:
    """An estimate with its 95 % interval, from `n` cases. NaN throughout when there are none."""

    value: float
    low: float
    high: float
    n: int

    def text(self, digits: int = 3) -> str:
        """ "0.970 (0.955 to 0.985)", or "not measured" from no cases."""
        if self.n == 0:
            return "not measured"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


NOTHING = Interval(float("nan"), float("nan"), float("nan"), 0)


def wilson(hits: int, n: int) -> Interval:
    """A proportion with its Wilson score interval (Wilson 1927): sound near 0 and 1 and for few cases."""
    if n == 0:
        return NOTHING
    share = hits / n
    denominator = 1 + Z95**2 / n
    middle = (share + Z95**2 / (2 * n)) / denominator
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / denominator
    low = 0.0 if hits == 0 else middle - half
    return Interval(share, low, 1.0 if hits == n else middle + half, n)


def auc(positive: ArrayLike, negative: ArrayLike) -> Interval:
    """Area under the ROC curve with DeLong's interval (Biometrics 1988;44:837); ties count half.

    The interval is clipped to 0..1; with perfect separation DeLong's variance is 0 and so is its width.
    """
    above, below = np.asarray(positive, np.float64), np.asarray(negative, np.float64)
    if above.size == 0 or below.size == 0:
        return NOTHING
    wins = (above[:, None] > below[None, :]) + 0.5 * (above[:, None] == below[None, :])
    area = float(wins.mean())
    variance = _variance_of_mean(wins.mean(axis=1)) + _variance_of_mean(wins.mean(axis=0))
    half = Z95 * sqrt(variance)
    return Interval(area, max(0.0, area - half), min(1.0, area + half), above.size + below.size)


def _variance_of_mean(values: NDArray[np.float64]) -> float:
    return float(values.var(ddof=1) / values.size) if values.size > 1 else 0.0


def mean(values: Sequence[float], resamples: int = 2000) -> Interval:
    """A mean with its percentile bootstrap interval (2000 resamples, always the same ones)."""
    given = np.asarray(values, np.float64)
    if given.size == 0:
        return NOTHING
    random = np.random.default_rng(20_000)
    drawn = random.choice(given, size=(resamples, given.size)).mean(axis=1)
    low, high = np.percentile(drawn, [2.5, 97.5])
    return Interval(float(given.mean()), float(low), float(high), given.size)


def brier(probability: ArrayLike, truth: ArrayLike) -> float:
    """Mean squared distance of the probability from what was true (0 or 1); NaN from no cases."""
    given = np.asarray(probability, np.float64)
    if given.size == 0:
        return float("nan")
    return float(np.mean((given - np.asarray(truth, np.float64)) ** 2))


def dice(one: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Overlap of two masks of one shape, 0..1; two empty masks agree: 1."""
    a, b = one != 0, other != 0
    together = int(a.sum()) + int(b.sum())
    return 1.0 if together == 0 else 2.0 * int((a & b).sum()) / together
