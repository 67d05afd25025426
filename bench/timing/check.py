"""Is this slower than a baseline, beyond what the machine itself varies by? Pure, on two reports.

Times are compared in rounds of the reference loop that ran between them: a machine that is busier or slower
clocked than it was takes longer for both. The loop's own spread, in either report, is the noise; what is
within it is no regression. Another machine or another study is refused: a loop is not the same measure on
two processors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from npc_edge.bench.timing.measure import SCHEMA
from npc_edge.engine.errors import UsageError

Report = Mapping[str, Any]

_LEAST = {"warm": 0.05, "cold": 0.10, "memory": 0.10}
"""A slower share below this is never called one: medians of few runs differ by as much."""

_MACHINE = ("processor", "cores", "instruction_set")
_STUDY = ("shape", "voxels", "files", "bytes")


@dataclass(frozen=True)
class Compared:
    """One number beside the baseline's. times: over the baseline's, in rounds of the loop (memory: plain).
    limit: what it may be at most."""

    what: str
    times: float
    limit: float

    @property
    def regressed(self) -> bool:
        """Slower, or larger, than the noise allows."""
        return self.times > self.limit

    def line(self) -> str:
        """In words."""
        verdict = "REGRESSED" if self.regressed else "ok"
        return f"{self.what}: {self.times:.3f} x the baseline, limit {self.limit:.3f}: {verdict}"


def check(report: Report, baseline: Report) -> tuple[Compared, ...]:
    """Every comparison, regressed or not. UsageError when the two cannot be compared."""
    _comparable(report, baseline)
    noise = max(float(held["reference_loop"]["noise"]) for held in (report, baseline))
    found = []
    for kind, what, seconds in _TIMES:
        now, then = (seconds(held) / float(held["reference_loop"]["p50"]) for held in (report, baseline))
        found.append(Compared(what, now / then, 1 + max(_LEAST[kind], noise)))
    peaks = [held["engine"]["memory"]["peak_mb"] for held in (report, baseline)]
    if None not in peaks:
        found.append(Compared("peak memory", peaks[0] / peaks[1], 1 + _LEAST["memory"]))
    return tuple(found)


def _warm(held: Report) -> float:
    return float(held["engine"]["warm"]["seconds"]["p50"])


def _network(held: Report) -> float:
    return float(held["engine"]["warm"]["stages_ms"]["infer"]["p50"]) / 1e3


_TIMES: tuple[tuple[str, str, Callable[[Report], float]], ...] = (
    ("warm", "warm, all", _warm),
    ("warm", "warm, network", _network),
    ("warm", "warm, all but the network", lambda held: _warm(held) - _network(held)),
    ("cold", "cold", lambda held: float(held["engine"]["cold"]["seconds"]["p50"])),
)


def _comparable(report: Report, baseline: Report) -> None:
    hint = "measure a baseline here, with the same study: npc-edge bench --out BASELINE.json"
    if baseline.get("schema") != SCHEMA or "reference_loop" not in baseline:
        raise UsageError("the baseline is no report of this version's npc-edge bench", hint)
    for part, keys in (("machine", _MACHINE), ("study", _STUDY)):
        for key in keys:
            now, then = report[part].get(key), baseline[part].get(key)
            if now != then:
                raise UsageError(f"the baseline's {part} is another: {key} was {then}, is {now}", hint)
