"""What is said of many timings: percentiles, and ratios of pairs with their spread. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

_DRAWS = 2000
_FEW = 8
"""Fewer pairs than this and a bootstrap says more than there is to know: the range stands for it."""


def percentiles(values: Sequence[float], digits: int = 4) -> dict[str, float | int]:
    """runs, min, p50, p90, p99, max and mean, in the values' unit. ValueError without a value."""
    if not values:
        raise ValueError("nothing was measured")
    held = np.asarray(values, dtype=np.float64)
    found: dict[str, float | int] = {"runs": len(values)}
    found |= {f"p{p}": round(float(np.percentile(held, p)), digits) for p in (50, 90, 99)}
    found |= {name: round(float(getattr(held, name)()), digits) for name in ("min", "max", "mean")}
    return found


def by_stage(rows: Sequence[Mapping[str, float]]) -> dict[str, dict[str, float]]:
    """Stage → p50, p90 and p99 of its milliseconds, over all runs. Every row names the same stages."""
    return {
        stage: {
            f"p{p}": round(float(np.percentile([row[stage] for row in rows], p)), 2) for p in (50, 90, 99)
        }
        for stage in rows[0]
    }


def ratio(theirs: Sequence[float], ours: Sequence[float]) -> dict[str, Any]:
    """How many times as long they take: runs taken in turns are pairs, and each pair has a ratio.

    median: of the pairs' ratios. low, high: the 95 % interval of that median over resampled pairs (seeded),
    or the range where there are few. p5, p95: of the pairs. ValueError when there is no pair.
    """
    pairs = [b / a for a, b in zip(ours, theirs, strict=True)]
    if not pairs:
        raise ValueError("nothing was measured")
    held = np.asarray(pairs)
    if len(held) < _FEW:
        low, high = float(held.min()), float(held.max())
    else:
        draws = np.random.default_rng(0).integers(0, len(held), (_DRAWS, len(held)))
        medians = np.median(held[draws], axis=1)
        low, high = (float(v) for v in np.percentile(medians, (2.5, 97.5)))
    p5, p95 = (float(v) for v in np.percentile(held, (5, 95)))
    found = {"median": float(np.median(held)), "low": low, "high": high, "p5": p5, "p95": p95}
    return {"pairs": len(pairs), **{name: round(value, 3) for name, value in found.items()}}


def noise(values: Sequence[float]) -> float:
    """The spread of equal work: how far p90 lies above p10, over the median."""
    low, middle, high = (float(v) for v in np.percentile(np.asarray(values), (10, 50, 90)))
    return (high - low) / middle
