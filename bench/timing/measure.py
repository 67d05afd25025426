"""An order becomes a report: one value of plain JSON, everything measured in it and nothing else.

Runs are taken in turns, engine, peer, reference loop, engine, …, so that what the machine does meanwhile
meets them alike. Cold runs are new processes, memory is watched in runs that are not timed.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from npc_edge.bench.machine import clocks, describe, load_average
from npc_edge.bench.timing import stats
from npc_edge.bench.timing.order import Order, save
from npc_edge.bench.timing.work import BYTES, PEAK_OF
from npc_edge.bench.timing.workers import Answer, Worker, cold_engine, cold_peer

Report = dict[str, Any]
Say = Callable[[str], None]

SCHEMA = 1
_NETWORK_ROUNDS = (3, 20)
"""Of the network alone: as many as warm runs, within these."""


class _Bench:
    """The processes of one bench and what they answered."""

    def __init__(self, order: Order, scratch: Path, say: Say, stack: ExitStack) -> None:
        self.order, self.scratch, self._say = order, scratch, say
        save(order, scratch)
        self._outs = 0
        self.peaks: dict[str, float | None] = self._peaks()
        self.engine = stack.enter_context(Worker("engine", scratch))
        self.opened = self.engine.ask("open")
        self.loop = stack.enter_context(Worker("loop", scratch))
        self.loop.ask("open")
        self.peer: Worker | None = None
        if order.against is not None:
            self.peer = stack.enter_context(Worker(order.against, scratch))
            say("PyTorch tries its ways to run the network")
            self.peer_opened = self.peer.ask("open")
        self.rounds: list[float] = []

    def _peaks(self) -> dict[str, float | None]:
        self._say("what this machine can do at most")
        with Worker("peaks", self.scratch) as worker:
            held: dict[str, float | None] = worker.ask("open")["peaks"]
            return held

    def beat(self) -> None:
        """One run of the reference loop."""
        self.rounds.append(float(self.loop.ask("run", out="")["seconds"]))

    def out(self) -> Path:
        """A new output folder; the one before it is gone, but for the first of each side."""
        self._outs += 1
        return self.scratch / "out" / str(self._outs)

    def run(self, worker: Worker) -> Answer:
        out = self.out()
        answer = worker.ask("run", out=str(out))
        shutil.rmtree(out, ignore_errors=True)
        return answer

    def turns(
        self, count: int, one: Callable[[], Answer], other: Callable[[], Answer] | None, what: str
    ) -> Any:
        """count runs of each, in turns, who begins changing; a beat of the loop after each turn."""
        ours: list[Answer] = []
        theirs: list[Answer] = []
        for number in range(count):
            self._say(f"{what}, {number + 1} of {count}")
            if other is not None and number % 2:
                theirs.append(other())
            ours.append(one())
            if other is not None and not number % 2:
                theirs.append(other())
            self.beat()
        return ours, theirs


def measure(order: Order, scratch: Path, say: Say = lambda line: None) -> Report:
    """Measure everything an order asks for. scratch: an empty folder, for this bench alone.

    say: is told what is done next. Raises the errors of what it runs: BackendError (a backend, the peer),
    BundleError, Refusal, UsageError.
    """
    before = load_average()
    if order.against is not None:
        _give(order, scratch)
    with ExitStack() as stack:
        bench = _Bench(order, scratch, say, stack)
        first = _first(bench)
        network = _network(bench, f"{first['engine']['backend']} {first['engine']['precision']}")
        peer = bench.peer
        warm, warm_peer = bench.turns(
            order.runs,
            lambda: bench.run(bench.engine),
            None if peer is None else lambda: bench.run(peer),
            "warm runs",
        )
        cold, cold_of_peer = _cold(bench)
        report: Report = {
            "schema": SCHEMA,
            "measured": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "machine": {**describe(), "clocks": clocks()},
            "load": {"before": before, "after": load_average()},
            "study": _study(order, first["engine"]),
            "bundle": {"name": bench.opened["bundle"], "sha256": bench.opened["bundle_sha256"]},
            "engine": _side(first["engine"], bench.opened["seconds"], warm, cold),
            "reference_loop": {
                **stats.percentiles(bench.rounds, 6),
                "noise": round(stats.noise(bench.rounds), 4),
                "samples": [round(value, 6) for value in bench.rounds],
            },
            "peaks": bench.peaks,
            "network": network,
        }
        report["engine"] |= {
            key: first["engine"][key] for key in ("backend", "device", "precision", "threads", "fallback")
        }
        report["achieved"] = _achieved(report, bench.opened, first["engine"]["windows"])
        if peer is not None:
            report["peer"] = {
                **_side(first["peer"], bench.peer_opened["seconds"], warm_peer, cold_of_peer),
                **{key: bench.peer_opened[key] for key in ("chosen", "device", "versions", "left_out")},
            }
            report["ratios"] = _ratios(warm, warm_peer, cold, cold_of_peer)
            report["agreement"] = first["agreement"]
    return report


def _give(order: Order, scratch: Path) -> None:
    """What the peer is given for nothing."""
    from npc_edge.bench.peers import given
    from npc_edge.engine.model import bundle as bundles
    from npc_edge.engine.state import State

    state = State.open(scratch / "state")
    manifest = bundles.load(order.bundle, state.keys(), order.allow_unsigned).manifest
    (scratch / "given").mkdir()
    given.save(given.gather(order.study, manifest, scratch / "given"), scratch)


def _first(bench: _Bench) -> Report:
    """The first run of each side, whose files are compared."""
    found: Report = {}
    outs = {}
    for name, worker in (("engine", bench.engine), ("peer", bench.peer)):
        if worker is not None:
            outs[name] = bench.out()
            found[name] = worker.ask("run", out=str(outs[name]))
    if "peer" in outs:
        found["agreement"] = agreement(outs["engine"], outs["peer"])
    return found


def agreement(ours: Path, theirs: Path) -> dict[str, Any]:
    """Dice of two runs' tumours, share of equal structure labels, and whether they wrote the same files.

    tumour_dice is None where neither found a tumour.
    """
    masks = {}
    for name in ("tumour", "structures"):
        masks[name] = [_mask(out / f"{name}.nii.gz") for out in (ours, theirs)]
    one, other = (mask > 0 for mask in masks["tumour"])
    total = int(one.sum() + other.sum())
    first, second = masks["structures"]
    return {
        "tumour_dice": round(2 * int((one & other).sum()) / total, 4) if total else None,
        "structures_equal": round(float((first == second).mean()), 4),
        "same_files": sorted(p.name for p in ours.iterdir()) == sorted(p.name for p in theirs.iterdir()),
    }


def _mask(path: Path) -> Any:
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(sitk.ReadImage(str(path)))


def _network(bench: _Bench, runs_as: str) -> Report:
    """The deciding network alone, one window of the bundle's golden case, every way that is allowed here."""
    sides: list[tuple[Worker, str]] = [(bench.engine, way) for way in bench.opened["pairs"]]
    if bench.peer is not None:
        sides += [(bench.peer, way) for way in bench.peer_opened["ways"]]
    times: dict[str, list[float]] = {way: [] for _, way in sides}
    least, most = _NETWORK_ROUNDS
    rounds = min(most, max(least, bench.order.runs)) if sides else 0
    for number in range(rounds):
        bench._say(f"the network alone, {number + 1} of {rounds}")
        for worker, way in sides[:: 1 if number % 2 == 0 else -1]:
            times[way].append(float(worker.ask("network", way=way)["seconds"]))
        bench.beat()
    ways = {}
    for way, values in times.items():
        ways[way] = stats.percentiles(values, 5)
        if bench.opened["flop_a_window"]:
            ways[way]["gflop_s"] = round(bench.opened["flop_a_window"] / ways[way]["p50"] / 1e9, 1)
    held = {"name": bench.opened["network"], "ways": ways, "left_out": bench.opened["left_out"]}
    return {**held, **_against_best(bench, times, runs_as)}


