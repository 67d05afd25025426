"""Round numbers and calendar dates for the axes of the charts, and how to thin a long series honestly."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta

import numpy as np

from npc_edge.calibration.report.values import Floats, Times
from npc_edge.calibration.report.wording import MONTHS

_DAY_MS = 86_400_000
_MOST_TICKS = 6


def round_ticks(low: float, high: float, most: int = 4) -> list[float]:
    """At most `most` + 1 multiples of 1, 2, 2.5 or 5 times a power of ten within [low, high], ascending."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low]
    power = 10.0 ** math.floor(math.log10(span / most))
    step = next(power * f for f in (1, 2, 2.5, 5, 10) if span / (power * f) <= most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def number(value: float) -> str:
    """A short way to write a value: 0.25, 12, 1,500."""
    if value == 0:
        return "0"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}".replace("-", "−")


def date_ticks(first: int, last: int) -> list[tuple[int, str]]:
    """Times (ms) within [first, last] on days, months or years, at most six, with their labels (UTC)."""
    days = (last - first) / _DAY_MS
    start = datetime.fromtimestamp(first / 1000, UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    if days <= 75:
        step = next((s for s in (1, 2, 7, 14) if days / s <= _MOST_TICKS), 14)
        moments = [start + timedelta(days=step * i) for i in range(int(days / step) + 2)]
        return [(_ms(m), f"{m.day} {MONTHS[m.month - 1]}") for m in moments if first <= _ms(m) <= last]
    months = days / 30.44
    step = next((s for s in (1, 2, 3, 6, 12, 24, 60) if months / s <= _MOST_TICKS), 120)
    return [(at, label) for at, label in _months(start, step, last) if at >= first]


def _months(start: datetime, step: int, last: int) -> list[tuple[int, str]]:
    """The first days of every step-th month, counted from a January; a year is written where it begins."""
    count = start.year * 12 + start.month - 1
    count -= count % step
    ticks: list[tuple[int, str]] = []
    while True:
        moment = datetime(count // 12, count % 12 + 1, 1, tzinfo=UTC)
        if _ms(moment) > last:
            return ticks
        whole_years = step % 12 == 0
        name = MONTHS[moment.month - 1]
        label = str(moment.year) if whole_years else f"{name} {moment.year}" if moment.month == 1 else name
        ticks.append((_ms(moment), label))
        count += step


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def bin_means(at: Times, values: Floats, bins: int) -> tuple[Floats, Floats]:
    """Mean time and mean value of the measured cases in each of `bins` equal spans of time; empty ones left
    out. at, values (N,) → two arrays (B,), B ≤ bins."""
    measured = np.isfinite(values)
    if not measured.any():
        return np.empty(0), np.empty(0)
    times, kept = at[measured], values[measured]
    span = max(int(at[-1] - at[0]), 1)
    place = np.minimum((times - at[0]) * bins // span, bins - 1)
    count = np.bincount(place, minlength=bins)
    full = count > 0
    middle = np.bincount(place, times - at[0], minlength=bins)[full] / count[full] + at[0]
    return middle, np.bincount(place, kept, minlength=bins)[full] / count[full]


def thinned(line: Floats, most: int = 300) -> np.ndarray[tuple[int], np.dtype[np.intp]]:
    """Indices that draw a line: all of a short one, else the lowest and the highest of every stretch, so that
    no excursion is lost. line (N,) → ascending indices (≤ most,)."""
    known = np.flatnonzero(np.isfinite(line))
    if known.size <= most:
        return known
    kept: set[int] = {int(known[0]), int(known[-1])}
    for part in np.array_split(known, most // 2 - 1):
        kept |= {int(part[line[part].argmin()]), int(part[line[part].argmax()])}
    return np.array(sorted(kept))
