"""What a watcher could have seen by now: the shift it would find with 90 % power, in closed form.

By case n a CUSUM whose scores are shifted has gone up by n (shift - k), has gained, from never falling below
0, what a sum with that drift falls below its start (1 / 2 (shift - k) in the mean, 0.8 sqrt(n) at most), and
lies within 1.28 sqrt(n) below that in nine of ten series. A low limit is passed by one of many fluctuations
instead: the wait is exponential then, and a mean wait of n / 2.3 is over by case n in nine of ten series.
A reference that grows with the cases takes part of the shift in: of a shift that began right after m baseline
cases, m / (m + i) is left at the i-th case, m ln(1 + n / m) in n cases. The tests compare with simulation.
"""

from __future__ import annotations

from functools import lru_cache
from math import log, sqrt

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.normal import cdf
from npc_edge.calibration.watch.sequential import siegmund_arl

Z90 = 1.2815515655446004
"""The normal quantile of 90 %."""

_DENSE = 2000  # cases up to which each is looked at


@lru_cache(maxsize=1024)  # the report asks again what the verdicts asked
def cusum_shift(limit: float, allowance: float, cases: int, reference: int | None = None) -> float:
    """Smallest shift (in deviations) that a CUSUM finds by now with 90 % power; infinite from no cases.

    cases: since monitoring began. reference: cases before it that scores are ranked among; None: the scores
    are against a fixed value, and nothing of the shift is lost.
    """
    if cases < 1:
        return float("inf")
    n = np.arange(1, cases + 1, dtype=np.float64)
    if cases > _DENSE:  # what is looked for is flat there
        n = np.unique(np.rint(np.geomspace(1, cases, _DENSE)))
    kept: NDArray[np.float64] = n if reference is None else reference * np.log1p(n / reference)
    low, high = 0.0, 1.0
    while not _passes(limit, allowance, high, n, kept):
        low, high = high, 2 * high
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (low, middle) if _passes(limit, allowance, middle, n, kept) else (middle, high)
    return high


def _passes(
    limit: float, allowance: float, shift: float, n: NDArray[np.float64], kept: NDArray[np.float64]
) -> bool:
    """Does a CUSUM with this shift pass its limit by the last case, in nine of ten series?"""
    rise = shift * kept - allowance * n
    gained = np.minimum(n / np.maximum(2 * rise, 1e-9), 0.8 * np.sqrt(n))
    risen = bool((rise + np.where(rise > 0, gained, 0.0) - Z90 * np.sqrt(n)).max() >= limit)
    wait = siegmund_arl(limit, allowance, shift * float(kept[-1] / n[-1]))
    return risen or wait * log(10) <= float(n[-1])


def ks_shift(p_limit: float, reference: int, window: int) -> float:
    """Smallest shift of a normal's mean that a Kolmogorov-Smirnov test finds with 90 % power, roughly: the
    largest distance of two samples lies above their distributions' by most of what it varies by (0.15 is
    what simulation leaves of it)."""
    spread = sqrt((reference + window) / (reference * window))
    distance = (sqrt(-0.5 * log(p_limit / 2)) + 0.15) * spread
    if distance >= 1:
        return float("inf")
    low, high = 0.0, 20.0
    for _ in range(60):  # two normals `shift` apart differ by 2 cdf(shift / 2) - 1
        middle = (low + high) / 2
        low, high = (middle, high) if 2 * cdf(middle / 2) - 1 < distance else (low, middle)
    return (low + high) / 2


def proportion_shift(share: float, before: int, after: int, p_limit: float) -> float:
    """Smallest rise of a share that `after` cases show against `before`, 90 % power, two-sided p_limit."""
    if not before or not after:
        return float("inf")
    critical, step = -_quantile(p_limit / 2), 0.0
    while share + step < 1:
        step += 0.001
        new = share + step
        pooled = (share * before + new * after) / (before + after)
        null = sqrt(pooled * (1 - pooled) * (1 / before + 1 / after))
        alternative = sqrt(share * (1 - share) / before + new * max(0.0, 1 - new) / after)
        if step >= critical * null + Z90 * alternative:
            return step
    return float("inf")


def _quantile(share: float) -> float:
    low, high = -40.0, 40.0
    for _ in range(100):
        middle = (low + high) / 2
        low, high = (middle, high) if cdf(middle) < share else (low, middle)
    return (low + high) / 2
