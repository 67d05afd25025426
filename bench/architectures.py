"""Both architectures of `export/architectures`: exported, lowered to fp16 and int8, compiled by TensorRT-RTX.

Random weights: it says what the arithmetic does, not what a trained network loses. Each step is a process of
its own, so that each has a peak of its own. Run it as

    python -m npc_edge.bench architectures [--only NAME] [--out FILE]
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from npc_edge.bench.architecture_steps import KINDS, PUBLISHED, SMALL, STEPS
from npc_edge.bench.architectures_table import markdown
from npc_edge.bench.machine import describe
from npc_edge.engine.errors import NpcEdgeError
from npc_edge.engine.machine import peak_rss_mb

LIMIT = 1e-4
"""Largest relative error of an fp32 file against PyTorch."""

_LIBRARIES = ("torch", "onnx", "onnxscript", "onnxconverter-common", "monai", "tensorrt_rtx")


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--only", choices=PUBLISHED, default=None, help="one architecture")
    parser.add_argument("--windows", type=int, default=4, help="of each kind, to calibrate and compare on")
    parser.add_argument("--small", action="store_true", help="tiny networks of the same make, for a test")
    parser.add_argument(
        "--out", type=Path, default=None, help="default: bench/results/<date>-architectures.json"
    )
    parser.add_argument("--step", choices=STEPS, default=None, help="one step of --only, here")
    parser.add_argument("--folder", type=Path, default=None, help="of the step's files")


def main(given: Namespace) -> int:
    """Run each step in a process of its own, print a table, write JSON; 1 where fp32 is beyond its limit."""
    if given.step is not None:
        print(json.dumps(_here(given)))
        return 0
    subjects = SMALL if given.small else PUBLISHED
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-architectures.json"
    measured: dict[str, Any] = {}
    for name in [given.only] if given.only else subjects:
        with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
            steps = {step: _apart(given, name, step, Path(scratch)) for step in STEPS}
        measured[name] = {**asdict(subjects[name]), **steps}
    _write(out, given, measured)
    print(markdown(measured))
    return 0 if all(_within(found["fp32"]) for found in measured.values()) else 1


def _write(out: Path, given: Namespace, measured: Mapping[str, Any]) -> None:
    """With --only, what the file held of the other architecture stays."""
    held = json.loads(out.read_text(encoding="utf-8"))["architectures"] if given.only and out.exists() else {}
    both = {**held, **measured}
    report = {
        "machine": describe(),
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "weights": "random",
        "windows": given.windows,
        "kinds": list(KINDS),
        "fp32_limit": LIMIT,
        "architectures": {name: both[name] for name in PUBLISHED if name in both},
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def _here(given: Namespace) -> dict[str, Any]:
    """One step in this process; what npc-edge refuses is a result too."""
    subject = (SMALL if given.small else PUBLISHED)[given.only]
    begun = time.perf_counter()
    try:
        found = STEPS[given.step](subject, given.folder or Path(), given.windows)
    except NpcEdgeError as error:
        found = {"failed": error.one_line()}
    return {**found, "seconds": round(time.perf_counter() - begun, 1), "peak_mb": round(peak_rss_mb())}


def _apart(given: Namespace, name: str, step: str, folder: Path) -> dict[str, Any]:
    """One step in a process of its own; one that dies is a result too."""
    command = [sys.executable, "-m", "npc_edge.bench", "architectures", "--only", name, "--step", step]
    command += ["--folder", str(folder), "--windows", str(given.windows), *(["--small"] * given.small)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ran.returncode != 0:
        return {"failed": f"its process ended with {ran.returncode}"}
    found: dict[str, Any] = json.loads(ran.stdout.splitlines()[-1])
    print(f"{name}, {step}: {found['seconds']:.0f} s", file=sys.stderr, flush=True)
    return found


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _within(fp32: Mapping[str, Any]) -> bool:
    """Whether the fp32 file says what PyTorch says on every backend that ran it, and one did."""
    errors = [ran["relative_error"] for ran in fp32.get("ran", {}).values() if "relative_error" in ran]
    return bool(errors) and max(errors) <= LIMIT
