"""From process start to files: seconds and peak memory of `npc-edge run` on a synthetic 2×(512×512×36) study.

Cold is a new process for every run, as a person starts it; warm is one session kept open. Run it as

    python -m npc_edge.bench latency --runs 5
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.machine import describe
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.engine.session import Session
from npc_edge.engine.types import Options

_POLL_S = 0.02
Row = dict[str, Any]


def cold(study: Path, scratch: Path, number: int) -> Row:
    """One run in a new process: seconds, the stations' milliseconds and peak memory of all its processes."""
    command = [sys.executable, "-m", "npc_edge.engine.cli.app", "run", str(study)]
    command += ["--out", str(scratch / f"cold-{number}"), "--state", str(scratch / "state"), "--json"]
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        memory = MemoryWatch(process.pid)
        printed, complaint = process.communicate()
        seconds = time.perf_counter() - begun
        peak = memory.stop()
    if process.returncode != 0:
        raise SystemExit(f"the run failed with {process.returncode}: {complaint.strip()}")
    return {"seconds": seconds, "peak_mb": peak, "timings_ms": json.loads(printed)["runtime"]["timings_ms"]}


def warm(study: Path, scratch: Path, runs: int) -> list[Row]:
    """Runs in one session, after one that is not counted."""
    rows = []
    with Session(None, Options(state=scratch / "state")) as session:
        for number in range(runs + 1):
            begun = time.perf_counter()
            result = session.run(study, scratch / f"warm-{number}")
            timings = dict(result.document.runtime.timings_ms)
            rows.append({"seconds": time.perf_counter() - begun, "timings_ms": timings})
    return rows[1:]


class MemoryWatch:
    """Samples the memory of a process and its descendants: proportional set size, so shared pages count once.

    Linux only (/proc); elsewhere it measures nothing and `stop` returns None.
    """

    def __init__(self, pid: int) -> None:
        self._pid, self._peak, self._done = pid, 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """The peak in MB."""
        self._done.set()
        self._thread.join()
        return round(self._peak, 1) if self._peak > 0 else None

    def _watch(self) -> None:
        while not self._done.wait(_POLL_S):
            self._peak = max(self._peak, sum(_pss_mb(pid) for pid in _family(self._pid)))


def _family(pid: int) -> list[int]:
    """A process and all its descendants that still run."""
    family, unseen = [], [pid]
    while unseen:
        member = unseen.pop()
        family.append(member)
        for tasks in Path(f"/proc/{member}/task").glob("*/children"):
            unseen += [int(child) for child in _read(tasks).split()]
    return family


def _pss_mb(pid: int) -> float:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _read(path: Path) -> str:
    """A file of /proc, empty when the process has just ended."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def spread(rows: Sequence[Row]) -> dict[str, Any]:
    """Percentiles of the seconds, the median of each station, and the highest peak."""
    seconds = [row["seconds"] for row in rows]
    stations = rows[0]["timings_ms"]
    peaks = [row["peak_mb"] for row in rows if row.get("peak_mb") is not None]
    return {
        "runs": len(rows),
        **{f"p{p}": round(float(np.percentile(seconds, p)), 3) for p in (50, 90, 99)},
        "median_ms": {
            s: round(float(np.median([row["timings_ms"][s] for row in rows])), 1) for s in stations
        },
        "peak_mb": max(peaks) if peaks else None,
    }


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--study", type=Path, default=None, help="default: a phantom, written first")
    parser.add_argument("--matrix", type=int, default=512)
    parser.add_argument("--slices", type=int, default=36)
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-latency.json")


def main(given: Namespace) -> int:
    """Measure, print a table and write JSON."""
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as folder:
        scratch = Path(folder)
        study = given.study
        if study is None:
            spec = PhantomSpec("T3", seed=700_001, fat_sat=False, matrix=given.matrix, slices=given.slices)
            study = write_phantom(spec, scratch / "phantom") / "study"
        measured = {
            "cold": spread([cold(study, scratch, number) for number in range(given.runs)]),
            "warm": spread(warm(study, scratch, given.runs)),
        }
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    shape = None if given.study else [given.slices, given.matrix, given.matrix]
    report = {"machine": describe(), "load_at_end": load, "slices_rows_columns": shape, **measured}
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-latency.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    machine = report["machine"]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores, {machine['memory_gb']} GB; "
        f"load {report['load_at_end']}",
        "",
        "| | p50 s | p90 s | p99 s | peak MB | " + " | ".join(report["cold"]["median_ms"]) + " |",
        "|" + " --- |" * (5 + len(report["cold"]["median_ms"])),
    ]
    for kind in ("cold", "warm"):
        row = report[kind]
        stations = " | ".join(f"{value:.0f}" for value in row["median_ms"].values())
        lines.append(
            f"| {kind} | {row['p50']} | {row['p90']} | {row['p99']} | {row['peak_mb'] or ''} | {stations} |"
        )
    return "\n".join(lines)
