"""What values an activation takes over all calibration cases, without ever holding two cases.

Memory, for the 30 M-parameter anisotropic network on 2 x 20 x 256 x 256 (1.31 M voxels): a tensor of 32
channels at full size is 168 MB, the 64 channels of the last skip connection 336 MB, and each level below
takes half of the one above or less. What convolutions read sums to 0.84 GB at full size, 0.5 GB a level
below and 0.15 GB under that: 1.5 GB, so with the default budget of 1 GiB the graph runs once for each of
two groups of tensors, each up to the last of its tensors only. ONNX Runtime copies its outputs, so a group
takes twice its size (2.1 GB); with what it has alive at once beside them (about 1 GB: skips and two layers
at full size), the weights three times (model, its serialized form, session: 0.4 GB) and 64 KiB a histogram
that is below 4 GB, whatever the number of cases. The session of a group stays open over all of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.export import graph as graphs
from npc_edge.export.graph import Arrays

BINS = 8192
_CHUNK = 1 << 20
_SHARES = np.linspace(0.2, 1.0, 81)


@dataclass(frozen=True)
class Range:
    """What an 8-bit activation must span; always contains 0, for padding must stay exact."""

    low: float
    high: float


@dataclass(frozen=True)
class Options:
    """method: mse: the span whose 256 levels leave the least squared error (on the demo networks a third of
    the error of the 99.99th percentile); percentile: at most 100 - `percentile` percent of the values lie
    beyond either end. budget: bytes of activations to hold at once."""

    method: Literal["percentile", "mse"] = "mse"
    percentile: float = 99.99
    budget: int = 1 << 30

    def __post_init__(self) -> None:
        if self.method not in ("percentile", "mse") or not 50.0 < self.percentile <= 100.0 or self.budget < 1:
            raise UsageError(
                f"no such calibration: {self}", "method percentile or mse, percentile in (50, 100]"
            )


class Histogram:
    """Counts in BINS equal bins over [-limit, limit), and the exact least and largest value.

    limit is a power of two that doubles when a value needs it, two bins becoming one: bin edges are exact, so
    the counts are those of all values at once, in whatever order they came.
    """

    def __init__(self, bins: int = BINS) -> None:
        self.counts: NDArray[np.int64] = np.zeros(bins, np.int64)
        self.limit = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, values: NDArray[Any]) -> None:
        """Count an array of any shape. ValueError when a value is not finite."""
        if values.size == 0:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            raise ValueError("a value is not finite")
        self.low, self.high = min(self.low, low), max(self.high, high)
        self._reach(max(-low, high, 2.0**-126))
        scale = self.counts.size / 2 / self.limit
        flat = values.reshape(-1)
        for start in range(0, flat.size, _CHUNK):
            # A power of two times a float is exact, so that the floor is.
            part = flat[start : start + _CHUNK].astype(np.float64) * scale
            place = np.floor(part).astype(np.int64) + self.counts.size // 2
            self.counts += np.bincount(place, minlength=self.counts.size)

    def _reach(self, size: float) -> None:
        if self.limit == 0.0:
            self.limit = float(2.0 ** (np.frexp(size)[1]))
        half = self.counts.size // 2
        while self.limit <= size:
            merged = self.counts.reshape(-1, 2).sum(axis=1)
            self.counts = np.zeros_like(self.counts)
            self.counts[half - half // 2 : half + half // 2] = merged
            self.limit *= 2

    @property
    def edges(self) -> NDArray[np.float64]:
        """The bins' edges, one more than bins."""
        half = self.counts.size // 2
        return np.arange(-half, half + 1, dtype=np.float64) * (self.limit / half)

    def percentile(self, percent: float) -> Range:
        """The span outside of which, on either side, at most 100 - percent of the values lie; to one bin."""
        total = self.counts.sum()
        if total == 0:
            return Range(0.0, 0.0)
        beyond = total * (100.0 - percent) / 100.0
        edges, below = self.edges, np.cumsum(self.counts)
        first = int(np.searchsorted(below, beyond, side="right"))
        last = int(np.searchsorted(-(total - below), -beyond, side="left"))
        low, high = max(self.low, float(edges[first])), min(self.high, float(edges[last + 1]))
        return Range(min(low, 0.0), max(high, 0.0))

    def least_error(self) -> Range:
        """The range whose 256 levels leave the least squared error: each end is drawn in, in turn."""
        if not self.counts.any():
            return Range(0.0, 0.0)
        edges, held = self.edges, self.counts > 0
        values, counts = (edges[1:] + edges[:-1])[held] / 2, self.counts[held]
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        ends = low, high
        for _ in range(2):
            errors = [_squared_error(values, counts, Range(low, share * ends[1])) for share in _SHARES]
            high = float(_SHARES[int(np.argmin(errors))]) * ends[1]
            errors = [_squared_error(values, counts, Range(share * ends[0], high)) for share in _SHARES]
            low = float(_SHARES[int(np.argmin(errors))]) * ends[0]
        return Range(low, high)


def _squared_error(values: NDArray[np.float64], counts: NDArray[np.int64], span: Range) -> float:
    step = max((span.high - span.low) / 255, 1e-30)
    zero = np.round(-span.low / step)
    levels = np.clip(np.round(values / step) + zero, 0, 255) - zero
    return float((counts * (values - levels * step) ** 2).sum())


def observe(
    model: ModelProto, tensors: Sequence[str], cases: Iterable[Arrays], options: Options | None = None
) -> dict[str, Range]:
    """The range of each tensor over all cases (inputs by name).

    cases is gone through once for each group of tensors that fits the budget, so it must be something that
    can be gone through again: a sequence, or a class that loads one case at a time. Raises UsageError for an
    iterator or no case at all, BundleError when a tensor is not there or takes a value that is not finite.
    """
    options = options or Options()
    if isinstance(cases, Iterator):
        raise UsageError("calibration cases must be something that can be read again, not an iterator")
    example = next(iter(cases), None)
    if example is None:
        raise UsageError("calibration needs at least one case")
    found: dict[str, Range] = {}
    for group in graphs.groups(model, list(dict.fromkeys(tensors)), example, options.budget):
        for name, histogram in _histograms(model, group, cases).items():
            found[name] = (
                histogram.percentile(options.percentile)
                if options.method == "percentile"
                else histogram.least_error()
            )
    return found


def _histograms(model: ModelProto, group: Sequence[str], cases: Iterable[Arrays]) -> dict[str, Histogram]:
    run = graphs.opened(graphs.cut(model, group))
    found = {name: Histogram() for name in group}
    for case in cases:
        outputs = run(case)
        for name in group:
            try:
                found[name].add(outputs.pop(name))
            except ValueError as error:
                raise BundleError(f"tensor {name} takes values that are not finite") from error
    return found
