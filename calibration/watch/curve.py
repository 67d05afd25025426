"""The calibration curve: smooth with its band, and binned with its error."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.calibration.watch.estimate import Estimate, nothing
from npc_edge.calibration.watch.label_charts import logit
from npc_edge.calibration.watch.measures import bin_of, logistic
from npc_edge.calibration.watch.normal import Z95

Floats = NDArray[np.float64]

_KNOTS = {3: (0.1, 0.5, 0.9), 4: (0.05, 0.35, 0.65, 0.95), 5: (0.05, 0.275, 0.5, 0.725, 0.95)}
"""Harrell's places of the knots (Regression Modeling Strategies, 2nd ed., table 2.3)."""


@dataclass(frozen=True, eq=False)
class Curve:
    """probability (P,), what was found there, (P,), and its pointwise 95 % band, low and high (P,).

    ici: mean distance of the curve from the probability over the cases (Austin and Steyerberg, Statistics in
    Medicine 2019;38:4051). e90, e_max: its 90th percentile and maximum.
    """

    probability: Floats
    found: Floats
    low: Floats
    high: Floats
    ici: float
    e90: float
    e_max: float
    n: int


def curve(probability: ArrayLike, npc: ArrayLike, points: int = 101) -> Curve | None:
    """Logistic regression on a restricted cubic spline of the logit, between the 1st and 99th percentile.

    None with fewer than 10 cases of either kind: no curve is worth drawing. 3 knots up to 100 cases, 4 to
    300, then 5.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(npc, np.float64)
    if min(int(y.sum()), int((1 - y).sum())) < 10:
        return None
    x = logit(p)
    knots = np.quantile(x, _KNOTS[3 if len(x) <= 100 else 4 if len(x) <= 300 else 5])
    knots = np.unique(knots)
    weights, covariance = logistic(spline(x, knots), y)
    low, high = np.quantile(x, [0.01, 0.99])
    at = np.linspace(float(low), float(high), points)
    design = spline(at, knots)
    middle, error = design @ weights, np.sqrt(((design @ covariance) * design).sum(axis=1))
    distance = np.abs(_sigmoid(spline(x, knots) @ weights) - p)
    return Curve(
        _sigmoid(at),
        _sigmoid(middle),
        _sigmoid(middle - Z95 * error),
        _sigmoid(middle + Z95 * error),
        float(distance.mean()),
        float(np.quantile(distance, 0.9)),
        float(distance.max()),
        len(p),
    )


def spline(x: Floats, knots: Floats) -> Floats:
    """Restricted cubic spline basis (N, max(2, knots)): constant, x, and knots - 2 terms; linear outside."""
    columns = [np.ones_like(x), x]
    if len(knots) >= 3:
        last, before = knots[-1], knots[-2]

        def cube(knot: float) -> Floats:
            return np.asarray(np.maximum(x - knot, 0) ** 3)

        for knot in knots[:-2]:
            term = cube(knot) - cube(before) * (last - knot) / (last - before)
            term = term + cube(last) * (before - knot) / (last - before)
            columns.append(term / (last - knots[0]) ** 2)
    return np.stack(columns, axis=1)


@dataclass(frozen=True, eq=False)
class Bins:
    """Mean probability and share found in each equal-mass bin, (B,), with the cases in it."""

    probability: Floats
    found: Floats
    cases: NDArray[np.int64]


def binned(probability: ArrayLike, npc: ArrayLike, bins: int = 10) -> Bins:
    """The dots of a reliability diagram."""
    p, y = np.asarray(probability, np.float64), np.asarray(npc, np.float64)
    group = bin_of(p, bins)
    size = np.bincount(group)
    kept = size > 0
    mean_p, mean_y = (np.bincount(group, weights=v)[kept] / size[kept] for v in (p, y))
    return Bins(mean_p, mean_y, size[kept].astype(np.int64))


def calibration_error(
    probability: ArrayLike, npc: ArrayLike, bins: int = 10, resamples: int = 1000, seed: int = 2
) -> Estimate:
    """Root of the debiased squared calibration error over equal-mass bins (as Kumar et al., NeurIPS 2019).

    The plain estimate is never 0, for chance alone parts a bin's share from its probability; that part is
    subtracted, and a negative rest counts as 0. Interval: percentiles of the bootstrap of the square, less
    what resampling adds again; bins are resampled by their size and by the mean of found less foretold.
    """
    p, y = np.asarray(probability, np.float64), np.asarray(npc, np.float64)
    if len(p) < 4 * bins:
        return nothing(len(p), f"fewer than {4 * bins} cases")
    size, mean, variance = _differences(p, y, bins)
    value, plain = _squared(size, mean, variance)
    random = np.random.default_rng(seed)
    sizes = np.maximum(random.multinomial(len(p), size / size.sum(), size=resamples), 1).astype(np.float64)
    drawn = mean + np.sqrt(variance / sizes) * random.normal(size=sizes.shape)
    low, high = value + np.quantile(_squared(sizes, drawn, variance)[0] - plain, [0.025, 0.975])
    roots = [float(np.sqrt(max(0.0, v))) for v in (float(value), low, high)]
    return Estimate(roots[0], roots[1], roots[2], len(p))


def squared_error(p: Floats, y: Floats, bins: int) -> tuple[float, float]:
    """Squared calibration error over equal-mass bins: debiased (may be negative), and plain."""
    debiased, plain = _squared(*_differences(p, y, bins))
    return float(debiased), float(plain)


def _differences(p: Floats, y: Floats, bins: int) -> tuple[Floats, Floats, Floats]:
    """Size of each bin, mean and variance of found less foretold in it, (B,) each."""
    group = bin_of(p, bins)
    counts = np.bincount(group)
    size: Floats = counts[counts > 0].astype(np.float64)
    total, square = (np.bincount(group, weights=v)[counts > 0] for v in (y - p, (y - p) ** 2))
    mean: Floats = np.asarray(total / size, np.float64)
    return size, mean, np.maximum(square - size * mean**2, 0.0) / np.maximum(size - 1, 1)


def _squared(size: Floats, mean: Floats, variance: Floats) -> tuple[Floats, Floats]:
    """Debiased and plain, of bins (..., B)."""
    weight = size / size.sum(axis=-1, keepdims=True)
    plain = (weight * mean**2).sum(axis=-1)
    return np.asarray(plain - (weight * variance / size).sum(axis=-1)), np.asarray(plain)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(0.5 * np.tanh(0.5 * x) + 0.5)
