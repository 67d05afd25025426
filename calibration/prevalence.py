"""When NPC is more or less frequent than where a calibrator was fitted: the prevalence offset.

True under label shift alone: the disease looks as before, there is only more or less of it. A scanner or a
protocol that changed the images is no label shift, and the offset would hide it.
"""

from __future__ import annotations

from math import log

import numpy as np
from numpy.typing import ArrayLike

from npc_edge.calibration.calibrators import Fit, apply, cases_of


def offset(fitted: float, here: float) -> float:
    """What is added to the calibrated logit: log odds of the prevalence here, less of the one fitted at.
    Both within 0 and 1, exclusive; ValueError."""
    if not (0 < fitted < 1 and 0 < here < 1):
        raise ValueError("prevalences between 0 and 1 are wanted")
    return log(here / (1 - here)) - log(fitted / (1 - fitted))


def at_prevalence(fit: Fit, here: float) -> Fit:
    """The calibrator for another prevalence: apply(logit, temperature, bias) then holds there. Its cases and
    its log loss stay those it was fitted on."""
    bias = fit.bias + fit.temperature * offset(fit.prevalence, here)
    return Fit(fit.temperature, bias, fit.cases, here, fit.log_loss)


def estimate(probabilities: ArrayLike, fitted: float, rounds: int = 1000) -> float:
    """The prevalence among unlabelled cases, by expectation-maximisation (Saerens et al., Neural Computation
    2002;14:21); probabilities (N,), calibrated at prevalence `fitted`. Under label shift alone, as above."""
    p = np.clip(np.asarray(probabilities, np.float64), 1e-9, 1 - 1e-9)
    if p.size == 0:
        raise ValueError("no cases to estimate a prevalence from")
    logit, here = np.log(p / (1 - p)), fitted
    for _ in range(rounds):
        moved = float(apply(logit + offset(fitted, min(max(here, 1e-9), 1 - 1e-9)), 1.0).mean())
        if abs(moved - here) < 1e-12:
            break
        here = moved
    return here


def refit_offset(logits: ArrayLike, labels: ArrayLike, fit: Fit) -> Fit:
    """The same temperature with the prevalence of these labelled cases; logits, labels (N,), both kinds."""
    _, y = cases_of(logits, labels)
    return at_prevalence(fit, float(y.mean()))
