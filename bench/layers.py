"""Where a network's time goes on a CPU, layer by layer, and how near it comes to the machine's peak.

Two networks: the demo bundle's, and the large isotropic U-Net (32 to 320 channels, instance norm, 96 cubed,
random weights). Each in every precision OpenVINO executes it in. Run it as

    python -m npc_edge.bench layers
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench import large
from npc_edge.bench.machine import clocks, describe, load_average
from npc_edge.bench.timing import peaks, stats
from npc_edge.bench.timing.work import PEAK_OF, work_of
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.openvino import OpenVinoRunner
from npc_edge.engine.model.runners.pairs import CPU_PAIRS, missing_here

Row = dict[str, Any]
_TOP = 8
_PRODUCTS = ("Convolution", "Deconvolution", "MatMul", "FullyConnected")


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--runs", type=int, default=10, help="of each network in each precision")
    parser.add_argument("--network", choices=("demo", "isotropic"), default=None, help="one of the two")
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-layers.json")


def main(given: Namespace) -> int:
    """Measure, print a table and write JSON."""
    report: Row = {"machine": describe(), "clocks": clocks(), "networks": {}}
    report["load_before"] = load_average()
    report["peaks"] = peaks.measure()
    for name in ("demo", "isotropic"):
        if given.network in (None, name):
            print(f"{name} …", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
                files, image = demo() if name == "demo" else isotropic(Path(scratch))
                report["networks"][name] = profile(files, image, report["peaks"], given.runs)
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-layers.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0


Files = Mapping[str, Path]
"""Precision of an artefact → its ONNX file."""


def demo() -> tuple[Files, NDArray[np.float32]]:
    """The embedded bundle's deciding network, and a window of noise."""
    bundle = bundles.load(None)
    network = bundle.manifest.networks[-1]
    files = {kind: bundle.artefact(network.name, kind) for kind in ("fp32", "int8-u8s8")}
    shape = (1, len(network.inputs), *network.window)
    return files, np.random.default_rng(0).random(shape, dtype=np.float32)


def isotropic(folder: Path) -> tuple[Files, NDArray[np.float32]]:
    """Export the large isotropic U-Net and quantize it, calibrated on two windows of smooth noise."""
    import onnx
    import torch

    from npc_edge.export.observe import observe
    from npc_edge.export.passes import rewrite
    from npc_edge.export.qdq import activations, quantize
    from npc_edge.export.staged_norms import LOWERED
    from npc_edge.export.to_onnx import export_onnx

    windows = large.Windows(2, large.ISOTROPIC)
    original, small = folder / "fp32.onnx", folder / "int8.onnx"
    example = torch.zeros(1, 2, *large.ISOTROPIC.window)
    export_onnx(large.network(large.ISOTROPIC), example, ("segmentation",), original)
    model, _ = rewrite(onnx.load(str(original)), LOWERED, windows[0])
    onnx.save(quantize(model, observe(model, activations(model), windows), "int8-u8s8"), str(small))
    return {"fp32": original, "int8-u8s8": small}, windows[0]["image"]


def profile(files: Files, image: NDArray[np.float32], held: Mapping[str, float | None], runs: int) -> Row:
    """Execution precision → seconds, GFLOP/s, percent of the peak, and the layers' milliseconds."""
    work = work_of(files["fp32"])
    found: Row = {"gflop": None if work is None else work.flop / 1e9}
    for pair in CPU_PAIRS:
        if pair.backend != "openvino" or pair.artefact not in files:
            continue
        if missing_here(pair, instruction_set()):
            continue
        row = _timed(files[pair.artefact], pair.precision, image, runs)
        if work is not None:
            row["gflop_s"] = round(work.flop / row["seconds"]["min"] / 1e9, 1)
            peak = held.get(PEAK_OF.get(pair.precision, pair.precision))
            row["peak_percent"] = None if not peak else round(100 * row["gflop_s"] / peak, 1)
        found[pair.precision] = row
    return found


def _timed(path: Path, precision: str, image: NDArray[np.float32], runs: int) -> Row:
    """Runs without counters for the time, and as many with them for the layers: counting costs a little."""
    taken: list[float] = []
    with OpenVinoRunner(path, threads=available_cores(), precision=precision) as runner:
        runner.infer({IMAGE: image})
        for _ in range(runs):
            begun = time.perf_counter()
            runner.infer({IMAGE: image})
            taken.append(time.perf_counter() - begun)
    layers: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    with OpenVinoRunner(path, threads=available_cores(), precision=precision, counted=True) as runner:
        for _ in range(runs):
            runner.infer({IMAGE: image})
            for layer in runner.layers():
                layers[layer.name, layer.kind, layer.ran].append(layer.ms)
    rows = sorted(((float(np.median(ms)), *key) for key, ms in layers.items()), reverse=True)
    total = sum(row[0] for row in rows)
    kinds: dict[str, float] = defaultdict(float)
    for ms, _, kind, ran in rows:
        kinds[f"{kind} {ran}" if kind in _PRODUCTS else kind] += ms
    return {
        "seconds": stats.percentiles(taken),
        "layers_ms": round(total, 2),
        "kinds": {
            kind: {"ms": round(ms, 2), "percent": round(100 * ms / total, 1)}
            for kind, ms in sorted(kinds.items(), key=lambda item: -item[1])
        },
        "longest": [
            {"layer": name, "kind": kind, "ran": ran, "ms": round(ms, 2)}
            for ms, name, kind, ran in rows[:_TOP]
        ],
    }


def table(report: Row) -> str:
    """Time, share of the peak and what the time goes to, a line each."""
    lines = []
    for name, found in report["networks"].items():
        for precision, row in _precisions(found):
            parts = [f"{kind} {held['percent']:.0f} %" for kind, held in row["kinds"].items()]
            lines.append(
                f"{name} {precision}: {1e3 * row['seconds']['min']:.0f} ms, {row['gflop_s']:.0f} GFLOP/s, "
                f"{row['peak_percent']} % of the peak; " + ", ".join(parts[:6])
            )
    return "\n".join(lines)


def _precisions(found: Row) -> Iterator[tuple[str, Row]]:
    return ((name, row) for name, row in found.items() if isinstance(row, dict))
