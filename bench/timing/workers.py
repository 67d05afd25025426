"""The other end of a bench's processes: started, asked, ended; what went wrong there is raised here."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from npc_edge.bench.timing.memory import POLL_S, MemoryWatch
from npc_edge.bench.timing.order import Order
from npc_edge.engine.errors import (
    BackendError,
    BundleError,
    Cancelled,
    NpcEdgeError,
    OutputError,
    Refusal,
    UsageError,
)

Answer = dict[str, Any]
_ERRORS: tuple[type[NpcEdgeError], ...] = (UsageError, BundleError, BackendError, OutputError, Cancelled)


class Worker:
    """A warm process in one role; a context manager. role: engine, torch, loop or peaks."""

    def __init__(self, role: str, scratch: Path) -> None:
        self._command = [sys.executable, "-m", "npc_edge.bench.timing.worker", role, str(scratch)]
        self._role = role

    def __enter__(self) -> Self:
        self._said = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._said, text=True
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        if kind is not None:
            self._process.kill()
        self._process.wait()
        self._process.stdout.close()
        self._said.close()

    @property
    def pid(self) -> int:
        """Of the process."""
        return self._process.pid

    def ask(self, op: str, **more: str) -> Answer:
        """One request, one answer; the error of the tree that the process reports."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"op": op, **more}) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            pass  # it has ended: the missing answer says so
        line = self._process.stdout.readline()
        if not line:
            self._said.seek(0)
            raise BackendError(f"the bench's {self._role} process ended: {last_line(self._said.read())}")
        return _checked(json.loads(line))


def cold_engine(order: Order, scratch: Path, out: Path, watched: bool = False) -> Answer:
    """`npc-edge run` in a new process: `seconds` from its start to its files, `timings_ms`;
    watched: `peak_mb`, `device_mb` and a time not to rely on."""
    command = [sys.executable, "-m", "npc_edge.engine.cli.app", "run", str(order.study), "--out", str(out)]
    command += ["--state", str(scratch / "state"), "--json", "--allow-demo-dicom"]
    command += ["--backend", order.backend, "--precision", order.precision]
    command += ["--bundle", str(order.bundle)] if order.bundle is not None else []
    command += ["--allow-unsigned"] if order.allow_unsigned else []
    ran = timed(command, POLL_S if watched else None)
    if ran["returncode"] != 0:
        code = int(ran["returncode"])
        kind = next((k for k in _ERRORS if k.exit_code == code), BackendError)
        raise kind(f"a cold run failed: {last_line(ran['stderr'])}")
    return {**_measured(ran), "timings_ms": json.loads(ran["stdout"])["runtime"]["timings_ms"]}


def cold_peer(scratch: Path, out: Path, watched: bool = False) -> Answer:
    """The same of the peer, which has run warm before in this bench."""
    command = [
        sys.executable,
        "-m",
        "npc_edge.bench.timing.worker",
        "torch",
        str(scratch),
        "--once",
        str(out),
    ]
    ran = timed(command, POLL_S if watched else None)
    lines = ran["stdout"].splitlines()
    if not lines:
        raise BackendError(f"a cold run of the peer failed: {last_line(ran['stderr'])}")
    return {**_measured(ran), "timings_ms": _checked(json.loads(lines[-1]))["timings_ms"]}


def timed(command: list[str], poll_s: float | None) -> Answer:
    """Run a command to its end: `seconds`, `returncode`, `stdout`, `stderr`. poll_s: how often to look at its
    memory, for `peak_mb` and `device_mb`; None for never, which is how to take a time."""
    begun = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        watch = None if poll_s is None else MemoryWatch(process.pid, poll_s)
        printed, said = process.communicate()
        found: Answer = {"seconds": time.perf_counter() - begun}
        if watch is not None:
            found |= {"peak_mb": watch.stop(), "device_mb": watch.device_mb}
    return {**found, "returncode": process.returncode, "stdout": printed, "stderr": said}


def _measured(ran: Answer) -> Answer:
    return {name: ran[name] for name in ("seconds", "peak_mb", "device_mb") if name in ran}


def _checked(answer: Answer) -> Answer:
    """The answer; the error it stands for is raised."""
    if "error" not in answer:
        return answer
    if "reason" in answer:
        raise Refusal(answer["reason"], answer["error"], answer["hint"])
    kind = next((k for k in _ERRORS if k.exit_code == answer["exit_code"]), NpcEdgeError)
    raise kind(answer["error"], answer["hint"])


def last_line(text: str) -> str:
    """The last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it says nothing"
