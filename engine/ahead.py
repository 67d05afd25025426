"""Reading the next study while this one is computed: one study ahead, in one thread, with the same reader."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from threading import Event
from types import TracebackType
from typing import Generic, Self, TypeVar

from npc_edge.engine.types import Watch

_POLL_S = 0.1

Source = TypeVar("Source")
Read = TypeVar("Read")


class ReadAhead(Generic[Source, Read]):
    """At most one study is being read, or lies read. A context manager; leaving it ends what is under way.

    read: reads one study under a watch. It runs in another thread, so whoever uses what it uses must `take`
    first: that waits for the thread.
    """

    def __init__(self, read: Callable[[Source, Watch], Read]) -> None:
        self._read = read
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="npc-edge-ahead")
        self._pending: tuple[Source, Future[Read]] | None = None
        self._stop = Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.drop()
        self._pool.shutdown()

    def start(self, source: Source) -> None:
        """Begin to read a study. What was read before and never taken is forgotten."""
        self.drop()
        self._stop = Event()
        self._pending = source, self._pool.submit(self._read, source, Watch(cancel=self._stop))

    def take(self, source: Source, watch: Watch) -> Read | None:
        """What was read of this study, waiting for it under the watch; None when another, or none, was begun.
        What reading raised is raised here, where the study is asked for."""
        if self._pending is None or self._pending[0] != source:
            self.drop()
            return None
        future = self._pending[1]
        try:
            while not wait([future], timeout=_POLL_S).done:
                watch.check()
            return future.result()
        finally:
            self.drop()

    def drop(self) -> None:
        """Stop reading ahead and forget what was read; returns when the thread is idle."""
        if self._pending is None:
            return
        self._stop.set()
        wait([self._pending[1]])
        self._pending = None
