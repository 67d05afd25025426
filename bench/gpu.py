"""The CUDA kernels on the GPU in this machine: right, within bounds, and how near to the memory's speed.

    python -m npc_edge.bench gpu [--launcher cuda-core|pycuda] [--device N] [--out FILE.json]

Correctness first: every kernel against its reference, between guard bands. Then the same under
compute-sanitizer, where it is installed. Then bandwidth: bytes of each input once and each output once, as a
percentage of a copy on the same GPU in the same run. Without a GPU: one line, exit code 5; a kernel that is
wrong: exit code 1.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from npc_edge.bench.gpu_speed import bandwidth, stages
from npc_edge.bench.kernel_cases import checks
from npc_edge.bench.machine import describe
from npc_edge.engine.errors import BackendError
from npc_edge.kernels.launch import Launcher, LaunchError

_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
Row = dict[str, Any]


def open_launcher(name: str, ordinal: int) -> Launcher:
    """The launcher of that name. LaunchError where its library, the driver or the GPU is missing."""
    if name == "pycuda":
        from npc_edge.kernels.cuda.py_cuda import PyCudaLauncher

        return PyCudaLauncher(ordinal)
    from npc_edge.kernels.cuda.cuda_core import CudaCoreLauncher

    return CudaCoreLauncher(ordinal)


def correctness(launcher: Launcher) -> list[Row]:
    """Every check as a row with `passed`."""
    return [{**asdict(check), "passed": check.passed} for check in checks(launcher)]


def sanitized(arguments: list[str]) -> list[Row]:
    """The checks under each tool of compute-sanitizer; `passed` is None where it is not installed."""
    program = shutil.which("compute-sanitizer")
    rows: list[Row] = []
    for tool in _TOOLS:
        if program is None:
            rows.append({"tool": tool, "passed": None, "detail": "compute-sanitizer is not installed"})
            continue
        command = [program, "--tool", tool, "--error-exitcode", "9", sys.executable]
        command += ["-m", "npc_edge.bench", "gpu", "--checks-only", *arguments]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        said = (ran.stdout + ran.stderr).strip().splitlines()
        rows.append({"tool": tool, "passed": ran.returncode == 0, "detail": said[-1] if said else ""})
    return rows


def table(report: Row) -> str:
    """The report as Markdown."""
    failed = [row for row in report["checks"] if not row["passed"]]
    lines = [f"{report['device']}: {len(report['checks'])} checks, {len(failed)} failed"]
    lines += [
        f"FAILED {row['operation']}, {row['case']}: {row['error']:.3g}, allowed {row['allowed']:.3g}"
        for row in failed
    ]
    said = {True: "clean", False: "FAILED", None: "not run"}
    lines += [
        f"compute-sanitizer {row['tool']}: {said[row['passed']]}. {row['detail']}"
        for row in report.get("sanitizer", [])
    ]
    if "bandwidth" in report:
        lines += ["", "| | ms | GB/s | % of a copy |", "| --- | --- | --- | --- |"]
        lines += [
            f"| {row['operation']} | {row['ms']:.3f} | {row['gb_s']:.0f} | {row['percent_of_copy']:.0f} |"
            for row in report["bandwidth"]
        ]
    if "stages_ms" in report:
        spent = ", ".join(f"{name} {value:.2f}" for name, value in report["stages_ms"].items())
        lines += ["", f"2 x (36 x 512 x 512), without a network, ms: {spent}"]
    return "\n".join(lines)


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--launcher", choices=("cuda-core", "pycuda"), default="cuda-core")
    parser.add_argument("--device", type=int, default=0)
    parser.add_argument("--checks-only", action="store_true", help="correctness only; writes no file")
    parser.add_argument("--out", type=Path, default=None, help="default: bench/results/<date>-gpu.json")


def main(given: Namespace) -> int:
    """Check, measure, print a table and write JSON."""
    try:
        launcher = open_launcher(given.launcher, given.device)
    except LaunchError as error:
        missing = BackendError(str(error).rstrip("."), "this bench needs an NVIDIA GPU with its driver")
        print(f"error: {missing.one_line()}", file=sys.stderr)
        return missing.exit_code
    try:
        return _measure(launcher, given)
    except LaunchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _measure(launcher: Launcher, given: Namespace) -> int:
    report: Row = {"machine": describe(), "device": launcher.device, "launcher": given.launcher}
    report["checks"] = correctness(launcher)
    passed = all(row["passed"] for row in report["checks"])
    if not given.checks_only:
        again = ["--launcher", given.launcher, "--device", str(given.device)]
        report["sanitizer"] = sanitized(again)
        report["bandwidth"] = bandwidth(launcher, (256, 256, 256))
        report["stages_ms"] = stages(launcher, (36, 512, 512), (32, 144, 144))
        passed = passed and all(row["passed"] is not False for row in report["sanitizer"])
        out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-gpu.json"
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(table(report))
    return 0 if passed else 1
