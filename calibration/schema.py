"""The monitor's database file: how it is opened, checked and brought to the newest schema.

SQLite in WAL mode with synchronous FULL: a committed row survives the end of the process and, as far as the
disk keeps its promises, a power cut. On a local disk only: WAL needs shared memory between its users.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

Migration = tuple[str, ...]
"""The statements that bring a database from one schema version to the next."""

MIGRATIONS: tuple[Migration, ...] = (
    (
        """CREATE TABLE runs (
            id INTEGER PRIMARY KEY,
            at INTEGER NOT NULL,
            case_key TEXT NOT NULL,
            accession_key TEXT NOT NULL,
            version TEXT NOT NULL,
            bundle TEXT NOT NULL,
            bundle_sha256 TEXT NOT NULL,
            artefact TEXT NOT NULL,
            backend TEXT NOT NULL,
            precision TEXT NOT NULL,
            outcome TEXT NOT NULL CHECK (outcome IN ('result', 'no-result')),
            finding TEXT,
            score REAL,
            probability REAL,
            volume_ml REAL,
            category_ajcc8 TEXT,
            category_ajcc9 TEXT,
            peak_rss_mb REAL,
            quality_control INTEGER NOT NULL,
            reasons TEXT NOT NULL,
            acquired TEXT NOT NULL,
            features TEXT NOT NULL,
            distribution TEXT NOT NULL,
            evidence TEXT NOT NULL,
            quality TEXT NOT NULL,
            timings_ms TEXT NOT NULL,
            operating_point TEXT NOT NULL
        )""",
        "CREATE INDEX runs_at ON runs (at)",
        "CREATE INDEX runs_case ON runs (case_key)",
        "CREATE INDEX runs_accession ON runs (accession_key)",
        """CREATE TABLE truths (
            id INTEGER PRIMARY KEY,
            case_key TEXT NOT NULL,
            at INTEGER NOT NULL,
            source TEXT NOT NULL,
            found_on TEXT NOT NULL,
            npc INTEGER,
            category TEXT,
            edition TEXT NOT NULL,
            criteria TEXT NOT NULL,
            review TEXT,
            dice REAL
        )""",
        "CREATE INDEX truths_case ON truths (case_key)",
        "CREATE TABLE aliases (key TEXT PRIMARY KEY, name TEXT NOT NULL)",
        """CREATE TABLE acknowledgements (
            id INTEGER PRIMARY KEY,
            watcher TEXT NOT NULL,
            grouped TEXT NOT NULL,
            level TEXT NOT NULL,
            at INTEGER NOT NULL,
            until INTEGER NOT NULL,
            note TEXT NOT NULL,
            who TEXT NOT NULL,
            ended INTEGER
        )""",
    ),
    ("ALTER TABLE acknowledgements ADD COLUMN view TEXT NOT NULL DEFAULT ''",),
)
"""Entry i brings version i to version i + 1. Entries are only ever added: a released one never changes."""

APPLICATION_ID = 0x4E504345  # "NPCE", so that a stranger's database is told apart
BUSY_S = 5.0


class StoreError(Exception):
    """The monitor's database cannot be used as asked. `hint` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


@contextlib.contextmanager
def translated(doing: str) -> Iterator[None]:
    """The one translation of SQLite's and the operating system's errors: `doing` failed, and why."""
    try:
        yield
    except sqlite3.Error as error:
        # Errors of Python's own layer carry no SQLite code; extended codes hold the primary one below.
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        what, hint = _EXPLAINED.get(code, (f"{type(error).__name__}, {error}", ""))
        raise StoreError(f"cannot {doing}: {what}", hint) from error
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise StoreError(
            f"cannot {doing}: {reason}", "check the folder's permissions and the disk"
        ) from error


_DAMAGED = ("the monitor's database is damaged", "put a backup in its place, or move it away to begin anew")
_EXPLAINED = {
    sqlite3.SQLITE_BUSY: ("another process holds the monitor's database", "try again when it has ended"),
    sqlite3.SQLITE_LOCKED: ("another process holds the monitor's database", "try again when it has ended"),
    sqlite3.SQLITE_FULL: ("the disk is full", "make room"),
    sqlite3.SQLITE_IOERR: (
        "the disk gave an error",
        "check that it is a local disk, not full, not read-only",
    ),
    sqlite3.SQLITE_READONLY: ("the monitor's database is read-only", "check its permissions"),
    sqlite3.SQLITE_CANTOPEN: ("the monitor's database cannot be opened", "check the folder's permissions"),
    sqlite3.SQLITE_CORRUPT: _DAMAGED,
    sqlite3.SQLITE_NOTADB: _DAMAGED,
}


def connect(path: Path, migrations: Sequence[Migration] = MIGRATIONS) -> sqlite3.Connection:
    """Open (or make, mode 0600) the database, check it, and migrate it. Raises StoreError.

    The connection is in autocommit: transactions are begun by name.
    """
    with translated("open the monitor's database"):
        _private(path)
        db = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
        with contextlib.ExitStack() as undo:
            undo.callback(db.close)
            _configure(db)
            _check(db)
            _migrate(db, migrations)
            undo.pop_all()
    return db


def _private(path: Path) -> None:
    """The file exists and is its owner's alone; SQLite gives its companions the same mode."""
    handle = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        if sys.platform != "win32" and os.fstat(handle).st_mode & 0o077:
            os.fchmod(handle, 0o600)
    finally:
        os.close(handle)


def _configure(db: sqlite3.Connection) -> None:
    for pragma in ("synchronous = FULL", "fullfsync = ON", "temp_store = MEMORY", "secure_delete = ON"):
        db.execute(f"PRAGMA {pragma}")
    until = time.monotonic() + BUSY_S
    while True:  # two processes that make the file together: the change of mode does not wait by itself
        try:
            (mode,) = db.execute("PRAGMA journal_mode = WAL").fetchone()
            break
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
    if mode != "wal":
        raise StoreError(
            "the monitor's database cannot be kept safe on this file system", "use a local disk (--state)"
        )


def _check(db: sqlite3.Connection) -> None:
    (application,) = db.execute("PRAGMA application_id").fetchone()
    tables = db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    if tables and application != APPLICATION_ID:
        raise StoreError(
            "the monitor's database is a file of another program", "name another state directory"
        )
    (verdict,) = db.execute("PRAGMA quick_check(1)").fetchone()
    if verdict != "ok":
        raise StoreError(*_DAMAGED)


def _migrate(db: sqlite3.Connection, migrations: Sequence[Migration]) -> None:
    """All of what is missing in one transaction, so that no half-migrated database is ever seen."""
    if _version(db) == len(migrations):
        return
    db.execute("BEGIN IMMEDIATE")
    try:
        version = _version(db)  # again: another process may just have done it
        if version > len(migrations):
            raise StoreError(
                f"the monitor's database has schema {version}, this npc-edge knows {len(migrations)}",
                "use the newer npc-edge that wrote it",
            )
        for migration in migrations[version:]:
            for statement in migration:
                db.execute(statement)
        db.execute(f"PRAGMA user_version = {len(migrations)}")
        db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        db.execute("COMMIT")
    finally:
        if db.in_transaction:  # it did not come to its COMMIT
            db.execute("ROLLBACK")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])
