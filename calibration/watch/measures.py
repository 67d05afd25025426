"""With labels: how good and how true are the probabilities? Each measure with its 95 % interval.

probability (N,) in 0..1, npc (N,) 0 or 1, throughout. Where a measure cannot be had (one kind of case only,
too few), the estimate is NaN and its warning says why.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.calibration.watch import estimate
from npc_edge.calibration.watch.estimate import Estimate, nothing, wald
from npc_edge.calibration.watch.label_charts import logit

Floats = NDArray[np.float64]

_CLIP = 1e-15


@dataclass(frozen=True)
class Brier:
    """score = reliability - resolution + uncertainty (Murphy 1973), over groups of equal probability or
    equal-mass bins. Within a bin, what Stephenson (2008) adds is counted to the resolution: the sum is exact.
    """

    score: Estimate
    reliability: float
    resolution: float
    uncertainty: float


def brier(probability: ArrayLike, npc: ArrayLike, bins: int = 10) -> Brier:
    """Brier score, decomposed. With at most `bins` different probabilities each is a group of its own."""
    p, y = _cases(probability, npc)
    if len(p) == 0:
        return Brier(nothing(0, "no cases"), *[float("nan")] * 3)
    score = estimate.mean((p - y) ** 2)
    group = bin_of(p, bins)
    size = np.bincount(group).astype(np.float64)
    mean_p, mean_y = (np.bincount(group, weights=v) / np.maximum(size, 1) for v in (p, y))
    base = float(y.mean())
    reliability = float((size * (mean_p - mean_y) ** 2).sum() / len(p))
    uncertainty = base * (1 - base)
    return Brier(score, reliability, reliability + uncertainty - float(((p - y) ** 2).mean()), uncertainty)


def bin_of(p: Floats, bins: int) -> NDArray[np.intp]:
    """Number of the equal-mass bin of each p (N,); equal values are never parted."""
    values = np.unique(p)
    if len(values) <= bins:
        return np.searchsorted(values, p)
    edges = np.unique(np.quantile(p, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, p, side="left")


def log_loss(probability: ArrayLike, npc: ArrayLike) -> Estimate:
    """Mean of -log(probability of what was true), p held 1e-15 from 0 and 1."""
    p, y = _cases(probability, npc)
    p = np.clip(p, _CLIP, 1 - _CLIP)
    return estimate.mean(-(y * np.log(p) + (1 - y) * np.log1p(-p)))


def calibration_in_the_large(probability: ArrayLike, npc: ArrayLike) -> Estimate:
    """Offset of the logit that makes the mean probability what was found; 0 is true, > 0: too low."""
    p, y = _cases(probability, npc)
    if _one_kind(y):
        return nothing(len(y), "one kind of case only")
    coefficients, covariance = logistic(np.ones((len(y), 1)), y, offset=logit(p))
    return wald(float(coefficients[0]), sqrt(float(covariance[0, 0])), len(y))


def calibration_slope(probability: ArrayLike, npc: ArrayLike) -> tuple[Estimate, Estimate]:
    """Slope and intercept of the logistic regression of npc on the logit (Cox, Biometrika 1958;45:562).

    1 and 0 are true; a slope below 1: too sure of itself.
    """
    p, y = _cases(probability, npc)
    x = logit(p)
    if _one_kind(y) or len(np.unique(x)) < 2:
        return (nothing(len(y), "one kind of case only"),) * 2
    if _separated(x, y):
        return (nothing(len(y), "the score tells these cases apart without error: no slope"),) * 2
    coefficients, covariance = logistic(np.stack([x, np.ones_like(x)], axis=1), y)
    errors = np.sqrt(np.diag(covariance))
    slope, intercept = (wald(float(c), float(e), len(y)) for c, e in zip(coefficients, errors, strict=True))
    return slope, intercept


def _separated(x: Floats, y: Floats) -> bool:
    return bool(x[y == 1].min() >= x[y == 0].max() or x[y == 1].max() <= x[y == 0].min())


def logistic(design: Floats, y: Floats, offset: Floats | float = 0.0) -> tuple[Floats, Floats]:
    """Coefficients and covariance of a logistic regression by Newton's method; design (N, D), y (N,)."""
    weights = np.zeros(design.shape[1])

    def loss(w: Floats) -> float:
        linear = design @ w + offset
        return float((np.logaddexp(0, linear) - y * linear).sum())

    for _ in range(100):
        p = 0.5 * np.tanh(0.5 * (design @ weights + offset)) + 0.5
        curvature = (design * (p * (1 - p))[:, None]).T @ design
        step = np.linalg.solve(curvature + 1e-12 * np.eye(len(weights)), design.T @ (y - p))
        while loss(weights + step) > loss(weights) + 1e-12 and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-11:
            break
    return np.asarray(weights), np.asarray(np.linalg.pinv(curvature), np.float64)


