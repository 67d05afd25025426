"""When did it change? The split of a series that best tells a before from an after."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

MARGIN = 10
"""Cases at least on either side of a change point."""


def change_point(scores: Floats, earliest: int = MARGIN) -> int | None:
    """Index of the first case after the change of mean, None for a series too short; scores (N,).

    The split with the largest standardised difference of means: the maximum likelihood estimate for one
    shift of normal scores. earliest: no change is looked for before it.
    """
    count = len(scores)
    first, last = max(MARGIN, earliest), count - MARGIN
    if last <= first:
        return None
    splits = np.arange(first, last + 1)
    sums = np.cumsum(scores)
    before = sums[splits - 1]
    difference = before - splits * (sums[-1] / count)
    standard = np.abs(difference) / np.sqrt(splits * (count - splits) / count)
    return int(splits[int(np.argmax(standard))])
