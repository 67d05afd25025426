"""Logits become probabilities that hold: temperature and Platt scaling, fitted by maximum likelihood.

Both have the form probability = sigmoid((logit + bias) / temperature). Sources: Guo et al., ICML 2017
(temperature); Platt, 1999, without his target smoothing: the cases are many.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

COLDEST, HOTTEST = 0.05, 100.0
"""Limits of a temperature: cases told apart without error would make it 0, and every score 0 or 1."""


@dataclass(frozen=True)
class Fit:
    """probability = sigmoid((logit + bias) / temperature); cases and the share of positives behind it."""

    temperature: float
    bias: float
    cases: int
    prevalence: float
    log_loss: float


def apply(logit: ArrayLike, temperature: float, bias: float = 0.0) -> Floats:
    """sigmoid((logit + bias) / temperature), 0..1, the shape of logit."""
    scaled = (np.asarray(logit, dtype=np.float64) + bias) / temperature
    return np.asarray(0.5 * np.tanh(0.5 * scaled) + 0.5)


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> Fit:
    """The temperature with the least log loss. logits, labels (N,), labels 0 or 1, both present; ValueError.

    In the slope 1/temperature the loss is convex: golden section finds its minimum.
    """
    x, y = cases_of(logits, labels)
    low, high = 1 / HOTTEST, 1 / COLDEST
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    loss_left, loss_right = log_loss(x * left, y), log_loss(x * right, y)
    while high - low > 1e-10:
        if loss_left <= loss_right:
            high, right, loss_right = right, left, loss_left
            left = high - ratio * (high - low)
            loss_left = log_loss(x * left, y)
        else:
            low, left, loss_left = left, right, loss_right
            right = low + ratio * (high - low)
            loss_right = log_loss(x * right, y)
    slope = (low + high) / 2
    return Fit(float(1 / slope), 0.0, len(x), float(y.mean()), log_loss(x * slope, y))


def fit_platt(logits: ArrayLike, labels: ArrayLike) -> Fit:
    """Slope and offset with the least log loss, by Newton's method. logits, labels (N,), as above.

    ValueError when the logits run against the labels: such a score has no temperature.
    """
    x, y = cases_of(logits, labels)
    middle, scale = float(x.mean()), float(x.std())
    if scale == 0:
        raise ValueError("all logits are the same: nothing to calibrate")
    slope, offset = _newton((x - middle) / scale, y)
    if slope <= 0:
        raise ValueError("higher logits go with fewer positives: nothing to calibrate")
    slope /= scale
    limited = min(max(slope, 1 / HOTTEST), 1 / COLDEST)
    offset = _offset(x * limited, y) if limited != slope else offset - slope * middle
    return Fit(1 / limited, offset / limited, len(x), float(y.mean()), log_loss(x * limited + offset, y))


def _newton(x: Floats, y: Floats) -> tuple[float, float]:
    """Slope and offset of the logistic regression of y on x (mean 0, deviation 1), the slope held finite by
    a ridge too weak to move it where cases overlap."""
    design = np.stack([x, np.ones_like(x)], axis=1)
    penalty = np.array([1e-6, 0.0])
    weights: Floats = np.zeros(2)

    def cost(w: Floats) -> float:
        return len(x) * log_loss(design @ w, y) + 0.5 * float(penalty @ w**2)

    for _ in range(200):
        p = apply(design @ weights, 1.0)
        gradient = design.T @ (p - y) + penalty * weights
        curvature = (design * (p * (1 - p))[:, None]).T @ design + np.diag(penalty + 1e-12)
        step = np.linalg.solve(curvature, gradient)
        while np.abs(step).max() > 1e-12 and cost(weights - step) > cost(weights):
            step = step / 2
        weights = weights - step
        if np.abs(step).max() < 1e-10:
            break
    return float(weights[0]), float(weights[1])


def _offset(x: Floats, y: Floats) -> float:
    """The offset with the least log loss for a given slope: where the mean probability is the prevalence."""
    reach = float(np.abs(x).max()) + 50
    low, high = -reach, reach
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (low, middle) if apply(x + middle, 1.0).mean() > y.mean() else (middle, high)
    return (low + high) / 2


def log_loss(logits: Floats, labels: Floats) -> float:
    """Mean of -log p(label); stable for large logits."""
    return float(np.mean(np.logaddexp(0.0, logits) - labels * logits))


def cases_of(logits: ArrayLike, labels: ArrayLike) -> tuple[Floats, Floats]:
    """Logits and labels (N,) as float64; ValueError unless both kinds of case are there, all finite."""
    x, y = np.asarray(logits, dtype=np.float64).ravel(), np.asarray(labels, dtype=np.float64).ravel()
    if x.size == 0 or x.shape != y.shape or not np.isfinite(x).all() or not np.isin(y, (0.0, 1.0)).all():
        raise ValueError("as many finite logits as labels of 0 or 1 are wanted")
    if y.min() == y.max():
        raise ValueError("cases of both kinds are wanted")
    return x, y