def spiegelhalter_z(probability: ArrayLike, npc: ArrayLike) -> float:
    """Standard normal while the probabilities are true (Statistics in Medicine 1986;5:421); NaN without
    cases."""
    p, y = _cases(probability, npc)
    variance = float(((1 - 2 * p) ** 2 * p * (1 - p)).sum())
    return float(((y - p) * (1 - 2 * p)).sum()) / sqrt(variance) if variance > 0 else float("nan")


def auc(probability: ArrayLike, npc: ArrayLike) -> Estimate:
    """Area under the ROC curve with DeLong's interval (Biometrics 1988;44:837), on the logit scale so that it
    stays within 0..1; ties count half. By mid-ranks (Sun and Xu 2014): a hundred thousand cases are quick."""
    p, y = _cases(probability, npc)
    positive, negative = p[y == 1], p[y == 0]
    m, n = len(positive), len(negative)
    if min(m, n) < 2:
        return nothing(len(y), "fewer than 2 cases of one kind")
    above = (_ranks(np.concatenate([positive, negative])) - 0.5)[:m] - (_ranks(positive) - 0.5)
    below = (_ranks(np.concatenate([negative, positive])) - 0.5)[:n] - (_ranks(negative) - 0.5)
    area = float(above.mean()) / n
    error = sqrt(float((above / n).var(ddof=1)) / m + float((below / m).var(ddof=1)) / n)
    if not 0 < area < 1 or error == 0:
        return Estimate(area, area, area, len(y), "told apart without error: no interval")
    middle, spread = float(np.log(area / (1 - area))), error / (area * (1 - area))
    around = wald(middle, spread, len(y))
    low, high = (1 / (1 + float(np.exp(-v))) for v in (around.low, around.high))
    return Estimate(area, low, high, len(y))


def _ranks(values: Floats) -> Floats:
    """Mid-ranks (N,), from 1."""
    ordered = np.sort(values)
    below = np.searchsorted(ordered, values) + np.searchsorted(ordered, values, side="right")
    return np.asarray(0.5 * below + 0.5)


def sensitivity(probability: ArrayLike, npc: ArrayLike, threshold: float) -> Estimate:
    """Share of cases with NPC at or above the threshold, Wilson's interval."""
    p, y = _cases(probability, npc)
    return estimate.wilson(int((p[y == 1] >= threshold).sum()), int((y == 1).sum()))


def specificity(probability: ArrayLike, npc: ArrayLike, threshold: float) -> Estimate:
    """Share of cases without NPC below the threshold, Wilson's interval."""
    p, y = _cases(probability, npc)
    return estimate.wilson(int((p[y == 0] < threshold).sum()), int((y == 0).sum()))


def _one_kind(y: Floats) -> bool:
    return len(y) == 0 or bool(y.min() == y.max())


def _cases(probability: ArrayLike, npc: ArrayLike) -> tuple[Floats, Floats]:
    p, y = np.asarray(probability, np.float64), np.asarray(npc, np.float64)
    if p.shape != y.shape or p.ndim != 1 or not ((p >= 0) & (p <= 1)).all() or not np.isin(y, (0, 1)).all():
        raise ValueError("as many probabilities of 0 to 1 as labels of 0 or 1 are wanted")
    return p, y
