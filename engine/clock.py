"""The clock of one run: how long each station took, how far the run is, and whether it is time to stop."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from npc_edge.engine.types import OnProgress, Progress, Station, Watch

_SHARE: dict[Station, float] = {
    "read": 0.0,
    "select": 0.1,
    "assemble": 0.1,
    "align": 0.2,
    "locate": 0.3,
    "prepare": 0.35,
    "infer": 0.4,
    "findings": 0.7,
    "output": 0.8,
}
"""How far a run is, 0..1, when it enters a station."""


@dataclass
class Clock:
    """Times each station, reports progress, and asks the watch before each."""

    watch: Watch
    on_progress: OnProgress | None = None
    started: float = field(default_factory=time.monotonic)
    _spent: dict[str, float] = field(default_factory=dict)

    def enter(self, name: Station) -> None:
        """Ask the watch, then say where the run is."""
        self.watch.check()
        if self.on_progress is not None:
            self.on_progress(Progress(name, _SHARE[name]))

    @contextmanager
    def station(self, name: Station) -> Iterator[None]:
        self.enter(name)
        with self.more_of(name):
            yield

    @contextmanager
    def more_of(self, name: Station) -> Iterator[None]:
        """Time that counts for a station that was entered before."""
        begun = time.monotonic()
        try:
            yield
        finally:
            spent = (time.monotonic() - begun) * 1e3
            self._spent[name] = self._spent.get(name, 0.0) + spent

    def credit(self, name: Station, ms: float) -> None:
        """A station that was walked through before this run began, in the shadow of another."""
        self.enter(name)
        self._spent[name] = self._spent.get(name, 0.0) + ms

    def timings(self) -> dict[str, float]:
        """Milliseconds by station so far (0.0 where none was entered), and the total since the start."""
        total = (time.monotonic() - self.started) * 1e3
        return {**dict.fromkeys(_SHARE, 0.0), **self._spent, "total": total}
