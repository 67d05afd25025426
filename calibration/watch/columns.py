"""Records as columns: what the watchers work on, one entry a case in order of time."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import Acquired, CaseRecord

Floats = NDArray[np.float64]
Places = NDArray[np.intp]

UNKNOWN = "unknown"


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
    outputs = _Numbers(len(given))
    features, numbers = _Numbers(len(given)), _Numbers(len(given))
    facts = _Facts(len(given))
    named = dict(aliases or {})
    for index, record in enumerate(given):
        outputs.put("score", index, record.score)
        outputs.put("volume_ml", index, record.volume_ml)
        outputs.put("latency_ms", index, record.timings_ms.get("total"))
        outputs.put("probability", index, record.probability)
        for name, value in record.features.items():
            features.put(name, index, value)
        facts.put("outcome", index, record.outcome)
        facts.put("artefact", index, record.artefact or UNKNOWN)
        facts.put("reason", index, record.reasons[0] if record.reasons else "none")
    for acquired, cases in _alike(given):
        _put_acquired(acquired, cases, numbers, facts, named)
    probability = outputs.columns.pop("probability", np.full(len(given), np.nan))
    return Columns(
        np.array([record.at for record in given], np.int64),
        tuple(record.case_key for record in given),
        outputs.columns,
        features.columns,
        numbers.columns,
        facts.done(),
        probability,
    )


def _alike(records: Sequence[CaseRecord]) -> list[tuple[tuple[Acquired, ...], Places]]:
    """Acquisitions with the indices of their cases. Records that share theirs, as those read together do,
    are put at once: a department has few protocols and many cases."""
    places: dict[int, list[int]] = {}
    for index, record in enumerate(records):
        places.setdefault(id(record.acquired), []).append(index)
    return [(records[cases[0]].acquired, np.array(cases)) for cases in places.values()]


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
        facts.put("station", index, station_name(first.station_key, aliases))
        tesla = first.field_strength_t
        facts.put("field strength", index, UNKNOWN if tesla is None else f"{round(tesla, 1):g} T")
    for series in acquired:
        role = series.role
        facts.put(f"{role} fat suppression", index, series.fat_suppression)
        numbers.put(f"{role} TR", index, series.repetition_time_ms)
        numbers.put(f"{role} TE", index, series.echo_time_ms)
        numbers.put(f"{role} TI", index, series.inversion_time_ms)
        numbers.put(f"{role} slices", index, series.slices)
        if series.spacing_mm is not None:
            numbers.put(f"{role} slice spacing", index, series.spacing_mm[0])
            numbers.put(f"{role} pixel spacing", index, series.spacing_mm[1])


def station_name(key: str, aliases: Mapping[str, str]) -> str:
    """The operator's name for a station, else the beginning of its hash."""
    if not key:
        return UNKNOWN
    return aliases.get(key, f"station {key[:6]}")


class _Numbers:
    """Columns that begin as NaN when their first value comes."""

    def __init__(self, count: int) -> None:
        self.columns: dict[str, Floats] = {}
        self._count = count

    def put(self, name: str, index: int | Places, value: float | None) -> None:
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

    def put(self, name: str, index: int | Places, level: str) -> None:
        if name not in self._codes:
            self._codes[name] = np.zeros(self._count, np.int32)
            self._levels[name] = {UNKNOWN: 0}
        levels = self._levels[name]
        self._codes[name][index] = levels.setdefault(level, len(levels))

    def done(self) -> dict[str, Fact]:
        return {name: Fact(codes, tuple(self._levels[name])) for name, codes in self._codes.items()}
