"""The normal distribution for arrays, without scipy: the monitor runs on the plain install."""

from __future__ import annotations

from math import erfc, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

_STANDARD = NormalDist()
Z95 = _STANDARD.inv_cdf(0.975)
"""The normal quantile of a two-sided 95 % interval."""


def quantile(share: ArrayLike) -> Floats:
    """The standard normal quantile of shares in 0..1 (exclusive), the shape of `share`.

    Each different value once: ties share their rank.
    """
    given = np.asarray(share, np.float64)
    values, where = np.unique(given.ravel(), return_inverse=True)
    found = np.fromiter(map(_STANDARD.inv_cdf, values.tolist()), np.float64, len(values))
    return np.asarray(found[where].reshape(given.shape), np.float64)


def cdf(z: float) -> float:
    """The share of a standard normal below z."""
    return 0.5 * erfc(-z / sqrt(2))


def two_sided(z: float) -> float:
    """The p-value of a standard normal z, both sides."""
    return erfc(abs(z) / sqrt(2))
