"""Charts with labels: is the probability still true? CUSUMs of what was found less what was foretold.

Two residuals: of the level (found - foretold), and of the slope (the same, weighted by how far the logit lies
from the middle), so chosen that they do not correlate. While the probabilities are true both have mean 0 and
a known variance: nothing is estimated from a baseline, and limits come from labels drawn with the very
probabilities that were given.
"""

from __future__ import annotations

from math import sqrt

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.charts import Chart, chart_of, two_sided
from npc_edge.calibration.watch.limits import family_limits
from npc_edge.calibration.watch.power import cusum_shift
from npc_edge.calibration.watch.settings import Settings, share_of

Floats = NDArray[np.float64]

ALLOWANCE = 0.075
LEVEL, SLOPE = "calibration level", "calibration slope"
_CLIP = 1e-6


def logit(probability: Floats) -> Floats:
    """log(p / (1 - p)), p held within 1e-6 of 0 and 1."""
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(p / (1 - p)))


def calibration_charts(probability: Floats, npc: Floats, settings: Settings, share: float) -> list[Chart]:
    """Charts of level and slope; probability (N,), npc (N,) 0 or 1, in order of time. The slope falls below
    1 when the chart falls: too sure of itself. detectable: change of the slope, or of the share found.
    """
    p = np.clip(probability, _CLIP, 1 - _CLIP)
    random = np.random.default_rng(settings.seed)
    missing = max(0, settings.horizon - len(p))
    newest = np.concatenate([p[-settings.horizon :], random.choice(p, missing)])
    peaks = _null_peaks(newest, _weights(newest, newest), settings, random)
    rates = [share_of(rate, share) for rate in (settings.false_alarm_rate, settings.watch_rate)]
    limits = family_limits(peaks, *rates)
    charts = []
    units = (sqrt(float((newest * (1 - newest)).mean())), 1 / _slope_information(newest))
    for index, stream in enumerate((LEVEL, SLOPE)):
        scores = (npc - p) * _weights(p, newest)[index]
        path = two_sided(scores, ALLOWANCE, 0)
        pair = float(limits.act[index]), float(limits.watch[index])
        seen = cusum_shift(pair[0], ALLOWANCE, len(p)) * units[index]
        charts.append(chart_of(("cusum", stream, "calibration"), path, scores, pair, seen, settings))
    return charts


def _weights(p: Floats, reference: Floats) -> Floats:
    """(2, N): what residuals of p (N,) are multiplied by, so that with probabilities as in `reference` both
    series have deviation 1."""
    level = np.full(len(p), 1 / sqrt(float((reference * (1 - reference)).mean())))
    return np.stack([level, (logit(p) - _middle(reference)) / _slope_information(reference)])


def _middle(p: Floats) -> float:
    """The logit about which the slope turns without a change of level."""
    variance = p * (1 - p)
    return float((variance * logit(p)).sum() / variance.sum())


def _slope_information(p: Floats) -> float:
    """Root of the information about the slope in one case, level unknown."""
    return sqrt(float((p * (1 - p) * (logit(p) - _middle(p)) ** 2).mean())) or 1.0


def _null_peaks(p: Floats, weights: Floats, settings: Settings, random: np.random.Generator) -> Floats:
    """Highest CUSUM of both series in each run in which the labels follow the probabilities, (runs, 2)."""
    shape = (settings.null_runs, 2)
    up, down, peak = (np.zeros(shape) for _ in range(3))
    for index, chance in enumerate(p):
        residual = (random.random((shape[0], 1)) < chance) - chance
        score = residual * weights[:, index]
        np.maximum(up + (score - ALLOWANCE), 0, out=up)
        np.maximum(down - (score + ALLOWANCE), 0, out=down)
        np.maximum(peak, np.maximum(up, down), out=peak)
    return peak