def _against_best(bench: _Bench, times: dict[str, list[float]], runs_as: str) -> Report:
    """How many times as long PyTorch's best way of each precision takes as the way the engine runs in."""
    if bench.peer is None or not bench.opened["pairs"]:
        return {}
    quickest = min(bench.opened["pairs"], key=lambda way: float(np.median(times[way])))
    ours = runs_as if runs_as in times else quickest
    found: Report = {"engine": ours, "ratios": {}}
    precisions = bench.peer_opened["precisions"]
    for kind, members in (("fp32", ("fp32",)), ("lower", ("tf32", "bf16", "fp16", "autocast"))):
        ways = [way for way, precision in precisions.items() if precision in members]
        if ways:
            best = min(ways, key=lambda way: float(np.median(times[way])))
            found["ratios"][kind] = {"way": best, **stats.ratio(times[best], times[ours])}
    return found


def _cold(bench: _Bench) -> tuple[list[Answer], list[Answer]]:
    """Cold runs in turns, and one more of each whose memory is watched."""
    order, scratch = bench.order, bench.scratch

    def ours(watched: bool = False) -> Answer:
        return cold_engine(order, scratch, bench.out(), watched)

    def theirs(watched: bool = False) -> Answer:
        return cold_peer(scratch, bench.out(), watched)

    peer = None if bench.peer is None else theirs
    timed, timed_peer = bench.turns(order.cold_runs, ours, peer, "cold runs")
    bench._say("memory")
    timed.append(ours(watched=True))
    if peer is not None:
        timed_peer.append(theirs(watched=True))
    return timed, timed_peer


