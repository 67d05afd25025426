"""Single fields of many runs as arrays, without building the runs: what `Store.columns` gives.

What the watchers work on is `calibration.watch.columns`, made from whole records.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.rows import JSON_COLUMNS, RUN_COLUMNS, RunReader
from npc_edge.calibration.schema import StoreError

_NAMES = ("case_key", "accession_key", "version", "bundle", "bundle_sha256", "artefact", "backend")
_WORDS = frozenset(
    (*_NAMES, "precision", "outcome", "finding", "category_ajcc8", "category_ajcc9", "evidence")
)
_SERIES_WORDS = frozenset({"vendor", "model_key", "station_key", "fat_suppression", "role"})
_SERIES_NUMBERS = frozenset(
    {"field_strength_t", "repetition_time_ms", "echo_time_ms", "inversion_time_ms", "slices"}
)
_WHOLE = frozenset({"reasons", "acquired"})  # asked for as a whole: a tuple a run

Pick = Callable[[Any], Any]


def sources(names: Sequence[str]) -> tuple[str, ...]:
    """The columns of the database behind the names, none twice. StoreError for a name that is none."""
    found = dict.fromkeys(name.partition(".")[0] for name in names)
    for name in names:
        if not _is_known(name):
            raise StoreError(f"runs have no column {name}")
    return tuple(found)


def _is_known(name: str) -> bool:
    column, _, rest = name.partition(".")
    if column == "acquired" and rest:
        return rest.partition(".")[2] in _SERIES_WORDS | _SERIES_NUMBERS
    if column in JSON_COLUMNS:
        return column in _WHOLE if not rest else column not in _WHOLE
    return column in RUN_COLUMNS and not rest


def gathered(names: Sequence[str], rows: Iterable[tuple[Any, ...]]) -> dict[str, NDArray[Any]]:
    """name → (N,) from rows of `sources(names)`."""
    columns = sources(names)
    reader = RunReader()
    plans = [(columns.index(name.partition(".")[0]), _pick(name)) for name in names]
    kept: list[list[Any]] = [[] for _ in names]
    structured = [(place, column) for place, column in enumerate(columns) if column in JSON_COLUMNS]
    for row in rows:
        values = list(row)
        for place, column in structured:
            values[place] = reader.parsed(column, values[place])
        for into, (place, pick) in zip(kept, plans, strict=True):
            into.append(pick(values[place]))
    return {name: _array(name, values) for name, values in zip(names, kept, strict=True)}


def _pick(name: str) -> Pick:
    column, _, rest = name.partition(".")
    if not rest:
        return lambda value: value
    if column != "acquired":
        return lambda mapping: mapping.get(rest)
    role, _, field = rest.partition(".")
    return lambda series: next((getattr(s, field) for s in series if s.role == role), None)


def _array(name: str, values: list[Any]) -> NDArray[Any]:
    column, last = name.partition(".")[0], name.rpartition(".")[2]
    if column == "at":
        return np.array(values, dtype=np.int64)
    if column in _WORDS or name in _WHOLE or (column == "acquired" and last in _SERIES_WORDS):
        words = np.empty(len(values), dtype=object)
        for place, value in enumerate(values):  # one by one: a slice would take tuples apart
            words[place] = value
        return words
    return np.array([np.nan if value is None else value for value in values], dtype=np.float64)
