"""One process of a bench: the engine, the peer or the reference loop, warm, asked one thing at a time.

    python -m npc_edge.bench.timing.worker ROLE SCRATCH [--once OUT]

A line of JSON comes in ({"op": "open"}, {"op": "run", "out": …}, {"op": "network", "way": …}), a line goes
out: what was measured, or the error. Processes of their own keep each side's threads and memory its own.
"""

from __future__ import annotations

import gc
import json
import os
import sys
import time
from pathlib import Path
from typing import Any, Protocol

from npc_edge.engine.errors import BackendError, NpcEdgeError, Refusal, UsageError
from npc_edge.engine.machine import GC_THRESHOLD, keep_memory

Answer = dict[str, Any]


class Role(Protocol):
    """What a worker can do. Times are seconds unless their names say otherwise."""

    def open(self) -> Answer:
        """Load everything; `seconds` it took, and what is true of it."""
        ...

    def run(self, out: Path) -> Answer:
        """One study to files: `seconds`, `timings_ms`."""
        ...

    def network(self, way: str) -> Answer:
        """One window through the network that decides: `seconds`."""
        ...


class LoopRole:
    """The reference loop."""

    def open(self) -> Answer:
        from npc_edge.bench.timing.loop import ReferenceLoop

        self._loop = ReferenceLoop()
        return {"rounds": self._loop.rounds}

    def run(self, out: Path) -> Answer:
        return {"seconds": self._loop.run()}

    def network(self, way: str) -> Answer:
        raise UsageError("the reference loop has no network")


class PeaksRole:
    """What the machine can do at most."""

    def open(self) -> Answer:
        from npc_edge.bench.timing.peaks import measure

        return {"peaks": measure()}

    def run(self, out: Path) -> Answer:
        raise UsageError("peaks are measured once")

    def network(self, way: str) -> Answer:
        raise UsageError("peaks are measured once")


def role(name: str, scratch: Path) -> Role:
    """The role of that name; BackendError when what the peer needs is not installed."""
    if name == "loop":
        return LoopRole()
    if name == "peaks":
        return PeaksRole()
    if name == "engine":
        from npc_edge.bench.timing.engine_role import EngineRole

        return EngineRole(scratch)
    try:
        from npc_edge.bench.peers.torch_role import TorchRole
    except ImportError as error:
        raise BackendError(
            f"the peer needs {error.name}, which is not installed", "pip install 'npc-edge[export,monai]'"
        ) from error
    return TorchRole(scratch)


def main(arguments: list[str]) -> int:
    """Serve until standard input ends; with --once, run one study and end."""
    name, scratch = arguments[0], Path(arguments[1])
    gc.set_threshold(*GC_THRESHOLD)  # as the command line does, and for the peer alike
    if name == "engine" and "--once" not in arguments:
        keep_memory()  # as the command line does for several studies
    # Libraries print: only answers go where the answers belong.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    if "--once" in arguments:
        requests = iter([{"op": "open"}, {"op": "run", "out": arguments[-1]}])
    else:
        requests = (json.loads(line) for line in sys.stdin)
    held: Role | None = None
    for request in requests:
        begun = time.perf_counter()
        try:
            held = role(name, scratch) if held is None else held
            answer = _answer(held, request)
        except NpcEdgeError as error:
            answer = _failure(error)
        answer.setdefault("seconds", time.perf_counter() - begun)
        print(json.dumps(answer), file=answers, flush=True)
        if "error" in answer:
            return 1
    return 0


def _answer(held: Role, request: Answer) -> Answer:
    if request["op"] == "open":
        return held.open()
    if request["op"] == "run":
        return held.run(Path(request["out"]))
    return held.network(request["way"])


def _failure(error: NpcEdgeError) -> Answer:
    found: Answer = {"error": error.message, "hint": error.hint, "exit_code": error.exit_code}
    return {**found, "reason": error.code} if isinstance(error, Refusal) else found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
