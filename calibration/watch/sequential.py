"""CUSUM and EWMA of standardised scores, and their average run length.

A CUSUM adds up what exceeds the allowance k and never falls below 0 (Page, Biometrika 1954;41:100). An EWMA
is a fading mean (Roberts, Technometrics 1959;1:239). The average run length (ARL) is the mean number of cases
until the limit is passed: by the Markov chain of Brook and Evans (Biometrika 1972;59:539), or by Siegmund's
approximation (Sequential Analysis, 1985). Everything here is for scores of mean 0 and deviation 1.
"""

from __future__ import annotations

from collections.abc import Callable
from math import erf, exp, sqrt

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_STATES = 201
_erf = np.vectorize(erf, otypes=[np.float64])


def cusum(scores: Floats, allowance: float) -> tuple[Floats, Floats]:
    """Upward and downward CUSUM after each case, both >= 0, each the shape of scores; time is axis 0."""
    return _one_sided(scores - allowance), _one_sided(-scores - allowance)


def _one_sided(steps: Floats) -> Floats:
    """max(0, previous + step), for the whole series at once: the sum less its lowest value so far."""
    total = np.cumsum(steps, axis=0)
    return np.asarray(total - np.minimum(np.minimum.accumulate(total, axis=0), 0.0))


def ewma(scores: Floats, weight: float) -> Floats:
    """The fading mean in units of its long-run deviation, the shape of scores; time is axis 0, from 0."""
    found = np.empty_like(scores)
    state = np.zeros_like(scores[0]) if len(scores) else 0.0
    for index in range(len(scores)):
        state = state + weight * (scores[index] - state)
        found[index] = state
    return found / ewma_deviation(weight)


def ewma_deviation(weight: float) -> float:
    """Long-run deviation of the fading mean of independent scores of deviation 1."""
    return sqrt(weight / (2 - weight))


def cusum_arl(limit: float, allowance: float, shift: float = 0.0) -> float:
    """Mean number of cases until a one-sided CUSUM that starts at 0 passes `limit`; normal scores."""
    width = 2 * limit / (2 * _STATES - 1)
    middles = np.arange(_STATES) * width
    upper = middles[None, :] - middles[:, None] + width / 2 + allowance - shift
    below = _cdf(upper)
    chain = below.copy()
    chain[:, 1:] -= below[:, :-1]  # state 0 takes all that would fall below it
    return _mean_steps(chain, 0)


def two_sided_arl(limit: float, allowance: float, shift: float = 0.0) -> float:
    """The same for the upward and the downward CUSUM together (Kemp 1961: the rates of alarm add)."""
    up, down = cusum_arl(limit, allowance, shift), cusum_arl(limit, allowance, -shift)
    return 1 / (1 / up + 1 / down)


def siegmund_arl(limit: float, allowance: float, shift: float = 0.0) -> float:
    """Siegmund's approximation of cusum_arl, good to a few per cent for k near half the shift."""
    drift, reach = shift - allowance, limit + 1.166
    if drift == 0:
        return reach**2
    return (exp(-2 * drift * reach) + 2 * drift * reach - 1) / (2 * drift**2)


def ewma_arl(limit: float, weight: float, shift: float = 0.0) -> float:
    """Mean number of cases until the EWMA leaves ±limit (in its long-run deviations); normal scores."""
    edge = limit * ewma_deviation(weight)
    width = 2 * edge / _STATES
    middles = -edge + (np.arange(_STATES) + 0.5) * width
    kept = (1 - weight) * middles[:, None]
    high = _cdf((middles[None, :] + width / 2 - kept) / weight - shift)
    low = _cdf((middles[None, :] - width / 2 - kept) / weight - shift)
    return _mean_steps(high - low, _STATES // 2)


def limit_for(arl: Callable[[float], float], wanted: float) -> float:
    """The limit whose average run length is `wanted`; arl: a growing function of the limit."""
    low, high = 0.01, 1.0
    while arl(high) < wanted:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if arl(middle) < wanted else (low, middle)
    return (low + high) / 2


def _cdf(z: Floats) -> Floats:
    return np.asarray(0.5 * (1 + _erf(z / sqrt(2))))


def _mean_steps(chain: Floats, start: int) -> float:
    """Mean steps until a chain leaves its transient states, from state `start`."""
    return float(np.linalg.solve(np.eye(len(chain)) - chain, np.ones(len(chain)))[start])
