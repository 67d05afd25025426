"""How sure a result is: an interval, a set of T categories, the probability at another prevalence."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """The two probabilities of Venn-Abers, 0..1: one of them is calibrated, where the share of NPC is that of
    the calibration set, `prevalence`. cases: how many it holds."""

    low: float
    high: float
    cases: int
    prevalence: float


@dataclass(frozen=True)
class AtPrevalence:
    """The probability where the share of NPC is `given`, not `fitted` as in the calibration set: `offset` is
    added to the calibrated logit. True under label shift alone."""

    given: float
    fitted: float
    offset: float
    probability: float


@dataclass(frozen=True)
class CategorySet:
    """T categories that hold the true one at `level`, of every category's cases; empty: none fits."""

    level: float
    categories: tuple[str, ...]
