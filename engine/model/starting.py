"""Runners that start while something else is done: a runtime's import and compilation beside reading."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from npc_edge.engine.model.runner import Arrays, DeviceArrays, Runner, infer_on_device
from npc_edge.engine.types import RunnerInfo


class Starting:
    """Enters runners one after the other in a thread of its own. A context manager that outlives them:
    leaving it waits for what has begun, and leaves every runner. here: in the caller's thread, at once; for
    runners that share a GPU context which belongs to it."""

    def __init__(self, here: bool = False) -> None:
        self._here = here
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="npc-edge-start")
        self._open = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)
        self.release()

    def release(self) -> None:
        """Leave every runner that has been opened: what it holds is given back. It can still be described."""
        self._open.close()

    def start(self, opened: Callable[[], Runner]) -> Runner:
        """A runner that is entered in the background; whoever asks it first waits for it.

        What goes wrong is raised to whoever asks: the pair was entered and tried on this machine before, so
        that is a fault of the moment (memory, a file that vanished)."""
        if self._here:
            return self._open.enter_context(opened())
        return _Pending(self._pool.submit(lambda: self._open.enter_context(opened())))


class _Pending:
    """The runner a future will hold."""

    def __init__(self, runner: Future[Runner]) -> None:
        self._runner = runner

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def infer(self, inputs: Arrays) -> Arrays:
        return self._runner.result().infer(inputs)

    def infer_on_device(self, inputs: DeviceArrays) -> DeviceArrays:
        return infer_on_device(self._runner.result(), inputs)

    def describe(self) -> RunnerInfo:
        return self._runner.result().describe()

    @property
    def at_once(self) -> int:
        return self._runner.result().at_once
