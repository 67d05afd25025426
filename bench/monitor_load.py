"""Real runs of small phantoms into the monitor, what recording costs them, and reading 100,000 records back.

    python -m npc_edge.bench monitor-load --runs 1000

Phantoms of four vendors, healthy ones, tumours and one study without T2 take turns in one session. The
records read back are synthetic: those of the runs with other keys, times and scores. Reading happens in a
process of its own, so that its peak memory is the reading's.
"""

from __future__ import annotations

import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np

from npc_edge.bench.machine import describe
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.store import Store
from npc_edge.engine.machine import peak_rss_mb
from npc_edge.engine.recorder import FILE, Recorded
from npc_edge.engine.session import Session
from npc_edge.engine.types import Options

_FIRST_SEED = 800_000
_CHUNK = 5_000
Vendor = Literal["siemens", "ge", "philips", "uih"]
_VENDORS: tuple[Vendor, ...] = ("siemens", "ge", "philips", "uih")


def studies(count: int, size: tuple[int, int], scratch: Path) -> list[Path]:
    """Phantom studies, half of them healthy, and one more without its T2. size: matrix, slices."""
    made = []
    for number in range(count):
        spec = PhantomSpec(
            stage="T3" if number % 2 else "none",
            seed=_FIRST_SEED + number,
            vendor=_VENDORS[number % len(_VENDORS)],
            fat_sat=number % 4 > 1,
            matrix=size[0],
            slices=size[1],
        )
        made.append(write_phantom(spec, scratch / f"phantom-{number}") / "study")
    lame = scratch / "without-t2"
    shutil.copytree(made[0], lame)
    for folder in [f for f in lame.iterdir() if "T2" in f.name.upper()]:
        shutil.rmtree(folder)
    return [*made, lame]


def record_runs(
    paths: Sequence[Path], runs: int, minutes: float, scratch: Path, state: Path
) -> list[Recorded]:
    """So many runs, files and all, or as many as the minutes allow; what recording came to each time."""
    kept: list[Recorded] = []
    until = time.monotonic() + 60 * minutes
    with Session(None, Options(state=state, replace=True)) as session:
        for number in range(runs):
            if time.monotonic() > until:
                break
            result = session.run(paths[number % len(paths)], scratch / "out")
            assert result.recorded is not None, "recording was not turned off"
            kept.append(result.recorded)
            if (number + 1) % 50 == 0:
                print(f"{number + 1} of {runs} runs", file=sys.stderr, flush=True)
    return kept


