"""Limits of charts from the false-alarm rate of all of them together, by simulating that nothing changes.

Charts of measurements: rows of the baseline's scores are drawn again and again, whole cases at a time, so
that what goes together in the patients and scanners goes together in the simulation. Each chart's highest
value over the horizon is put on its own scale, and the rate decides the one quantile of the highest of all.

A chart begins at 0 and takes some hundred cases to fluctuate as far as it ever will: a limit that holds for
its first cases is passed twice as often later. So there are two, both simulated: for the first `horizon`
cases, and, higher by a tenth, for all that come after. With either the chance is the chosen one in `horizon`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.sequential import ewma_deviation

Floats = NDArray[np.float64]

_LONG = 2  # horizons after which a chart that began at 0 fluctuates as it always will
_RUNS = 2000  # simulations of an indicator
_TAIL = 0.1


@dataclass(frozen=True)
class Design:
    """allowance: k of the CUSUM, half of the shift it is best at, in deviations. weight: of the EWMA."""

    allowance: float = 0.10
    weight: float = 0.10


@dataclass(frozen=True)
class Span:
    """The cases a limit is for: `length` of them, after the first `after` that a chart has run over."""

    length: int
    after: int = 0

    @property
    def end(self) -> int:
        return self.after + self.length


@dataclass(frozen=True, eq=False)
class Limits:
    """act and watch, (charts,): the limit of each chart."""

    act: Floats
    watch: Floats


def spans(first: int, horizon: int, settled: bool) -> tuple[Span, ...]:
    """What limits are for: the `first` cases of a chart; and, once it is settled, `horizon` cases of a chart
    that has long run."""
    return (Span(first), Span(horizon, _LONG * horizon)) if settled else (Span(first),)


def by_case(limits: Sequence[float], count: int, horizon: int) -> Floats:
    """The limit at each of `count` cases, (count,): limits are for the first `horizon` and for the rest."""
    return np.where(np.arange(count) < horizon, limits[0], limits[-1])


def null_peaks(pool: Floats, span: Span, runs: int, design: Design, seed: int) -> tuple[Floats, Floats]:
    """Highest two-sided CUSUM and EWMA within the span, of each stream and run, both (runs, streams); pool
    (M, streams)."""
    random = np.random.default_rng(seed)
    shape = (runs, pool.shape[1])
    up, down, fading, work = (np.zeros(shape, np.float32) for _ in range(4))
    peak, peak_ewma = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    rows = pool.astype(np.float32)
    allowance, weight = np.float32(design.allowance), np.float32(design.weight)
    for case in range(span.end):
        score = rows[random.integers(len(rows), size=runs)]
        np.maximum(up + (score - allowance), 0, out=up)
        np.maximum(down - (score + allowance), 0, out=down)
        fading += weight * (score - fading)
        if case >= span.after:
            np.maximum(peak, np.maximum(up, down, out=work), out=peak)
            np.maximum(peak_ewma, np.abs(fading, out=work), out=peak_ewma)
    return peak.astype(np.float64), peak_ewma.astype(np.float64) / ewma_deviation(design.weight)


def family_limits(peaks: Floats, act_rate: float, watch_rate: float) -> Limits:
    """Limits that any chart passes in a share act_rate (watch_rate) of the runs; peaks (runs, charts)."""
    middle, scale = peaks.mean(axis=0), peaks.std(axis=0)
    scale[scale == 0] = 1.0
    highest = ((peaks - middle) / scale).max(axis=1)
    act, watch = (passed_by(highest, rate) for rate in (act_rate, watch_rate))
    return Limits(middle + act * scale, middle + watch * scale)


def passed_by(highest: Floats, rate: float) -> float:
    """What a share `rate` of charts passes, from the highest values of some simulated ones, (runs,).

    Beyond the 90th percentile the tail of a CUSUM's highest value falls exponentially: its mean excess there
    says more than the few values at the quantile itself.
    """
    start = float(np.quantile(highest, 1 - max(rate, _TAIL)))
    beyond = highest[highest > start]
    if rate >= _TAIL or not len(beyond):
        return start
    return start + float((beyond - start).mean()) * log(_TAIL / rate)


@lru_cache(maxsize=4096)
def _indicator_peaks(
    hits: int, baseline: int, span: Span, design: Design, seed: int
) -> tuple[Floats, Floats]:
    """Highest two-sided CUSUM and EWMA of an indicator within the span, both (_RUNS,).

    What the baseline leaves open about the share is drawn too: from the Beta distribution that `hits` of
    `baseline` cases give (Jeffreys).
    """
    random = np.random.default_rng((seed, hits, baseline))
    share = random.beta(hits + 0.5, baseline - hits + 0.5, size=_RUNS)
    scale = indicator_scale(hits, baseline)
    count = np.full(_RUNS, float(hits))
    up, down, fading, peak, peak_ewma = (np.zeros(_RUNS) for _ in range(5))
    for seen in range(baseline, baseline + span.end):
        drawn = (random.random(_RUNS) < share).astype(np.float64)
        score = (drawn - (count + 0.5) / (seen + 1)) / scale
        count += drawn
        np.maximum(up + (score - design.allowance), 0, out=up)
        np.maximum(down - (score + design.allowance), 0, out=down)
        fading += design.weight * (score - fading)
        if seen >= baseline + span.after:
            np.maximum(peak, np.maximum(up, down), out=peak)
            np.maximum(peak_ewma, np.abs(fading), out=peak_ewma)
    return peak, peak_ewma / ewma_deviation(design.weight)


def indicator_scale(hits: int, baseline: int) -> float:
    """The deviation of a yes-or-no that was yes in `hits` of `baseline` cases."""
    share = (hits + 0.5) / (baseline + 1)
    return float(np.sqrt(share * (1 - share)))


def indicator_limits(
    hits: int, baseline: int, span: Span, rate: float, design: Design, seed: int
) -> tuple[float, float]:
    """What the CUSUM and the EWMA of an indicator pass within the span, each with chance `rate`."""
    peak, peak_ewma = _indicator_peaks(hits, baseline, span, design, seed)
    return passed_by(peak, rate), passed_by(peak_ewma, rate)


def indicator_scores(yes: NDArray[np.bool_], baseline: int) -> Floats:
    """Scores (N,) of an indicator against its share in the earlier cases, in deviations of the baseline."""
    drawn = yes.astype(np.float64)
    seen = np.arange(len(drawn))
    share = (np.cumsum(drawn) - drawn + 0.5) / (seen + 1)
    return np.asarray((drawn - share) / indicator_scale(int(drawn[:baseline].sum()), baseline))
