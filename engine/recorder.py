"""Keeps the monitor's record of every run, and never lets a run fail because the monitor did."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.store import Store, StoreError
from npc_edge.engine.errors import OutputError
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.record import case_record
from npc_edge.engine.output.schema import ResultDocument

FILE = "monitor.sqlite"


@dataclass(frozen=True)
class Recorded:
    """What became of a run's record. record: what is kept, None when keeping it failed; then `failure` says
    why in one line. took_ms: what recording cost the run; cpu_ms: of it in this thread's hands, the rest is
    waiting for the disk."""

    record: CaseRecord | None
    failure: str
    took_ms: float
    cpu_ms: float


class Recorder:
    """Writes to the store of a state directory; opened with the first run, kept open until closed."""

    def __init__(self, root: Path) -> None:
        self._path = root / FILE
        self._store: Store | None = None

    def keep(self, outcome: Outcome, document: ResultDocument) -> Recorded:
        """Keep a run's record. Whatever goes wrong is a value: the run has its result already."""
        begun, used = time.perf_counter(), time.thread_time()
        record, failure = None, ""
        try:
            made = case_record(outcome, document, time.time_ns() // 1_000_000)
            if self._store is None:
                self._store = Store.open(self._path)
            self._store.add(made)
            record = made
        except StoreError as error:
            failure = "; ".join(text for text in (error.message, error.hint) if text)
        except Exception as error:  # noqa: BLE001  a bug of the monitor is no reason to lose a result
            failure = f"unexpected {type(error).__name__}, a bug in npc-edge"
        if failure:
            self.close()  # the next run tries from the beginning
        took, used = time.perf_counter() - begun, time.thread_time() - used
        return Recorded(record, failure, took * 1e3, used * 1e3)

    def close(self) -> None:
        """Close the store; the next run opens it again."""
        store, self._store = self._store, None
        if store is not None:
            store.close()


def open_store(root: Path, must_exist: bool = True) -> Store:
    """The store of a state directory for a person's command. OutputError when it cannot be used."""
    path = root / FILE
    if must_exist and not path.exists():
        raise OutputError(f"no run has been recorded in {root}", "name the state directory with --state")
    try:
        return Store.open(path)
    except StoreError as error:
        raise OutputError(error.message, error.hint) from error
