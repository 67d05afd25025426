"""The steps of the GPU suite, each in a process of its own: what one takes down with it is its own answer.

A step writes what it has found as soon as it has found it, so that a step that is stopped leaves the rest.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

from npc_edge.bench.gpu_place import Place, Row, open_launcher
from npc_edge.bench.gpu_rounds import FAULTS, words
from npc_edge.bench.gpu_speed import bandwidth, stages
from npc_edge.bench.gpu_tensorrt import acceptance
from npc_edge.bench.kernel_cases import checks
from npc_edge.engine.errors import NpcEdgeError
from npc_edge.kernels.launch import Launcher

Tell = Callable[[str, object], None]
"""Takes a key of the report and its value."""

_TOOLS = ("memcheck", "racecheck", "initcheck", "synccheck")
_LINES = 60
"""Of what a sanitizer says when it complains."""

_KEPT_FOR_ENDING = 0.9
"""Of a step's time is for what it measures: the rest is for starting and for writing down."""


def note(line: str) -> None:
    """Progress, on standard error."""
    print(line, file=sys.stderr, flush=True)


def correctness(launcher: Launcher) -> list[Row]:
    """Every check as a row with `passed`."""
    return [{**asdict(check), "passed": check.passed} for check in checks(launcher)]


def _tensorrt(place: Place, tell: Tell) -> None:
    number = place.number or 0
    tell("tensorrt", [acceptance("rtx", number), acceptance("tensorrt", number)])


def _kernels(place: Place, tell: Tell) -> None:
    launcher = open_launcher(place)
    tell("launched_on", launcher.device)
    tell("checks", correctness(launcher))


def _bandwidth(place: Place, tell: Tell) -> None:
    launcher = open_launcher(place)
    repeats, copied = (1, 2**16) if place.small else (20, 2**28)
    tell("bandwidth", bandwidth(launcher, place.volume, repeats, copied))
    tell("stages_ms", stages(launcher, place.study, (32, 144, 144), repeats))


def _network(place: Place, tell: Tell) -> None:
    from npc_edge.bench.peers import gpu_network

    gpu_network.demo(place, note, partial(tell, "network"))


def _larger(place: Place, tell: Tell) -> None:
    from npc_edge.bench.peers import gpu_network

    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        gpu_network.larger(place, note, partial(tell, "larger_network"), Path(scratch))


def _end_to_end(place: Place, tell: Tell) -> None:
    from npc_edge.bench.peers import gpu_flow

    gpu_flow.rows(place, note, partial(tell, "end_to_end"))


def _run(place: Place, tell: Tell) -> None:
    from npc_edge.bench import gpu_run

    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        gpu_run.rows(place, note, partial(tell, "run"), Path(scratch))


def _sanitizer(place: Place, tell: Tell) -> None:
    rows: list[Row] = []
    for number, tool in enumerate(_TOOLS):
        note(f"compute-sanitizer {tool}")
        share = time.monotonic() + place.left_s / (len(_TOOLS) - number)
        rows.append(sanitized(tool, replace(place, until=share)))
        tell("sanitizer", rows)


def sanitized(tool: str, place: Place, program: str = "compute-sanitizer") -> Row:
    """The checks under one tool of compute-sanitizer; `passed` is None where it did not run to its end."""
    found = shutil.which(program)
    row: Row = {"tool": tool, "passed": None}
    if place.number is None:
        return {**row, "detail": "it watches GPUs, and this is none"}
    if found is None:
        return {**row, "detail": "compute-sanitizer is not installed"}
    command = [found, "--tool", tool, "--error-exitcode", "9", sys.executable, *_again(place)]
    try:
        ran = subprocess.run(
            [*command, "--checks-only"],
            capture_output=True,
            text=True,
            check=False,
            timeout=max(1.0, place.left_s),
        )
    except subprocess.TimeoutExpired:
        return {**row, "detail": "the time for this step was over"}
    said = (ran.stdout + ran.stderr).strip().splitlines()
    row |= {"passed": ran.returncode == 0, "detail": said[-1] if said else ""}
    return row if row["passed"] else {**row, "said": said[-_LINES:]}


@dataclass(frozen=True)
class Step:
    """do: measures, and tells. seconds: what it may take, on a GPU."""

    do: Callable[[Place, Tell], None]
    seconds: float


STEPS: Mapping[str, Step] = {
    "tensorrt": Step(_tensorrt, 60),
    "kernels": Step(_kernels, 90),
    "bandwidth": Step(_bandwidth, 60),
    "network": Step(_network, 150),
    "end-to-end": Step(_end_to_end, 120),
    "larger": Step(_larger, 150),
    "run": Step(_run, 120),
    "sanitizer": Step(_sanitizer, 240),
}
"""In the order in which they run: what is asked most comes first, what takes longest last."""


def run_here(step: Step, place: Place, into: Path) -> int:
    """One step in this process; what it finds goes to a file, whole after every part. 0; 1 when it fails, 5
    when something it needs is not here, both of which the file then says."""
    found: Row = {}

    def tell(key: str, value: object) -> None:
        found[key] = value
        publish(into, found)

    try:
        step.do(place, tell)
    except (NpcEdgeError, ModuleNotFoundError) as error:
        tell("not_run", words(error))
        return 5
    except FAULTS as error:
        traceback.print_exc()
        tell("failed", words(error))
        return 1
    return 0


def run_apart(name: str, place: Place, limit_s: float) -> tuple[Row, Row]:
    """One step in a new process, for so many seconds. What it found; and what became of it: `status`
    (done, not run, failed, stopped), `seconds`, and `why` where it is not done."""
    with tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch:
        into = Path(scratch) / "found.json"
        command = [sys.executable, *_again(place), "--step", name, "--into", str(into)]
        begun = time.perf_counter()
        code = _ended([*command, "--limit-s", f"{_KEPT_FOR_ENDING * limit_s:.1f}"], limit_s)
        became: Row = {"status": "done", "seconds": round(time.perf_counter() - begun, 1)}
        found: Row = json.loads(into.read_text(encoding="utf-8")) if into.exists() else {}
    for key in ("not_run", "failed"):
        if key in found:
            return found, {**became, "status": key.replace("_", " "), "why": found.pop(key)}
    if code is None:
        return found, {**became, "status": "stopped", "why": f"it took longer than {limit_s:.0f} s"}
    return found, became if code == 0 else {**became, "status": "failed", "why": f"it ended with code {code}"}


def _ended(command: list[str], limit_s: float) -> int | None:
    """The exit code of a process, None when its time was over: then it and all it started are ended."""
    process = subprocess.Popen(command, start_new_session=True)
    try:
        return process.wait(limit_s)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if process.poll() is None:
            if hasattr(os, "killpg"):
                os.killpg(process.pid, signal.SIGKILL)  # its session is its own, and so its group
            else:
                process.kill()
            process.wait()


def publish(path: Path, report: Row) -> None:
    """Write JSON, whole or not at all."""
    staged = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    staged.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    staged.replace(path)


def _again(place: Place) -> list[str]:
    where = "cpu" if place.number is None else str(place.number)
    command = ["-m", "npc_edge.bench.gpu", "--launcher", place.launcher, "--device", where]
    return [*command, "--small"] if place.small else command
