"""Distributions of a window against the baseline: KS, MMD and PSI, without assuming a distribution.

p-values are from permutations, stopped early once they are clearly large (Besag and Clifford, Biometrika
1991;78:301): 10 permutations at least as extreme end the count, and p is 10 over the permutations done.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ENOUGH = 10
"""Permutations as extreme as the data after which no more are drawn."""
_BATCH = 64


@dataclass(frozen=True)
class Test:
    """A statistic with its permutation p-value."""

    __test__ = False  # not a test of pytest's

    statistic: float
    p: float


def ks_statistic(one: Floats, other: Floats) -> float:
    """Largest distance of the two distribution functions (N,), (M,); 0..1."""
    values = np.concatenate([one, other])
    below_one = np.searchsorted(np.sort(one), values, side="right") / len(one)
    below_other = np.searchsorted(np.sort(other), values, side="right") / len(other)
    return float(np.abs(below_one - below_other).max())


def ks(one: Floats, other: Floats, permutations: int = 5000, seed: int = 0) -> Test:
    """Two-sample Kolmogorov-Smirnov test by permutation, ties and all; (N,), (M,) finite values.

    Without ties the permutations' distribution is the same for all data of these sizes: drawn once.
    """
    ordered = np.sort(np.concatenate([one, other]))
    distinct = np.unique(ordered)
    found = ks_statistic(one, other)
    if len(distinct) == len(ordered):
        null = _null_distances(len(one), len(other), permutations, seed)
        extreme = len(null) - int(np.searchsorted(null, found - 1e-12))
        return Test(found, (extreme + 1) / (len(null) + 1))
    ends = np.searchsorted(ordered, distinct, side="right") - 1  # the last of each run of ties

    def statistics(order: NDArray[np.intp]) -> Floats:
        return np.asarray(np.abs(_steps(order, len(one))[:, ends]).max(axis=1))

    return Test(found, _permuted(statistics, found, len(ordered), permutations, seed))


def _steps(order: NDArray[np.intp], first: int) -> Floats:
    """Difference of the two distribution functions after each value, (B, N): the first `first` indices of
    each permutation are one sample's."""
    count = order.shape[1]
    weights = np.full(count, -1 / (count - first))
    weights[:first] = 1 / first
    return np.asarray(np.cumsum(weights[order], axis=1))


@lru_cache(maxsize=2048)
def _null_distances(first: int, second: int, permutations: int, seed: int) -> Floats:
    """Sorted KS statistics of permutations without ties."""
    random = np.random.default_rng(seed)
    drawn = []
    for start in range(0, permutations, 500):
        shape = (min(500, permutations - start), first + second)
        order = random.permuted(np.broadcast_to(np.arange(shape[1]), shape), axis=1)
        drawn.append(np.abs(_steps(order, first)).max(axis=1))
    return np.sort(np.concatenate(drawn))


def mmd(one: Floats, other: Floats, permutations: int = 5000, seed: int = 0) -> Test:
    """Squared maximum mean discrepancy, unbiased, with a Gaussian kernel of the median distance.

    one (N, D), other (M, D): columns on one scale. Gretton et al., JMLR 2012;13:723. p by permutation.
    """
    kernel = _kernel(np.concatenate([one, other]))
    first, second = len(one), len(other)
    diagonal = np.diag(kernel)

    def statistics(order: NDArray[np.intp]) -> Floats:
        inside = np.zeros(order.shape)
        np.put_along_axis(inside, order[:, :first], 1.0, axis=1)
        rows = inside @ kernel
        xx = (rows * inside).sum(axis=1) - inside @ diagonal
        xy = (rows * (1 - inside)).sum(axis=1)
        yy = ((kernel.sum(axis=0) - rows) * (1 - inside)).sum(axis=1) - (1 - inside) @ diagonal
        return np.asarray(
            xx / (first * (first - 1)) + yy / (second * (second - 1)) - 2 * xy / (first * second)
        )

    found = float(statistics(np.arange(first + second)[None, :])[0])
    return Test(found, _permuted(statistics, found, first + second, permutations, seed))


def _kernel(points: Floats) -> Floats:
    squares = (points**2).sum(axis=1)
    distance = np.maximum(squares[:, None] + squares[None, :] - 2 * points @ points.T, 0)
    middle = float(np.median(distance[np.triu_indices(len(points), 1)])) or 1.0
    return np.asarray(np.exp(-distance / middle))


def _permuted(
    statistics: Callable[[NDArray[np.intp]], Floats], found: float, count: int, permutations: int, seed: int
) -> float:
    """p-value: the share of permutations at least as extreme, the data themselves one of them."""
    random = np.random.default_rng(seed)
    extreme = done = 0
    while done < permutations:
        batch = min(_BATCH, permutations - done)
        order = random.permuted(np.broadcast_to(np.arange(count), (batch, count)), axis=1)
        hits = np.flatnonzero(statistics(order) >= found - 1e-12)
        if extreme + len(hits) >= ENOUGH:
            last = int(hits[ENOUGH - extreme - 1]) + 1
            return ENOUGH / (done + last)
        extreme += len(hits)
        done += batch
    return (extreme + 1) / (done + 1)


def benjamini_hochberg(p: Floats) -> Floats:
    """Adjusted p-values (N,): those at or below q are discoveries at false-discovery rate q (1995)."""
    given = np.asarray(p, np.float64)
    order = np.argsort(given)
    scaled = given[order] * len(given) / np.arange(1, len(given) + 1)
    adjusted = np.minimum(np.minimum.accumulate(scaled[::-1])[::-1], 1.0)
    found = np.empty_like(adjusted)
    found[order] = adjusted
    return found


def psi(baseline: Floats, window: Floats, bins: int = 10) -> float:
    """Population stability index over the baseline's quantile bins, half a case added to each bin.

    A convention, not a test: 0.1 is called a small, 0.25 a large change. See `psi_by_chance`.
    """
    edges = np.unique(np.quantile(baseline, np.linspace(0, 1, bins + 1)[1:-1]))
    counts = [
        np.bincount(np.searchsorted(edges, values, side="right"), minlength=len(edges) + 1) + 0.5
        for values in (baseline, window)
    ]
    before, after = (count / count.sum() for count in counts)
    return float(((after - before) * np.log(after / before)).sum())


def psi_by_chance(baseline: int, window: int, bins: int = 10) -> tuple[float, float]:
    """Mean and 99.9th percentile of the PSI when nothing changed: about (1/n + 1/m) chi-square (bins - 1)."""
    freedom, scale = bins - 1, 1 / baseline + 1 / window
    wilson_hilferty = freedom * (1 - 2 / (9 * freedom) + 3.090232 * (2 / (9 * freedom)) ** 0.5) ** 3
    return freedom * scale, wilson_hilferty * scale
