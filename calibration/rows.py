"""Values of the monitor ↔ rows of its database. Mappings and tuples are JSON in a column of their own."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, cast

from npc_edge.calibration.record import Acquired, CaseRecord, Truth
from npc_edge.calibration.schema import StoreError

JSON_COLUMNS = (
    *("reasons", "acquired", "features", "distribution", "evidence", "quality", "timings_ms"),
    "operating_point",
)
RUN_COLUMNS = tuple(f.name for f in fields(CaseRecord))
TRUTH_COLUMNS = tuple("found_on" if f.name == "on" else f.name for f in fields(Truth))
_NUMBERS = frozenset({"features", "timings_ms"})
"""Mappings that differ from row to row; the others repeat."""
_decode = json.JSONDecoder().raw_decode  # our own text has no blanks around it to look for
_SHARED = 4096  # how many different texts a reader remembers; beyond that it parses again


class Numbers(Mapping[str, float]):
    """A frozen mapping of few bytes: names shared by all records that have the same, values as doubles."""

    __slots__ = ("_places", "_values")

    def __init__(self, places: dict[str, int], values: array[float]) -> None:
        self._places, self._values = places, values

    def __getitem__(self, name: str) -> float:
        return self._values[self._places[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


def run_row(record: CaseRecord) -> tuple[Any, ...]:
    """The values of RUN_COLUMNS. StoreError for a number that is none: JSON has no word for it."""
    try:
        return tuple(
            json.dumps(_plain(name, record), allow_nan=False, separators=(",", ":"))
            if name in JSON_COLUMNS
            else getattr(record, name)
            for name in RUN_COLUMNS
        )
    except (TypeError, ValueError) as error:
        raise StoreError(f"a record cannot be kept: {error}") from error


def _plain(name: str, record: CaseRecord) -> Any:
    value = getattr(record, name)
    if name == "acquired":
        return [vars(series) for series in value]
    return list(value) if name == "reasons" else dict(value)


def truth_row(truth: Truth) -> tuple[Any, ...]:
    """The values of TRUTH_COLUMNS."""
    values = vars(truth) | {"found_on": truth.on, "criteria": json.dumps(dict(truth.criteria))}
    return tuple(values[name] for name in TRUTH_COLUMNS)


def truth_of(row: tuple[Any, ...]) -> Truth:
    """A row of TRUTH_COLUMNS as a value."""
    values = dict(zip(TRUTH_COLUMNS, row, strict=True))
    values["on"] = values.pop("found_on")
    values["criteria"] = json.loads(values["criteria"])
    values["npc"] = None if values["npc"] is None else bool(values["npc"])
    return Truth(**values)


class RunReader:
    """Rows as values. What repeats from row to row (an acquisition, a list of checks) is one object, so that
    100,000 records fit in memory."""

    def __init__(self) -> None:
        self._parsed: dict[str, dict[str, Any]] = {name: {} for name in JSON_COLUMNS}
        self._places: dict[tuple[str, ...], dict[str, int]] = {}
        self._words: dict[str, str] = {}

    def record(self, row: tuple[Any, ...]) -> CaseRecord:
        """A row of RUN_COLUMNS as a value."""
        values = dict(zip(RUN_COLUMNS, row, strict=True))
        for name in JSON_COLUMNS:
            values[name] = self.parsed(name, values[name])
        for name in ("version", "bundle", "bundle_sha256", "artefact", "backend", "precision"):
            values[name] = self._words.setdefault(values[name], values[name])
        values["quality_control"] = bool(values["quality_control"])
        return CaseRecord(**values)

    def parsed(self, column: str, text: str) -> Any:
        """The value of a JSON column."""
        if column in _NUMBERS:
            return self._numbers(_decode(text)[0])
        known = self._parsed[column]
        if text not in known:
            if len(known) >= _SHARED:
                known.clear()
            known[text] = _value(column, _decode(text)[0])
        return known[text]

    def _numbers(self, found: dict[str, float]) -> Numbers:
        names = tuple(found)
        places = self._places.get(names)
        if places is None:
            if len(self._places) >= _SHARED:
                self._places.clear()
            places = self._places[names] = {name: place for place, name in enumerate(names)}
        return Numbers(places, array("d", found.values()))


def _value(column: str, found: Any) -> Any:
    if column == "reasons":
        return tuple(found)
    if column == "acquired":
        return tuple(_acquired(item) for item in found)
    return found


def _acquired(item: dict[str, Any]) -> Acquired:
    spacing = item["spacing_mm"]
    return Acquired(**{**item, "spacing_mm": None if spacing is None else cast(Any, tuple(spacing))})
