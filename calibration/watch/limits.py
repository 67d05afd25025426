"""Limits of charts from the false-alarm rate of all of them together, by simulating that nothing changes.

Charts of measurements: rows of the baseline's scores are drawn again and again, whole cases at a time, so
that what goes together in the patients and scanners goes together in the simulation. Each chart's highest
value over the horizon is put on its own scale, and the rate decides the one quantile of the highest of all.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import log

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.ranks import CAP
from npc_edge.calibration.watch.sequential import ewma_deviation

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Design:
    """allowance: k of the CUSUM, half of the shift it is best at, in deviations. weight: of the EWMA."""

    allowance: float = 0.10
    weight: float = 0.10


@dataclass(frozen=True, eq=False)
class Limits:
    """act and watch, (charts,): the limit of each chart."""

    act: Floats
    watch: Floats


def null_peaks(pool: Floats, length: int, runs: int, design: Design, seed: int) -> tuple[Floats, Floats]:
    """Highest two-sided CUSUM and EWMA of each stream and run, both (runs, streams); pool (M, streams)."""
    random = np.random.default_rng(seed)
    shape = (runs, pool.shape[1])
    up, down, fading, work = (np.zeros(shape, np.float32) for _ in range(4))
    peak, peak_ewma = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    rows = pool.astype(np.float32)
    allowance, weight = np.float32(design.allowance), np.float32(design.weight)
    for _ in range(length):
        score = rows[random.integers(len(rows), size=runs)]
        np.maximum(up + (score - allowance), 0, out=up)
        np.maximum(down - (score + allowance), 0, out=down)
        np.maximum(peak, np.maximum(up, down, out=work), out=peak)
        fading += weight * (score - fading)
        np.maximum(peak_ewma, np.abs(fading, out=work), out=peak_ewma)
    return peak.astype(np.float64), peak_ewma.astype(np.float64) / ewma_deviation(design.weight)


def family_limits(peaks: Floats, act_rate: float, watch_rate: float) -> Limits:
    """Limits that any chart passes in a share act_rate (watch_rate) of the runs; peaks (runs, charts)."""
    middle, scale = peaks.mean(axis=0), peaks.std(axis=0)
    scale[scale == 0] = 1.0
    highest = ((peaks - middle) / scale).max(axis=1)
    act, watch = np.quantile(highest, [1 - act_rate, 1 - watch_rate])
    return Limits(middle + act * scale, middle + watch * scale)


@lru_cache(maxsize=4096)
def _indicator_tail(
    hits: int, baseline: int, length: int, runs: int, design: Design, seed: int
) -> tuple[float, float]:
    """Where the tail of an indicator's highest CUSUM starts (its 90th percentile) and its mean excess beyond.

    What the baseline leaves open about the share is drawn too: from the Beta distribution that `hits` of
    `baseline` cases give (Jeffreys).
    """
    random = np.random.default_rng((seed, hits, baseline))
    share = random.beta(hits + 0.5, baseline - hits + 0.5, size=runs)
    scale = indicator_scale(hits, baseline)
    count = np.full(runs, float(hits))
    up, down, peak = (np.zeros(runs) for _ in range(3))
    for seen in range(baseline, baseline + length):
        drawn = (random.random(runs) < share).astype(np.float64)
        score = (drawn - (count + 0.5) / (seen + 1)) / scale
        count += drawn
        np.maximum(up + (score - design.allowance), 0, out=up)
        np.maximum(down - (score + design.allowance), 0, out=down)
        np.maximum(peak, np.maximum(up, down), out=peak)
    start = float(np.quantile(peak, 0.9))
    beyond = peak[peak > start]
    return start, float((beyond - start).mean()) if len(beyond) else 1.0


def indicator_scale(hits: int, baseline: int) -> float:
    """The deviation of a yes-or-no that was yes in `hits` of `baseline` cases."""
    share = (hits + 0.5) / (baseline + 1)
    return float(np.sqrt(share * (1 - share)))


def indicator_limit(hits: int, baseline: int, length: int, rate: float, design: Design, seed: int) -> float:
    """The limit that the CUSUM of an indicator passes with chance `rate` within `length` cases.

    Beyond the 90th percentile of 2000 runs the tail of a CUSUM's maximum falls exponentially.
    """
    start, excess = _indicator_tail(hits, baseline, length, 2000, design, seed)
    return start + excess * max(0.0, log(0.1 / rate)) if rate < 0.1 else start


def indicator_scores(yes: NDArray[np.bool_], baseline: int) -> Floats:
    """Scores (N,) of an indicator against its own share in the earlier cases (the first CAP at most), in
    deviations of the baseline."""
    drawn = yes.astype(np.float64)
    seen = np.minimum(np.arange(len(drawn)), CAP)
    share = (np.concatenate([[0.0], np.cumsum(drawn)])[seen] + 0.5) / (seen + 1)
    return np.asarray((drawn - share) / indicator_scale(int(drawn[:baseline].sum()), baseline))
