"""Records as columns: what the watchers work on, one entry a case in order of time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import Acquired, CaseRecord

Floats = NDArray[np.float64]
Places = NDArray[np.intp]
T = TypeVar("T", bound=Hashable)

UNKNOWN = "unknown"
OTHER = "any other"
"""The level that holds whatever is none of a fact's usual ones."""

_SEQUENCES = {"T2FS": "T2"}
"""A fat-suppressed T2 has a role of its own; here it is T2, and its fat suppression a fact about it."""


@dataclass(frozen=True, eq=False)
class Fact:
    """A fact with levels, as the vendor: codes (N,) into levels."""

    codes: NDArray[np.int32]
    levels: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Columns:
    """N cases in order of time. at (N,) UTC milliseconds since 1970; keys: case keys.

    outputs: "score", "volume_ml", "latency_ms". features: of the images. numbers: of the acquisition, as
    "T2 TE". All (N,) float64, NaN where there is none. facts: "outcome", "vendor", "station", "artefact",
    "T2 fat suppression", …  probability (N,): the calibrated one.
    """

    at: NDArray[np.int64]
    keys: tuple[str, ...]
    outputs: Mapping[str, Floats]
    features: Mapping[str, Floats]
    numbers: Mapping[str, Floats]
    facts: Mapping[str, Fact]
    probability: Floats

    def __len__(self) -> int:
        return len(self.at)

    def part(self, start: int, stop: int) -> Columns:
        """Cases start..stop."""
        return self.chosen(np.arange(start, stop))

    def chosen(self, indices: NDArray[np.intp]) -> Columns:
        """The cases at these indices."""

        def cut(columns: Mapping[str, Floats]) -> dict[str, Floats]:
            return {name: values[indices] for name, values in columns.items()}

        return Columns(
            self.at[indices],
            tuple(self.keys[index] for index in indices),
            cut(self.outputs),
            cut(self.features),
            cut(self.numbers),
            {name: Fact(fact.codes[indices], fact.levels) for name, fact in self.facts.items()},
            self.probability[indices],
        )


def last_run_of_each(records: Iterable[CaseRecord]) -> list[CaseRecord]:
    """The last run of every case, in order of time: a study run twice is one case."""
    ordered = sorted(records, key=attrgetter("at"))
    last = {record.case_key: index for index, record in enumerate(ordered)}
    return [record for index, record in enumerate(ordered) if last[record.case_key] == index]


def columns_of(records: Iterable[CaseRecord], aliases: Mapping[str, str] | None = None) -> Columns:
    """Columns of the records as they come, one entry each: `last_run_of_each` first, where runs repeat.

    aliases: salted hash of a station → the name the operator gave it.
    """
    given = list(records)
    features, numbers = _Numbers(len(given)), _Numbers(len(given))
    facts = _Facts(len(given))
    for names, cases in _places(tuple(record.features) for record in given):
        values = np.array([list(given[case].features.values()) for case in cases], np.float64)
        for place, name in enumerate(names):
            features.put(name, cases, values[:, place])
    for of, levels in (
        ("outcome", [record.outcome for record in given]),
        ("artefact", [record.artefact or UNKNOWN for record in given]),
        ("reason", [record.reasons[0] if record.reasons else "none" for record in given]),
    ):
        for level, cases in _places(levels):
            facts.put(of, cases, level)
    named = dict(aliases or {})
    for _, cases in _places(id(record.acquired) for record in given):  # what is shared is one protocol
        _put_acquired(given[cases[0]].acquired, cases, numbers, facts, named)
    return Columns(
        np.array([record.at for record in given], np.int64),
        tuple(record.case_key for record in given),
        _outputs(given),
        features.columns,
        numbers.columns,
        facts.done(),
        _numbers(record.probability for record in given),
    )


def _outputs(records: Sequence[CaseRecord]) -> dict[str, Floats]:
    """What was measured at all of score, volume and latency."""
    found = {
        "score": _numbers(record.score for record in records),
        "volume_ml": _numbers(record.volume_ml for record in records),
        "latency_ms": _numbers(record.timings_ms.get("total") for record in records),
    }
    return {name: values for name, values in found.items() if not np.isnan(values).all()}


def _numbers(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if value is None else value for value in values], np.float64)


def _places(values: Iterable[T]) -> list[tuple[T, Places]]:
    """Each different value, in order of its first place, with all its places: a department has few kinds of
    anything and many cases, and arrays take many at once."""
    found: dict[T, list[int]] = {}
    for index, value in enumerate(values):
        found.setdefault(value, []).append(index)
    return [(value, np.array(places, np.intp)) for value, places in found.items()]


def _put_acquired(
    acquired: tuple[Acquired, ...],
    index: Places,
    numbers: _Numbers,
    facts: _Facts,
    aliases: Mapping[str, str],
) -> None:
    if acquired:
        first = acquired[0]
        facts.put("vendor", index, first.vendor or UNKNOWN)
        facts.put("station", index, station_name(first, aliases))
        tesla = first.field_strength_t
        facts.put("field strength", index, UNKNOWN if tesla is None else f"{round(tesla, 1):g} T")
    for series in acquired:
        if not series.role:  # of a refused study: nothing came near
            continue
        role = _SEQUENCES.get(series.role, series.role)
        facts.put(f"{role} fat suppression", index, series.fat_suppression)
        numbers.put(f"{role} TR", index, series.repetition_time_ms)
        numbers.put(f"{role} TE", index, series.echo_time_ms)
        numbers.put(f"{role} TI", index, series.inversion_time_ms)
        numbers.put(f"{role} slices", index, series.slices)
        if series.spacing_mm is not None:
            numbers.put(f"{role} slice spacing", index, series.spacing_mm[0])
            numbers.put(f"{role} pixel spacing", index, series.spacing_mm[1])


def station_name(series: Acquired, aliases: Mapping[str, str]) -> str:
    """The operator's name for a station, else the beginning of its hash; of its model where no header names
    the station."""
    key, kind = (series.station_key, "station") if series.station_key else (series.model_key, "model")
    if not key:
        return UNKNOWN
    return aliases.get(key, f"{kind} {key[:6]}")


class _Numbers:
    """Columns that begin as NaN when their first value comes."""

    def __init__(self, count: int) -> None:
        self.columns: dict[str, Floats] = {}
        self._count = count

    def put(self, name: str, index: Places, value: float | Floats | None) -> None:
        if value is None:
            return
        column = self.columns.get(name)
        if column is None:
            column = self.columns[name] = np.full(self._count, np.nan)
        column[index] = value


class _Facts:
    """Facts that begin as "unknown" throughout when their first level comes."""

    def __init__(self, count: int) -> None:
        self._codes: dict[str, NDArray[np.int32]] = {}
        self._levels: dict[str, dict[str, int]] = {}
        self._count = count

    def put(self, name: str, index: Places, level: str) -> None:
        if name not in self._codes:
            self._codes[name] = np.zeros(self._count, np.int32)
            self._levels[name] = {UNKNOWN: 0}
        levels = self._levels[name]
        self._codes[name][index] = levels.setdefault(level, len(levels))

    def done(self) -> dict[str, Fact]:
        return {name: Fact(codes, tuple(self._levels[name])) for name, codes in self._codes.items()}
