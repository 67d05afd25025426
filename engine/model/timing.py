"""How long a window takes on a machine that may have other things to do."""

from __future__ import annotations

import time
from dataclasses import dataclass

from npc_edge.engine.machine import waited_ms
from npc_edge.engine.model.runner import Arrays, Runner

_BUSY = 0.2
"""Of the processor time a window took: if it waited longer than that for a core, the clock says little."""


@dataclass(frozen=True, order=True)
class Timed:
    """What one window took: on the clock, and of the processors; and whether others kept them from it."""

    ms: float
    cpu_ms: float
    busy: bool


def timed_window(runner: Runner, inputs: Arrays) -> tuple[Arrays, Timed]:
    """Run one window and say what it took."""
    waited, used, begun = waited_ms(), time.process_time(), time.perf_counter()
    outputs = runner.infer(inputs)
    ms, cpu_ms = (time.perf_counter() - begun) * 1e3, (time.process_time() - used) * 1e3
    since = waited_ms()
    busy = waited is not None and since is not None and since - waited > _BUSY * cpu_ms
    return outputs, Timed(ms, cpu_ms, busy)
