"""Engine regression on phantoms, not diagnostic performance.

Writes synthetic studies the recipe never saw (all vendors, oblique and fat-suppressed among them, stages
evenly), runs the engine on each in warm sessions, and compares with the truth the phantoms were built from.
Resumable: every finished case is a line of JSON beside the result. Run it as

    python -m npc_edge.bench regression --tumour 250 --healthy 250 --jobs 2
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.machine import describe
from npc_edge.bench.phantom.protocol import PhantomSpec, Stage
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.bench.phantom.vendors import Vendor
from npc_edge.bench.regression_table import table
from npc_edge.bench.scoring import read_records, summarise
from npc_edge.bench.truth import compare
from npc_edge.bench.wall import Ruler
from npc_edge.engine.session import Session
from npc_edge.engine.types import Options

SEED = 500_000
"""The regression's seeds begin here; the recipe's training and calibration seeds lie far below."""
HEALTHY_FROM = 250_000
"""Phantoms without a tumour take their seeds this much further on: no anatomy is used twice."""
VENDORS: tuple[Vendor, ...] = ("siemens", "ge", "philips", "uih")
STAGES: tuple[Stage, ...] = ("T1", "T2", "T3", "T4")


@dataclass(frozen=True)
class Case:
    """One phantom of the regression."""

    name: str
    spec: PhantomSpec


@dataclass(frozen=True)
class Setting:
    """What every worker process needs to know.

    phantoms: where studies are kept and found again; None: written to a temporary folder, then deleted.
    records: the JSON lines file, one line a finished case. total: cases in the whole plan.
    """

    bundle: Path | None
    phantoms: Path | None
    records: Path
    total: int
    allow_unsigned: bool = False


def plan(tumour: int, healthy: int, seed: int = SEED, matrix: int = 256, slices: int = 28) -> list[Case]:
    """The cases, stages evenly and vendors in turn; a smaller plan is a part of a larger one."""
    return [_case(i, seed, STAGES[i % 4], matrix, slices) for i in range(tumour)] + [
        _case(i, seed + HEALTHY_FROM, "none", matrix, slices) for i in range(healthy)
    ]


def _case(index: int, seed: int, stage: Stage, matrix: int, slices: int) -> Case:
    draw = np.random.default_rng([seed, index]).random(5)
    spec = PhantomSpec(
        stage=stage,
        seed=seed + index,
        vendor=VENDORS[(index if stage == "none" else index // 4) % 4],
        oblique=bool(draw[0] < 0.3),
        fat_sat=bool(draw[1] < 0.3),
        enhanced=bool(draw[2] < 0.15),
        reversed=bool(draw[3] < 0.2),
        with_contrast=bool(draw[4] < 0.2),
        matrix=matrix,
        slices=slices,
    )
    return Case(f"{stage}-{spec.seed}", spec)


# --- running ----------------------------------------------------------------------------------------------


def write_case(case: Case, parent: Path) -> Path:
    """Write the phantom of `case` to parent/name (study and truth), or keep one that is there."""
    folder = parent / case.name
    if folder.exists():
        return folder
    return write_phantom(case.spec, folder)


def run_share(cases: Sequence[Case], setting: Setting) -> None:
    """Run `cases` in one warm session, adding a line to the records after each."""
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        options = Options(state=Path(scratch) / "state", threads=1, allow_unsigned=setting.allow_unsigned)
        with Session(setting.bundle, options) as session, Ruler() as ruler:
            for case in cases:
                folder = write_case(case, setting.phantoms or Path(scratch))
                record = {"case": asdict(case), **_measure(folder, session, ruler)}
                if setting.phantoms is None:
                    shutil.rmtree(folder)
                with setting.records.open("a", encoding="utf-8") as lines:
                    lines.write(json.dumps(record) + "\n")
                _say(record, setting)


def _measure(folder: Path, session: Session, ruler: Ruler) -> dict[str, Any]:
    """Engine and baseline on one phantom."""
    begun = time.perf_counter()
    result = session.run(folder / "study")
    seconds = time.perf_counter() - begun
    return {"seconds": seconds, "wall_mm": ruler.measure(folder), **compare(result, folder / "truth")}


def write_share(cases: Sequence[Case], setting: Setting) -> None:
    """Write the phantoms of `cases` for a later run, and nothing else."""
    assert setting.phantoms is not None, "the command line asks for --phantoms"
    for case in cases:
        write_case(case, setting.phantoms)
        print(f"{case.name} written", file=sys.stderr, flush=True)


def _say(record: dict[str, Any], setting: Setting) -> None:
    with setting.records.open(encoding="utf-8") as lines:
        done = sum(1 for _ in lines)
    found = "-" if record["probability"] is None else f"{record['probability']:.2f}"
    got = record["reason"] or record["predicted"]["ajcc8"] or record["finding"]
    print(
        f"{done}/{setting.total} {record['case']['name']}: {got}, probability {found}, "
        f"Dice {record['dice']:.2f}, {record['seconds']:.1f} s",
        file=sys.stderr,
        flush=True,
    )


def spread(
    work: Callable[[Sequence[Case], Setting], None], cases: Sequence[Case], jobs: int, setting: Setting
) -> None:
    """Deal the cases out to `jobs` processes and wait; what goes wrong in one is raised at the end."""
    if not cases:
        return
    if jobs == 1:
        work(cases, setting)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        for share in [pool.submit(work, cases[k::jobs], setting) for k in range(min(jobs, len(cases)))]:
            share.result()


# --- the command ------------------------------------------------------------------------------------------


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--tumour", type=int, default=250, help="phantoms with a tumour, T1-T4 evenly")
    parser.add_argument("--healthy", type=int, default=250, help="phantoms without")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--matrix", type=int, default=256)
    parser.add_argument("--slices", type=int, default=28)
    parser.add_argument("--jobs", type=int, default=2, help="processes, one thread each")
    parser.add_argument("--bundle", type=Path, default=None, help="default: the embedded demo bundle")
    parser.add_argument("--allow-unsigned", action="store_true", help="run a bundle nobody signed")
    parser.add_argument("--phantoms", type=Path, default=None, help="keep the studies here, use those there")
    parser.add_argument("--write-only", action="store_true", help="only write the studies to --phantoms")
    parser.add_argument(
        "--out", type=Path, default=None, help="default: bench/results/<date>-regression.json"
    )


def main(given: Namespace) -> int:
    """Run (or go on with) the regression, print its table and write it as JSON."""
    cases = plan(given.tumour, given.healthy, given.seed, given.matrix, given.slices)
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-regression.json"
    records = out.with_suffix(".jsonl")
    setting = Setting(given.bundle, given.phantoms, records, len(cases), given.allow_unsigned)
    if given.phantoms is not None:
        given.phantoms.mkdir(parents=True, exist_ok=True)
    if given.write_only:
        if given.phantoms is None:
            print("--write-only needs --phantoms DIR", file=sys.stderr)
            return 2
        spread(write_share, cases, given.jobs, setting)
        return 0
    out.parent.mkdir(parents=True, exist_ok=True)
    records.touch()
    names = {case.name for case in cases}
    done = {record["case"]["name"] for record in read_records(records)}
    spread(run_share, [case for case in cases if case.name not in done], given.jobs, setting)
    rows = [record for record in read_records(records) if record["case"]["name"] in names]
    summary = {"machine": describe(), "plan": plan_of(given), **summarise(rows)}
    out.write_text(json.dumps({**summary, "cases": rows}, indent=1) + "\n", encoding="utf-8")
    records.unlink()
    print(table(summary))
    return 0


def plan_of(given: Namespace) -> dict[str, Any]:
    """What decides the numbers, for the record; no paths."""
    return {name: getattr(given, name) for name in ("tumour", "healthy", "seed", "matrix", "slices")}