def _side(first: Answer, open_s: float, warm: Sequence[Answer], cold: Sequence[Answer]) -> Report:
    """One side's times. The last of the cold runs is the one that was watched."""
    seconds = [float(run["seconds"]) for run in warm]
    *timed, watched = cold
    mean = sum(seconds) / len(seconds)
    return {
        "first_run": {"open_s": round(open_s, 3), "run_s": round(float(first["seconds"]), 3)},
        "warm": {
            "seconds": stats.percentiles(seconds),
            "p99_over_p50": round(float(np.percentile(seconds, 99) / np.median(seconds)), 3),
            "stages_ms": stats.by_stage([run["timings_ms"] for run in warm]),
            "samples": [round(value, 4) for value in seconds],
            "median_run": _median_run(warm),
            "studies_an_hour": round(3600 / mean, 1),
        },
        "cold": {
            "seconds": stats.percentiles([float(run["seconds"]) for run in timed]),
            "stages_ms": stats.by_stage([run["timings_ms"] for run in timed]),
            "samples": [round(float(run["seconds"]), 4) for run in timed],
            "median_run": _median_run(timed),
        },
        "memory": {"peak_mb": watched["peak_mb"], "device_mb": watched["device_mb"]},
    }


def _median_run(runs: Sequence[Answer]) -> Report:
    """The run in the middle, as it was: its stages add up, which the stages' own medians do not."""
    run = sorted(runs, key=lambda answer: float(answer["seconds"]))[len(runs) // 2]
    return {"seconds": round(float(run["seconds"]), 4), "stages_ms": dict(run["timings_ms"])}


def _ratios(
    warm: Sequence[Answer], warm_peer: Sequence[Answer], cold: Sequence[Answer], cold_peer_: Sequence[Answer]
) -> Report:
    """Peer over engine: the network's stage, everything but it, and all; pairs are runs of one turn."""

    def part(run: Answer, network: bool) -> float:
        infer = run["timings_ms"]["infer"] / 1e3
        return float(infer if network else run["seconds"] - infer)

    return {
        "network": stats.ratio([part(r, True) for r in warm_peer], [part(r, True) for r in warm]),
        "non_network": stats.ratio([part(r, False) for r in warm_peer], [part(r, False) for r in warm]),
        "total": stats.ratio([r["seconds"] for r in warm_peer], [r["seconds"] for r in warm]),
        "cold": stats.ratio([r["seconds"] for r in cold_peer_[:-1]], [r["seconds"] for r in cold[:-1]]),
    }


def _achieved(report: Report, opened: Answer, count: int) -> Report:
    """What the warm runs made of the machine. Percentages are of the peaks measured in the same run."""
    stages = report["engine"]["warm"]["stages_ms"]
    median_s = report["engine"]["warm"]["seconds"]["p50"]
    infer_s = stages["infer"]["p50"] / 1e3
    found: Report = {
        "windows": count,
        "ms_a_window": round(1e3 * infer_s / count, 2),
        "mvoxel_s": round(report["study"]["voxels"] / median_s / 1e6, 2),
        "peak_used": PEAK_OF.get(report["engine"]["precision"], report["engine"]["precision"]),
    }
    if opened["flop_a_window"] and infer_s > 0:
        rate = count * opened["flop_a_window"] / infer_s / 1e9
        size = BYTES.get(report["engine"]["precision"], 4)
        moved = count * opened["values_a_window"] * size / infer_s / 1e9
        peaks = report["peaks"]
        found["gflop_s"] = round(rate, 1)
        found["gflop_percent"] = _percent(rate, peaks.get(found["peak_used"]))
        found["network_gb_s"] = round(moved, 2)
        found["network_gb_percent"] = _percent(moved, peaks["copy"])
    # Reading and assembling: each file once in, each voxel once out, in float32.
    reading_s = (stages["read"]["p50"] + stages["assemble"]["p50"]) / 1e3
    if report["study"]["bytes"] and reading_s > 0:
        moved = (report["study"]["bytes"] + 4 * report["study"]["voxels"]) / reading_s / 1e9
        found["reading_gb_s"] = round(moved, 2)
        found["reading_gb_percent"] = _percent(moved, report["peaks"]["copy"])
    return found


def _percent(value: float, peak: float | None) -> float | None:
    return None if not peak else round(100 * value / peak, 1)


def _study(order: Order, first: Answer) -> Report:
    """voxels: of all the bundle's sequences, as large as the reference's each."""
    files = [p for p in order.study.rglob("*") if p.is_file()] if order.study.is_dir() else [order.study]
    return {
        "shape": first["shape"],
        "voxels": first["voxels"],
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
    }
