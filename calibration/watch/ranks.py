"""Sequential ranks: each case is scored by its rank among all cases so far.

While cases are exchangeable, sequential ranks are independent and their distribution is known, whatever the
distribution of what is measured (McDonald, Naval Research Logistics 1990;37:627). So nothing has to be
estimated from a baseline, and the limits of a chart hold for skewed scores too. Ties share their mean rank.

The reference grows with the cases and is never closed. Ranks among a fixed one of m cases are off by
1 / sqrt(m) standard deviations, always in the same direction: little, but a CUSUM adds it up for ever.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.normal import quantile

Floats = NDArray[np.float64]
Scoring = Literal["normal", "upper"]

_BLOCK = 32
"""Cases that are compared each with each; blocks of them are merged."""


def sequential_scores(values: Floats, scoring: Scoring = "normal") -> Floats:
    """Scores (N,) of values (N,) in order of time: mean 0, deviation 1 while nothing changes; 0 where NaN.

    normal: the normal quantile of the rank, for shifts of the middle. upper: the exponential one (Savage),
    for more or fewer cases in the upper tail, as more disease gives.
    """
    scores = np.zeros(len(values))
    known = np.isfinite(values)
    if known.any():
        scores[known] = _score(_sequential_shares(values[known]), scoring)
    return scores


def full_scores(values: Floats, scoring: Scoring = "normal") -> Floats:
    """Scores (N,) by rank among all N values: for a comparison within a series, and for the null pool."""
    scores = np.zeros(len(values))
    known = np.isfinite(values)
    x = values[known]
    if len(x):
        ordered = np.sort(x)
        ranks = 0.5 * (np.searchsorted(ordered, x) + np.searchsorted(ordered, x, side="right"))
        scores[known] = _score(ranks / len(x), scoring)
    return scores


def _score(shares: Floats, scoring: Scoring) -> Floats:
    """shares: (rank - 0.5) / n."""
    return quantile(shares) if scoring == "normal" else -np.log1p(-shares) - 1.0


def _sequential_shares(x: Floats) -> Floats:
    """(rank - 0.5) / n of each value among those up to it."""
    order, codes = np.unique(x, return_inverse=True)
    count, beyond = len(codes), len(order)
    blocks = 1 << max(0, (count - 1) // _BLOCK).bit_length()
    padded = np.full(blocks * _BLOCK, beyond, np.int64)  # at the end: earlier than none of the cases
    padded[:count] = codes
    rows = padded.reshape(-1, _BLOCK)
    among = np.sign(rows[:, :, None] - rows[:, None, :]).astype(np.int8) + 1  # 0 below, 1 equal, 2 above
    doubled = np.tril(among, -1).sum(axis=2, dtype=np.int64).ravel()
    size = _BLOCK
    while size < len(padded):
        doubled.reshape(-1, 2, size)[:, 1] += _merged(padded.reshape(-1, 2, size), beyond, beyond < count)
        size *= 2
    return np.asarray((0.5 * doubled[:count] + 0.5) / np.arange(1, count + 1))


def _merged(pairs: NDArray[np.int64], beyond: int, tied: bool) -> NDArray[np.int64]:
    """Twice how many of the earlier block lie below each value of the later, and once how many equal it;
    pairs (P, 2, size): earlier and later block, codes in 0..beyond, some of them equal where `tied`. All
    pairs are searched at once."""
    apart = np.arange(len(pairs), dtype=np.int64)[:, None] * (beyond + 1)
    earlier = (np.sort(pairs[:, 0], axis=1) + apart).ravel()
    later = (pairs[:, 1] + apart).ravel()
    found = np.searchsorted(earlier, later)
    found = found + (np.searchsorted(earlier, later, side="right") if tied else found)
    return np.asarray(found.reshape(len(pairs), -1) - 2 * pairs.shape[2] * np.arange(len(pairs))[:, None])
