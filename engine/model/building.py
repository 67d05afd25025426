"""Engines that this GPU still lacks, built in a thread while something else serves.

A built engine is kept, then must pass the golden cases here before any session may take it: what they and a
timing say is remembered like any other pair's, and the next session that opens chooses by it.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from threading import Event
from types import TracebackType
from typing import Self

from npc_edge.engine.errors import NpcEdgeError
from npc_edge.engine.model.acceptance import ArtefactResult, Trial
from npc_edge.engine.model.choice import key_of, row_of
from npc_edge.engine.model.runners.pairs import Pair
from npc_edge.engine.remembered import Remembered

OnBuild = Callable[[str, float], None]
"""Told what is being built and how far it is, 0..1."""

Build = Callable[[Trial, Pair, Callable[[float], bool]], None]
"""Builds a pair's engine and keeps it. Its progress answers False when it is to stop."""

_POLL_S = 0.2


@dataclass(frozen=True)
class Built:
    """What became of one engine. why: in words, of the golden cases or of the build."""

    network: str
    pair: Pair
    status: str
    why: str


class Builds:
    """Builds one engine after the other. A context manager; leaving it stops what is under way, and of an
    engine that is not whole nothing is left."""

    def __init__(self, remembered: Remembered, build: Build) -> None:
        self._remembered, self._build = remembered, build
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="npc-edge-build")
        self._pending: list[Future[Built]] = []
        self._stop = Event()
        self._doing: tuple[str, float] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, trial: Trial, pair: Pair) -> None:
        """Queue the engine of a pair."""
        self._pending.append(self._pool.submit(self._one, trial, pair))

    def finish(self, on_build: OnBuild) -> tuple[Built, ...]:
        """Wait for all of them, telling how far they are; what became of each."""
        while wait(self._pending, timeout=_POLL_S).not_done:
            if self._doing is not None:
                on_build(*self._doing)
        made = tuple(future.result() for future in self._pending)
        self._pending = []
        return made

    def _one(self, trial: Trial, pair: Pair) -> Built:
        name = trial.network.name

        def on_progress(fraction: float) -> bool:
            self._doing = f"{pair} engine of network {name}", fraction
            return not self._stop.is_set()

        on_progress(0.0)
        try:
            self._build(trial, pair, on_progress)
            result = trial.measure(pair)
        except NpcEdgeError as error:
            return Built(name, pair, "failed", error.one_line())
        finally:
            self._doing = None
        self._remember(trial, pair, result)
        return Built(name, pair, result.status, result.why)

    def _remember(self, trial: Trial, pair: Pair, result: ArtefactResult) -> None:
        if result.status != "skipped":
            self._remembered.add([row_of(key_of(trial, pair), result)])
