"""The monitor's store: runs, truths, aliases of scanners and acknowledged alarms, in one SQLite file.

What `add` has returned from is on the disk. Rows hold salted hashes for keys: pseudonyms, not anonymous.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from npc_edge.calibration.alarms import Acknowledgement
from npc_edge.calibration.record import Acquired, CaseRecord, Truth
from npc_edge.calibration.rows import (
    RUN_COLUMNS,
    TRUTH_COLUMNS,
    RunReader,
    run_row,
    truth_of,
    truth_row,
)
from npc_edge.calibration.schema import MIGRATIONS, Migration, StoreError, connect, translated
from npc_edge.calibration.truth import fault, standing

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Acknowledgement", "Counts", "Scanner", "Store", "StoreError"]

_CHUNK = 1000
_ADD_RUN = f"INSERT INTO runs ({', '.join(RUN_COLUMNS)}) VALUES ({', '.join('?' * len(RUN_COLUMNS))})"
_ADD_TRUTH = f"INSERT INTO truths ({', '.join(TRUTH_COLUMNS)}) VALUES ({', '.join('?' * len(TRUTH_COLUMNS))})"
_SEEN = "watcher, grouped, level, at, until, note, who, view"


@dataclass(frozen=True)
class Counts:
    """What the store holds. labelled: cases with a truth. last: time of the last run, None without one.
    recorded: runs ever added, forgotten ones too; it begins anew when every run was forgotten."""

    runs: int
    results: int
    refused: int
    labelled: int
    truths: int
    last: int | None
    recorded: int


@dataclass(frozen=True)
class Scanner:
    """A station as seen in the records: how often and until when. key: "" where headers named none."""

    key: str
    model_key: str
    vendor: str
    field_strength_t: float | None
    runs: int
    last: int


class Store:
    """An open store. A context manager; several processes may hold the same file, one thread a Store."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    @staticmethod
    def open(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> Store:
        """Open the file or make it (mode 0600): checked, and of the newest schema. StoreError otherwise."""
        return Store(connect(path, migrations))

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close it; nothing that was added depends on this."""
        self._db.close()

    # --- runs ---------------------------------------------------------------------------------------------

    def add(self, record: CaseRecord) -> None:
        """Keep a run. On return it is on the disk; StoreError when it is not."""
        self.add_all([record])

    def add_all(self, records: Iterable[CaseRecord]) -> None:
        """Keep many runs in one transaction: all or none."""
        with self._writing("keep the run"):
            self._db.executemany(_ADD_RUN, map(run_row, records))

    def records(self, since: int | None = None, until: int | None = None) -> Iterator[CaseRecord]:
        """Runs in the order of their time, since ≤ at < until (UTC, milliseconds since 1970)."""
        reader = RunReader()
        for row in self._runs(RUN_COLUMNS, since, until):
            yield reader.record(row)

    def columns(
        self, names: Sequence[str], since: int | None = None, until: int | None = None
    ) -> dict[str, NDArray[Any]]:
        """Arrays of (N,), one value a run in the order of time; quicker and smaller than `records`.

        names: a field of CaseRecord ("score"), an entry of a mapping ("features.t1.median",
        "timings_ms.total", "quality.age"), or a field of a role's series ("acquired.T1.vendor"). Numbers
        and yes/no are float64, nan where missing; `at` is int64; words are objects, None where missing.
        """
        from npc_edge.calibration.fields import gathered, sources

        rows = self._runs(sources(names), since, until)
        return gathered(names, rows)

    def cases(self, accession_key: str) -> tuple[str, ...]:
        """Case keys of the runs of an accession key, none twice."""
        if not accession_key:
            return ()
        query = "SELECT DISTINCT case_key FROM runs WHERE accession_key = ? AND case_key <> '' ORDER BY 1"
        return tuple(key for (key,) in self._read(query, (accession_key,)))

    def holds(self, case_key: str) -> bool:
        """Whether there is a run of this case."""
        return bool(case_key) and bool(
            self._read("SELECT 1 FROM runs WHERE case_key = ? LIMIT 1", (case_key,))
        )

    def counts(self) -> Counts:
        """How much there is of everything."""
        query = "SELECT count(*), total(outcome = 'result'), max(at), ifnull(max(id), 0) FROM runs"
        ((runs, results, last, recorded),) = self._read(query)
        ((truths, labelled),) = self._read("SELECT count(*), count(DISTINCT case_key) FROM truths")
        return Counts(runs, int(results), runs - int(results), labelled, truths, last, recorded)

    def last(self) -> CaseRecord | None:
        """The run of the latest time."""
        query = f"SELECT {', '.join(RUN_COLUMNS)} FROM runs ORDER BY at DESC, id DESC LIMIT 1"
        return next((RunReader().record(row) for row in self._read(query)), None)

    def scanners(self) -> tuple[Scanner, ...]:
        """Every station seen, by the number of its runs."""
        rows = self._read("SELECT acquired, count(*), max(at) FROM runs GROUP BY acquired")
        reader, seen = RunReader(), dict[tuple[str, str, str, float | None], tuple[int, int]]()
        for text, runs, last in rows:
            series: tuple[Acquired, ...] = reader.parsed("acquired", text)
            for key in {(s.station_key, s.model_key, s.vendor, s.field_strength_t) for s in series}:
                before = seen.get(key, (0, 0))
                seen[key] = (before[0] + runs, max(before[1], last))
        return tuple(
            Scanner(*key, *numbers) for key, numbers in sorted(seen.items(), key=lambda item: -item[1][0])
        )

    # --- truth --------------------------------------------------------------------------------------------

    def add_truth(self, truth: Truth) -> None:
        """Keep a label; StoreError for one that contradicts itself or belongs to no run."""
        self.add_truths([truth])

    def add_truths(self, truths: Sequence[Truth]) -> None:
        """Keep labels, all or none."""
        for truth in truths:
            if why := fault(truth):
                raise StoreError(f"a label cannot be kept: {why}")
            if not self.holds(truth.case_key):
                raise StoreError("a label cannot be kept: there is no run of this case")
        with self._writing("keep the labels"):
            self._db.executemany(_ADD_TRUTH, map(truth_row, truths))

    def truths(self, current: bool = True) -> tuple[Truth, ...]:
        """current: one value a case, later labels over earlier ones; else every label in order of entry."""
        query = f"SELECT {', '.join(TRUTH_COLUMNS)} FROM truths ORDER BY at, id"
        history = tuple(truth_of(row) for row in self._read(query))
        if not current:
            return history
        cases: dict[str, list[Truth]] = {}
        for truth in history:
            cases.setdefault(truth.case_key, []).append(truth)
        return tuple(known for labels in cases.values() if (known := standing(labels)) is not None)

    # --- what people say ----------------------------------------------------------------------------------

    def alias(self, key: str, name: str) -> None:
        """Give a station's or model's key a name for people; an empty name takes it away."""
        with self._writing("keep the name"):
            self._db.execute("DELETE FROM aliases WHERE key = ?", (key,))
            if name:
                self._db.execute("INSERT INTO aliases VALUES (?, ?)", (key, name))

    def aliases(self) -> dict[str, str]:
        """Key → name."""
        return dict(self._read("SELECT key, name FROM aliases ORDER BY name"))

    def acknowledge(self, seen: Acknowledgement) -> None:
        """Keep that an alarm was seen."""
        query = f"INSERT INTO acknowledgements ({_SEEN}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
        with self._writing("keep the acknowledgement"):
            self._db.execute(query, tuple(vars(seen).values()))

    def acknowledgements(self, current: bool = True) -> tuple[Acknowledgement, ...]:
        """Those that were not ended, or every one there ever was, in order of entry."""
        rows = self._read(
            f"SELECT {_SEEN} FROM acknowledgements WHERE ? <= (ended IS NULL) ORDER BY id", (current,)
        )
        return tuple(Acknowledgement(*row) for row in rows)

    def end(self, over: Sequence[Acknowledgement], at: int) -> None:
        """These acknowledgements hold no longer; history keeps them. at: UTC, milliseconds since 1970."""
        query = (
            "UPDATE acknowledgements SET ended = ? WHERE ended IS NULL "
            "AND watcher = ? AND grouped = ? AND level = ? AND at = ? AND view = ?"
        )
        with self._writing("end an acknowledgement"):
            self._db.executemany(query, [(at, s.watcher, s.group, s.level, s.at, s.view) for s in over])

    # --- keeping ------------------------------------------------------------------------------------------

    def forget(self, before: int) -> int:
        """Delete runs with at < before, and the labels of cases that have no run left; how many runs.

        What is deleted is overwritten in the file. StoreError when it still lies in the log because another
        process is reading: then the runs are gone from view, and forgetting again finishes it.
        """
        with self._writing("forget"):
            gone = self._db.execute("DELETE FROM runs WHERE at < ?", (before,)).rowcount
            self._db.execute("DELETE FROM truths WHERE case_key NOT IN (SELECT case_key FROM runs)")
        ((busy, _, _),) = self._read("PRAGMA wal_checkpoint(TRUNCATE)")
        if busy:
            raise StoreError(
                "what was forgotten still lies in the database's log: another process is reading it",
                "forget again when that has ended",
            )
        return int(gone)

    def backup(self, path: Path) -> None:
        """Copy the store while it is in use: one file, mode 0600, whole or not at all. Never overwrites."""
        if path.exists():
            raise StoreError(f"there is a {path} already", "name another file")
        staged = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
        with translated("write the backup"):
            try:
                os.close(os.open(staged, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
                _copy(self._db, staged)
                staged.rename(path)
            finally:
                staged.unlink(missing_ok=True)

    # --- SQLite -------------------------------------------------------------------------------------------

    @contextmanager
    def _writing(self, doing: str) -> Iterator[None]:
        """One transaction, on the disk when the block has ended well."""
        with translated(doing):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:  # it did not come to its COMMIT, and nothing rolled it back
                    self._db.execute("ROLLBACK")

    def _read(self, query: str, values: Sequence[Any] = ()) -> list[Any]:
        with translated("read the monitor's database"):
            return self._db.execute(query, values).fetchall()

    def _runs(self, names: Sequence[str], since: int | None, until: int | None) -> Iterator[tuple[Any, ...]]:
        """Rows in chunks: a reader of 100,000 never holds them all as text."""
        low, high = -(1 << 62) if since is None else since, 1 << 62 if until is None else until
        query = f"SELECT {', '.join(names)} FROM runs WHERE at >= ? AND at < ? ORDER BY at, id"
        with translated("read the monitor's database"):
            cursor = self._db.execute(query, (low, high))
            while rows := cursor.fetchmany(_CHUNK):
                yield from rows


def _copy(db: sqlite3.Connection, path: Path) -> None:
    """A copy by SQLite's own means, checked, and on the disk. It is a single file: no log beside it."""
    copy = sqlite3.connect(path)
    try:
        db.backup(copy)
        copy.execute("PRAGMA journal_mode = DELETE")
        if copy.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
            raise StoreError("the backup is damaged", "check the disk")
    finally:
        copy.close()
    handle = os.open(path, os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
