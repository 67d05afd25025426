"""Sequential ranks: each case is scored by its rank among all cases so far.

While cases are exchangeable, sequential ranks are independent and their distribution is known, whatever the
distribution of what is measured (McDonald, Naval Research Logistics 1990;37:627). So nothing has to be
estimated from a baseline, and the limits of a chart hold for skewed scores too. Ties share their mean rank.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.watch.normal import quantile

Floats = NDArray[np.float64]
Scoring = Literal["normal", "upper"]

CAP = 2000
"""Cases that the ranks are taken among. Later cases are ranked among the first CAP: a slow drift is not
taken into the reference, and a hundred thousand cases stay cheap."""

_BLOCK = 250


def sequential_scores(values: Floats, scoring: Scoring = "normal", cap: int = CAP) -> Floats:
    """Scores (N,) of values (N,) in order of time: mean 0, deviation 1 while nothing changes; 0 where NaN.

    normal: the normal quantile of the rank, for shifts of the middle. upper: the exponential one (Savage),
    for more or fewer cases in the upper tail, as more disease gives.
    """
    scores = np.zeros(len(values))
    known = np.isfinite(values)
    if known.any():
        scores[known] = _score(_sequential_shares(values[known], cap), scoring)
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


def _sequential_shares(x: Floats, cap: int) -> Floats:
    """(rank - 0.5) / n of each value among those up to it; beyond `cap`, among the first `cap` and itself."""
    shares = np.empty(len(x))
    early = x[:cap]
    for start in range(0, len(early), _BLOCK):
        block = early[start : start + _BLOCK]
        earlier = np.sort(early[:start])
        below = np.searchsorted(earlier, block) + np.searchsorted(earlier, block, side="right")
        among = np.sign(block[:, None] - block[None, :]) + 1  # 0 below, 1 equal, 2 above
        below = below + np.tril(among, -1).sum(axis=1)
        shares[start : start + len(block)] = (0.5 * below + 0.5) / np.arange(
            start + 1, start + len(block) + 1
        )
    if len(x) > cap:
        reference = np.sort(early)
        late = x[cap:]
        below = np.searchsorted(reference, late) + np.searchsorted(reference, late, side="right")
        shares[cap:] = (0.5 * below + 0.5) / (cap + 1)
    return shares
