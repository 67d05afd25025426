"""How many labelled cases are enough? Riley et al., Statistics in Medicine 2021;40:4230.

For each measure, the cases that give a 95 % interval of a wanted width, from the distribution of the
probabilities themselves. The slope usually decides. "100 events" is no rule here: it can be far too few.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

import numpy as np
from numpy.typing import ArrayLike, NDArray

from npc_edge.calibration.watch.label_charts import logit

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Wanted:
    """Cases wanted for the ratio of found to foretold, for the slope, and for the AUC."""

    ratio: int
    slope: int
    auc: int

    @property
    def all(self) -> int:
        """Enough for every one of them."""
        return max(self.ratio, self.slope, self.auc)


def cases_for_ratio(prevalence: float, error: float = 0.2 / 3.92) -> int:
    """Cases until the logarithm of found / foretold has this standard error: an interval 0.2 wide."""
    return ceil((1 - prevalence) / (prevalence * error**2))


def cases_for_slope(probability: ArrayLike, error: float = 0.2 / 3.92) -> int:
    """Cases until the calibration slope has this standard error, with probabilities like these (N,)."""
    p = np.asarray(probability, np.float64)
    x, weight = logit(p), p * (1 - p)
    level, cross, slope = (float((weight * x**power).mean()) for power in (0, 1, 2))
    determinant = level * slope - cross**2
    return 10**9 if determinant <= 0 else ceil(level / (error**2 * determinant))


def cases_for_auc(area: float, prevalence: float, error: float = 0.1 / 3.92) -> int:
    """Cases until the AUC has this standard error (Newcombe 2006): an interval 0.1 wide."""
    count = 10
    while auc_error(area, prevalence, count) > error and count < 10**7:
        count = ceil(count * 1.01)
    while count > 2 and auc_error(area, prevalence, count - 1) <= error:
        count -= 1
    return count


def auc_error(area: float, prevalence: float, count: int) -> float:
    """Newcombe's standard error of an AUC from `count` cases."""
    half = count / 2 - 1
    inside = 1 + half * (1 - area) / (2 - area) + half * area / (1 + area)
    return float(np.sqrt(area * (1 - area) * inside / (count**2 * prevalence * (1 - prevalence))))


def wanted(probability: ArrayLike, npc: ArrayLike, area: float) -> Wanted | None:
    """What these cases show to be wanted; None while one kind of case is missing."""
    y = np.asarray(npc, np.float64)
    prevalence = float(y.mean()) if len(y) else 0.0
    if not 0 < prevalence < 1:
        return None
    return Wanted(
        cases_for_ratio(prevalence),
        cases_for_slope(probability),
        cases_for_auc(min(area, 0.999), prevalence),
    )
