"""Ways to do one thing, side by side: opened, judged, then timed in turns. A way whose answer is wrong has no
speed, and one that cannot run says why; neither stops the others.

Pure but for the clock: what a way does, and how it waits for its device, is its own affair.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from npc_edge.bench.timing import stats
from npc_edge.engine.errors import NpcEdgeError
from npc_edge.engine.model.runners.feed import first_line

Row = dict[str, Any]

FAULTS = (
    NpcEdgeError,
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    NotImplementedError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    subprocess.SubprocessError,
)
"""What a library may raise that is here in another version, or not at all, on a card it does not know."""

_LEAST = 3
_FOR_ROUNDS_S = 8.0


@dataclass(frozen=True, eq=False)
class Way:
    """One way, open. run: does it once and returns when it is done. outputs: of the last run, name → array.

    precision: a key of `acceptance.TOLERANCES`. held: the same outputs where they were made. stages: of the
    last run, milliseconds by name, where it can say.
    """

    run: Callable[[], object]
    outputs: Callable[[], dict[str, Any]]
    precision: str = "fp32"
    held: Callable[[], dict[str, Any]] = dict
    stages: Callable[[], dict[str, float]] = dict
    close: Callable[[], object] = lambda: None


@dataclass(frozen=True, eq=False)
class Attempt:
    """A way that may turn out not to exist here. peer: PyTorch's, which the others are compared with. slow:
    to open, so that it is opened when the others have been timed."""

    name: str
    open: Callable[[], Way]
    peer: bool = False
    slow: bool = False


@dataclass(frozen=True)
class Judged:
    """What was found of a way's outputs. wrong: why they are not to be used, "" when they are right."""

    facts: Row
    wrong: str = ""


@dataclass(frozen=True)
class Plan:
    """rounds: timed runs of each way, in turns. warmups: before them. until: on the monotonic clock, when to
    open no more ways; rounds then end after the third, or some seconds. flop: of one run, 0: nobody counted.
    """

    rounds: int = 30
    warmups: int = 3
    until: float = float("inf")
    flop: float = 0.0


@dataclass(eq=False)
class _Running:
    attempt: Attempt
    way: Way
    row: Row
    seconds: list[float] = field(default_factory=list)
    stages: list[dict[str, float]] = field(default_factory=list)


def measure(
    attempts: Sequence[Attempt],
    judge: Callable[[Way], Judged],
    plan: Plan,
    note: Callable[[str], None],
    tell: Callable[[list[Row]], None] = lambda rows: None,
) -> list[Row]:
    """A row for each attempt: `way`, `peer`, then `not_run`, or `wrong`, or `first_s` (opening and the first
    run: compiling and building are in it), `ms`, `tflop_s`, `times` (how many times as long the best peer
    takes, with its spread), and in all but the first what the judge found.

    tell: takes the rows as they come: opened, the quick ways timed, then all of them with the slow ones.
    """
    rows: list[Row] = []
    running: list[_Running] = []
    for slow in (False, True):
        asked = [attempt for attempt in attempts if attempt.slow == slow]
        for attempt in asked:
            note(attempt.name)
            row: Row = {"way": attempt.name, "peer": attempt.peer}
            rows.append(row)
            opened = _opened(attempt, row, judge, plan)
            running += [] if opened is None else [opened]
        if asked:
            tell(rows)
            note(f"{plan.rounds} rounds of {len(running)} ways")
            _rounds(running, plan)
            tell(rows)
    for one in running:
        one.way.close()
    return rows


def _rounds(running: list[_Running], plan: Plan) -> None:
    """Time all that run, in turns; one that fails is closed and taken out."""
    until = max(plan.until, time.monotonic() + _FOR_ROUNDS_S)
    for one in running:
        one.seconds, one.stages = [], []
    for number in range(plan.rounds):
        if number >= _LEAST and time.monotonic() > until:
            break
        for one in list(running)[:: 1 if number % 2 == 0 else -1]:
            if not _timed(one):
                running.remove(one)
                one.way.close()
    for one in running:
        _describe(one, plan)
    _compare(running)


def _opened(attempt: Attempt, row: Row, judge: Callable[[Way], Judged], plan: Plan) -> _Running | None:
    if time.monotonic() > plan.until:
        row["not_run"] = "the time for this step was over"
        return None
    begun = time.perf_counter()
    with ExitStack() as stack:
        try:
            way = attempt.open()
            stack.callback(way.close)
            way.run()
            row["first_s"] = round(time.perf_counter() - begun, 3)
            judged = judge(way)
            row |= {"precision": way.precision, **judged.facts}
            if judged.wrong:
                row["wrong"] = judged.wrong
                return None
            for _ in range(plan.warmups):
                way.run()
        except FAULTS as error:
            row["not_run"] = words(error)
            return None
        stack.pop_all()
    return _Running(attempt, way, row)


def _timed(one: _Running) -> bool:
    """One run under the clock; False when it failed, which the row then says."""
    try:
        begun = time.perf_counter()
        one.way.run()
        one.seconds.append(time.perf_counter() - begun)
        one.stages.append(one.way.stages())
    except FAULTS as error:
        for key in ("ms", "tflop_s", "stages_ms", "times"):
            one.row.pop(key, None)
        one.row["not_run"] = f"run {len(one.seconds) + 1} failed: {words(error)}"
        return False
    return True


def _describe(one: _Running, plan: Plan) -> None:
    if not one.seconds:
        one.row["not_run"] = "no round was asked for"
        return
    spent = [1e3 * value for value in one.seconds]
    one.row["ms"] = {**stats.percentiles(spent), "p10": round(float(np.percentile(spent, 10)), 4)}
    if plan.flop:
        one.row["tflop_s"] = round(plan.flop / 1e12 / (one.row["ms"]["p50"] / 1e3), 3)
    if one.stages and one.stages[0]:
        one.row["stages_ms"] = {name: row["p50"] for name, row in stats.by_stage(one.stages).items()}


def _compare(running: Sequence[_Running]) -> None:
    """Every way beside the fastest peer, runs of one round being pairs."""
    timed = [one for one in running if one.seconds]
    peers = [one for one in timed if one.attempt.peer]
    if not peers:
        return
    best = min(peers, key=lambda one: float(one.row["ms"]["p50"]))
    for one in timed:
        one.row["times"] = {"of": best.attempt.name, **stats.ratio(best.seconds, one.seconds)}


def words(error: Exception) -> str:
    """What an error says, on one line."""
    if isinstance(error, NpcEdgeError):
        return error.one_line()
    if isinstance(error, ModuleNotFoundError):
        return f"{error.name} is not installed"
    return first_line(error)
