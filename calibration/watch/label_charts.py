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
from npc_edge.calibration.watch.limits import Span, by_case, passed_by, spans
from npc_edge.calibration.watch.power import cusum_shift
from npc_edge.calibration.watch.settings import Settings, share_of

Floats = NDArray[np.float64]

ALLOWANCE = 0.06
"""Two fifths of what a slope of 0.7 shifts a case by at 20 % prevalence, 0.15 deviations: smaller shifts and
the weeks after a change count too."""
LEVEL, SLOPE = "calibration level", "calibration slope"
_PARTS = (1 / 3, 2 / 3)
"""Of calibration's rate: a case tells least of the slope, so that the slope has the lower limit. Other charts
see a change of the level too."""
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
    over = spans(settings.horizon, settings.horizon, len(p) > settings.horizon)
    peaks = [_null_peaks(newest, span, settings.null_runs, random) for span in over]
    charts = []
    units = (sqrt(float((newest * (1 - newest)).mean())), 1 / _slope_information(newest))
    for index, stream in enumerate((LEVEL, SLOPE)):
        scores = (npc - p) * _weights(p, newest)[index]
        path = two_sided(scores, ALLOWANCE, 0)
        rates = [
            share_of(rate, share * _PARTS[index]) for rate in (settings.false_alarm_rate, settings.watch_rate)
        ]
        act, watch = (
            by_case([passed_by(peak[:, index], rate) for peak in peaks], len(p), settings.horizon)
            for rate in rates
        )
        seen = cusum_shift(float(act[-1]), ALLOWANCE, len(p)) * units[index]
        charts.append(chart_of(("cusum", stream, "calibration"), path, scores, (act, watch), seen, settings))
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


def _null_peaks(p: Floats, span: Span, runs: int, random: np.random.Generator) -> Floats:
    """Highest CUSUM of both series within the span, in each run in which the labels follow the probabilities,
    (runs, 2); the probabilities p (N,) come again and again."""
    weights = _weights(p, p)
    up, down, peak = (np.zeros((runs, 2)) for _ in range(3))
    for case in range(span.end):
        chance = p[case % len(p)]
        score = ((random.random((runs, 1)) < chance) - chance) * weights[:, case % len(p)]
        np.maximum(up + (score - ALLOWANCE), 0, out=up)
        np.maximum(down - (score + ALLOWANCE), 0, out=down)
        if case >= span.after:
            np.maximum(peak, np.maximum(up, down), out=peak)
    return peak