def check(kept: Sequence[Recorded], state: Path) -> dict[str, Any]:
    """Every run is in the store, as it was, after what was there before. SystemExit when one is not."""
    with Store.open(state / FILE) as store:
        held = store.counts().runs
        found = list(store.records())[-len(kept) :]
        outcomes = Counter(record.finding or "refused" for record in found)
        stored = found == [item.record for item in kept]
    if not stored:
        raise SystemExit(f"{len(kept)} runs, {len(found)} records, and they are not the same")
    first, rest = kept[0], kept[1:] or kept
    return {
        "runs": len(kept),
        "runs_in_the_store": held,
        "outcomes": dict(outcomes),
        "first_ms": round(first.took_ms, 2),
        "took_ms": _spread([item.took_ms for item in rest]),
        "cpu_ms": _spread([item.cpu_ms for item in rest]),
        "bytes_a_run": round(sum(p.stat().st_size for p in state.glob(f"{FILE}*")) / held),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {f"p{p}": round(float(np.percentile(values, p)), 2) for p in (50, 90, 99)}


def fill(path: Path, like: Sequence[CaseRecord], rows: int) -> None:
    """A store of so many records, one every ten minutes, each like one of the given."""
    rng = np.random.default_rng(_FIRST_SEED)
    start = like[-1].at - rows * 600_000
    with Store.open(path) as store:
        for first in range(0, rows, _CHUNK):
            numbers = range(first, min(first + _CHUNK, rows))
            store.add_all(_varied(like, numbers, start, rng))


def _varied(
    like: Sequence[CaseRecord], numbers: range, start: int, rng: np.random.Generator
) -> Iterator[CaseRecord]:
    for number in numbers:
        model = like[number % len(like)]
        features = {k: float(f"{v * rng.normal(1, 0.05):.6g}") for k, v in model.features.items()}
        timings = {k: round(v * rng.lognormal(0, 0.1), 1) for k, v in model.timings_ms.items()}
        yield replace(
            model,
            case_key=rng.bytes(16).hex(),
            accession_key=rng.bytes(16).hex(),
            at=start + number * 600_000,
            features=features,
            timings_ms=timings,
            score=None if model.score is None else model.score + float(rng.normal()),
        )


def read(path: Path) -> dict[str, Any]:
    """Open, read columns, read all records; seconds of each, and the process's peak memory after each."""
    names = ["at", "score", "probability", "volume_ml", "finding", "features.t1.median", "timings_ms.total"]
    names += ["acquired.T1.vendor", "acquired.T2FS.fat_suppression", "reasons", "artefact"]
    seconds, peak = {}, {"start": _peak_mb()}
    begun = time.perf_counter()
    with Store.open(path) as store:
        seconds["open"] = time.perf_counter() - begun
        begun = time.perf_counter()
        columns = store.columns(names)
        seconds["columns"], peak["columns"] = time.perf_counter() - begun, _peak_mb()
        begun = time.perf_counter()
        records = tuple(store.records())
        seconds["records"], peak["records"] = time.perf_counter() - begun, _peak_mb()
    rounded = {name: round(value, 2) for name, value in seconds.items()}
    megabytes = {name: round(value, 1) for name, value in peak.items()}
    assert len(records) == len(columns["at"])
    return {
        "records": len(records),
        "file_mb": round(path.stat().st_size / 1e6, 1),
        "seconds": rounded,
        "cpu_seconds": round(time.process_time(), 2),
        "peak_mb": megabytes,
    }


def _peak_mb() -> float:
    """Peak resident MB of this process alone: on Linux getrusage's carries its parent's over."""
    status = Path("/proc/self/status")
    if not status.exists():
        return peak_rss_mb()
    lines = status.read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--minutes", type=float, default=math.inf, help="stop earlier, after so many")
    parser.add_argument("--rows", type=int, default=100_000, help="synthetic records to read back")
    parser.add_argument("--phantoms", type=int, default=8, help="studies that take turns")
    parser.add_argument("--matrix", type=int, default=160)
    parser.add_argument("--slices", type=int, default=24)
    parser.add_argument(
        "--state", type=Path, default=None, help="default: a temporary one; an old one goes on"
    )
    parser.add_argument("--read", type=Path, default=None, help="only read this database, and print JSON")
    parser.add_argument(
        "--out", type=Path, default=None, help="default: bench/results/<date>-monitor-load.json"
    )


def main(given: Namespace) -> int:
    """Run, check, fill, read; print a table and write JSON."""
    if given.read is not None:
        print(json.dumps(read(given.read)))
        return 0
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as folder:
        scratch = Path(folder)
        state = given.state or scratch / "state"
        paths = studies(given.phantoms, (given.matrix, given.slices), scratch)
        kept = record_runs(paths, given.runs, given.minutes, scratch, state)
        report: dict[str, Any] = {"machine": describe(), "recording": check(kept, state)}
        fill(scratch / "many.sqlite", [item.record for item in kept if item.record is not None], given.rows)
        command = [sys.executable, "-m", "npc_edge.bench", "monitor-load", "--read"]
        printed = subprocess.run(
            [*command, str(scratch / "many.sqlite")], stdout=subprocess.PIPE, text=True, check=True
        ).stdout
        report["reading"] = json.loads(printed)
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-monitor-load.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps({name: report[name] for name in ("recording", "reading")}, indent=1))
    return 0
