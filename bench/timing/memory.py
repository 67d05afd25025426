"""Peak memory of a process and all it starts, watched from outside."""

from __future__ import annotations

import shutil
import subprocess
import threading
from pathlib import Path

from npc_edge.engine.gpu import find_gpus

POLL_S = 0.02


class MemoryWatch:
    """Samples the memory of a process and its descendants: proportional set size, so shared pages count once.

    Reading it costs the watched process time: runs that are watched are not those that are timed. Linux only
    (/proc); elsewhere `stop` returns None. `peak_mb`: so far. `device_mb`: the most of a
    GPU's memory they held, by nvidia-smi, None where there is no GPU.
    """

    def __init__(self, pid: int, poll_s: float = POLL_S) -> None:
        self._every = poll_s
        self._pid, self._done = pid, threading.Event()
        self.peak_mb = 0.0
        self._ask = bool(find_gpus().capabilities) and shutil.which("nvidia-smi") is not None
        self.device_mb: float | None = 0.0 if self._ask else None
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()

    def stop(self) -> float | None:
        """The peak in MB."""
        self._done.set()
        self._thread.join()
        return round(self.peak_mb, 1) if self.peak_mb > 0 else None

    def _watch(self) -> None:
        while not self._done.wait(self._every):
            members = family(self._pid)
            self.peak_mb = max(self.peak_mb, sum(_pss_mb(pid) for pid in members))
            if self.device_mb is not None:
                self.device_mb = max(self.device_mb, _device_mb(members))


def family(pid: int) -> list[int]:
    """A process and all its descendants that still run."""
    members, unseen = [], [pid]
    while unseen:
        member = unseen.pop()
        members.append(member)
        for tasks in Path(f"/proc/{member}/task").glob("*/children"):
            unseen += [int(child) for child in _read(tasks).split()]
    return members


def _pss_mb(pid: int) -> float:
    for line in _read(Path(f"/proc/{pid}/smaps_rollup")).splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1024 / 1e6
    return 0.0


def _device_mb(members: list[int]) -> float:
    """What nvidia-smi says these processes hold, in MB; 0 when it says nothing."""
    command = ["nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv,noheader,nounits"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split(",") for line in ran.stdout.splitlines() if line.count(",") == 1]
    held = [(pid.strip(), used.strip()) for pid, used in rows]
    own = {str(pid) for pid in members}
    return sum(float(used) * 2**20 / 1e6 for pid, used in held if pid in own and used.isdigit())


def _read(path: Path) -> str:
    """A file of /proc, empty when the process has just ended."""
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""
