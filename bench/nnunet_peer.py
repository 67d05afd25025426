"""A network of nnU-Net's size, through our export and int8, beside nnU-Net's own predictor.

30 million parameters, anisotropic, 27 windows on 2 x (512 x 512 x 36), random weights. Each side is a new
process, from its start to its files, on the same two NIfTI images. Run it as

    python -m npc_edge.bench nnunet-peer --runs 3
"""

from __future__ import annotations

import json
import sys
import tempfile
from argparse import ArgumentParser, Namespace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from npc_edge.bench.machine import describe
from npc_edge.bench.timing import stats
from npc_edge.bench.timing.workers import last_line, timed

Row = dict[str, Any]
_POLL_S = 0.1


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--runs", type=int, default=1, help="of each side, in turns")
    parser.add_argument("--small", action="store_true", help="a tiny network, to try the command")
    parser.add_argument(
        "--out", type=Path, default=None, help="default: bench/results/<date>-nnunet-peer.json"
    )
    parser.add_argument("--step", choices=("make", "lower", "predict"), default=None, help="one step, here")
    parser.add_argument("--folder", type=Path, default=None, help="of the step's files")


def main(given: Namespace) -> int:
    """Make the bundle, run both sides in turns, print the ratio and write JSON."""
    if given.step is not None:
        from npc_edge.bench.peers.nnunet_steps import step

        print(json.dumps(step(given.step, given.folder or Path(), given.small)))
        return 0
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        report = measure(Path(scratch), given.small, given.runs)
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-nnunet-peer.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


def measure(folder: Path, small: bool, runs: int) -> Row:
    """Each side with its memory watched, the engine twice: its first run on a machine tries every pair, later
    ones remember. Then both in turns, timed."""
    report: Row = {"machine": describe(), "small": small}
    for name in ("make", "lower"):
        print(f"{name} …", file=sys.stderr, flush=True)
        report[name] = _step(name, folder, small)
    watched = {
        "engine_first": _engine(folder, "watched", watched=True),
        "engine": _engine(folder, "later", watched=True),
        "nnunet": _nnunet(folder, small, watched=True),
    }
    ours: list[Row] = []
    theirs: list[Row] = []
    for number in range(runs):
        print(f"run {number + 1} of {runs} …", file=sys.stderr, flush=True)
        ours.append(_engine(folder, f"engine-{number}", watched=False))
        theirs.append(_nnunet(folder, small, watched=False))
    report["engine"] = {**stats.percentiles([run["seconds"] for run in ours]), "runs_of": ours}
    report["nnunet"] = {**stats.percentiles([run["seconds"] for run in theirs]), "runs_of": theirs}
    report["times"] = stats.ratio([run["seconds"] for run in theirs], [run["seconds"] for run in ours])
    report["peak_mb"] = {name: run["peak_mb"] for name, run in watched.items()}
    report["same_tumour"] = _agreement(folder)
    return report


def _step(name: str, folder: Path, small: bool) -> Row:
    ran = timed(_command(name, folder, small), None)
    return {**_answer(ran), "seconds": ran["seconds"]}


def _nnunet(folder: Path, small: bool, watched: bool) -> Row:
    ran = timed(_command("predict", folder, small), _POLL_S if watched else None)
    return {**_answer(ran), **{key: ran[key] for key in ("seconds", "peak_mb") if key in ran}}


def _command(name: str, folder: Path, small: bool) -> list[str]:
    command = [sys.executable, "-m", "npc_edge.bench", "nnunet-peer", "--step", name, "--folder", str(folder)]
    return [*command, *(["--small"] if small else [])]


def _engine(folder: Path, out: str, watched: bool) -> Row:
    """`npc-edge run` on the same images, with the int8 bundle."""
    command = [sys.executable, "-m", "npc_edge.engine.cli.app", "run", "--json", "--allow-unsigned"]
    command += ["--bundle", str(folder / "bundle"), "--state", str(folder / "state")]
    command += ["--out", str(folder / out)]
    for name in ("t1", "t2"):
        command += ["--image", f"{name}={folder / f'{name}.nii.gz'}"]
    ran = timed(command, _POLL_S if watched else None)
    runtime = _answer(ran)["runtime"]
    kept = {key: runtime[key] for key in ("backend", "precision", "timings_ms")}
    return {**kept, **{key: ran[key] for key in ("seconds", "peak_mb") if key in ran}}


def _answer(ran: Row) -> Row:
    lines = ran["stdout"].splitlines()
    if ran["returncode"] != 0 or not lines:
        raise SystemExit(f"a process failed with {ran['returncode']}: {last_line(ran['stderr'])}")
    held: Row = json.loads(lines[-1])
    return held


def _agreement(folder: Path) -> float:
    from npc_edge.bench.peers.nnunet_steps import agree

    return round(agree(folder / "nnunet.nii.gz", folder / "watched" / "tumour.nii.gz"), 4)


def table(report: Row) -> str:
    """The report in a few lines."""
    machine, peaks, times = report["machine"], report["peak_mb"], report["times"]
    first = report["engine"]["runs_of"][0]
    lines = [
        f"{machine['processor']}, {machine['cores']} cores; "
        f"{report['make']['parameters'] / 1e6:.1f} M parameters, "
        f"{report['lower']['windows']} windows, {first['backend']} {first['precision']}",
        f"npc-edge {report['engine']['p50']:.1f} s, nnU-Net's predictor {report['nnunet']['p50']:.1f} s: "
        f"{times['median']:.1f} times ({times['low']:.1f} to {times['high']:.1f})",
    ]
    if None not in peaks.values():
        tried, later, theirs = peaks["engine_first"], peaks["engine"], peaks["nnunet"]
        lines += [
            f"peak memory {later:.0f} MB against {theirs:.0f} MB: {later / theirs:.2f} of it",
            f"the first run on a machine, which tries every pair: {tried:.0f} MB, {tried / theirs:.2f} of it",
        ]
    lines.append(f"the same tumour label at {100 * report['same_tumour']:.1f} % of voxels (random weights)")
    return "\n".join(lines)
