"""An estimate with its interval, and the intervals of proportions and means."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import lgamma, log, sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.calibration.watch.normal import Z95

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval, from n cases. NaN throughout where it cannot be had.

    warning: why it should not be relied on yet, "" when there is nothing to say.
    """

    value: float
    low: float
    high: float
    n: int
    warning: str = ""

    def text(self, digits: int = 2) -> str:
        """ "0.97 (0.95 to 0.98)", or "not measured"."""
        if np.isnan(self.value):
            return "not measured"
        return f"{self.value:.{digits}f} ({self.low:.{digits}f} to {self.high:.{digits}f})"


def nothing(n: int, warning: str) -> Estimate:
    """No estimate, and why."""
    return Estimate(float("nan"), float("nan"), float("nan"), n, warning)


def wald(value: float, error: float, n: int) -> Estimate:
    """value ± 1.96 standard errors."""
    return Estimate(value, value - Z95 * error, value + Z95 * error, n)


def wilson(hits: int, n: int) -> Estimate:
    """A proportion with Wilson's score interval (JASA 1927;22:209)."""
    if n == 0:
        return nothing(0, "no cases")
    share, denominator = hits / n, 1 + Z95**2 / n
    middle = (share + Z95**2 / (2 * n)) / denominator
    half = Z95 * sqrt(share * (1 - share) / n + Z95**2 / (4 * n**2)) / denominator
    return Estimate(share, max(0.0, middle - half), min(1.0, middle + half), n)


def clopper_pearson(hits: int, n: int) -> Estimate:
    """A proportion with the exact interval (Biometrika 1934;26:404): never too narrow, often too wide."""
    if n == 0:
        return nothing(0, "no cases")
    low = 0.0 if hits == 0 else _solve(lambda p: _at_least(hits, n, p), 0.025)
    high = 1.0 if hits == n else _solve(lambda p: _at_least(hits + 1, n, p), 0.975)
    return Estimate(hits / n, low, high, n)


def _at_least(hits: int, n: int, p: float) -> float:
    """Chance of `hits` or more of n."""
    k = np.arange(hits, n + 1)
    ways = lgamma(n + 1) - np.array([lgamma(i + 1) + lgamma(n - i + 1) for i in k])
    return float(np.exp(ways + k * log(p) + (n - k) * log(1 - p)).sum())


def _solve(rising: Callable[[float], float], wanted: float) -> float:
    low, high = 1e-12, 1 - 1e-12
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < wanted else (low, middle)
    return (low + high) / 2


def mean(values: ArrayLike) -> Estimate:
    """A mean with the normal interval; for the squares and logarithms that scores are means of."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return nothing(len(x), "fewer than 2 cases")
    return wald(float(x.mean()), float(x.std(ddof=1)) / sqrt(len(x)), len(x))


def bootstrap_mean(values: ArrayLike, resamples: int = 2000, seed: int = 1) -> Estimate:
    """A mean with its percentile bootstrap interval: for skewed values, as Dice."""
    x = np.asarray(values, np.float64)
    if len(x) < 2:
        return nothing(len(x), "fewer than 2 cases")
    random = np.random.default_rng(seed)
    drawn = [x[random.integers(len(x), size=len(x))].mean() for _ in range(resamples)]
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Estimate(float(x.mean()), float(low), float(high), len(x))
