"""When did it change? The split of a series that best tells a before from an after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MARGIN = 10
"""Cases at least on either side of a change point."""


def change_point(
    scores: Floats, earliest: int = MARGIN, latest: int | None = None, settled: bool = False
) -> int | None:
    """Index of the first case after the change of mean, None for a series too short; scores (N,).

    The split with the largest standardised difference of means: the maximum likelihood estimate for one
    shift of normal scores. earliest, latest: where to look; no change lies behind the alarm it raised.
    settled: the mean before the change is known to be 0, and needs no cases.
    """
    count = len(scores)
    first = max(0 if settled else MARGIN, earliest)
    last = min(count - MARGIN, count if latest is None else latest)
    if last < first:
        return None
    splits = np.arange(first, last + 1)
    total = np.concatenate([[0.0], np.cumsum(scores)])
    rest = total[-1] - total[splits]
    if settled:
        standard = np.abs(rest) / np.sqrt(count - splits)
    else:
        difference = rest - (count - splits) * (total[-1] / count)
        standard = np.abs(difference) / np.sqrt(splits * (count - splits) / count)
    return int(splits[int(np.argmax(standard))])
