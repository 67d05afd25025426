"""What this process may use, and has used, of the machine: POSIX here, a plain answer elsewhere."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
from pathlib import Path

_CGROUPS = (  # version 2, version 1: limit, use
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


GC_THRESHOLD = (50_000, 20, 20)
"""For `gc.set_threshold` of a process that is all ours. Imports make some 350,000 objects that stay; looking
through them for cycles again and again took 7 % of a run in a new process."""


_TRIM_THRESHOLD, _MMAP_MAX = -1, -4
"""glibc's malloc.h: M_TRIM_THRESHOLD, M_MMAP_MAX."""


def available_cores() -> int:
    """Cores this process may run on (its affinity mask, not the machine's count)."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as it gives it; its architecture where it gives none."""
    named = _value(cpuinfo, "model name")
    return named or platform.processor() or platform.machine() or "unknown"


def available_memory_mb(root: Path = Path("/")) -> float | None:
    """MB a process may still take without swapping: of the machine, and of its control group where one sets
    a limit. None where the system does not say (not Linux).

    root: where /proc and /sys lie, for tests.
    """
    words = _value(root / "proc/meminfo", "MemAvailable").split()
    if not words:
        return None
    free = int(words[0]) * 1024
    for limit, used in _CGROUPS:
        most, taken = (_number(root / name.lstrip("/")) for name in (limit, used))
        if most is not None and taken is not None:
            free = min(free, max(0, most - taken))
    return free / 1e6


def waited_ms(tasks: Path = Path("/proc/self/task")) -> float | None:
    """How long this process's threads were ready to run and had no core, so far, all added up; None where the
    system does not say (not Linux)."""
    waited = 0
    try:
        for thread in tasks.iterdir():
            waited += int((thread / "schedstat").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        return None
    return waited / 1e6


def peak_rss_mb() -> float:
    """Peak resident MB of this process or its largest finished child; 0.0 on Windows (not measured)."""
    if sys.platform == "win32":
        return 0.0
    import resource

    scale = 1 if sys.platform == "darwin" else 1024
    largest = max(
        resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)
    )
    return largest * scale / 1e6


def keep_memory() -> None:
    """Keep what this process frees for its next study; for a process that is all ours, or its owner.

    glibc gives large blocks back to the system at once, and asking again costs their pages anew: on a virtual
    machine, whose host takes back what is free, up to half a second of a study that takes one. Elsewhere
    nothing is asked.
    """
    if sys.platform == "linux":
        choose = getattr(ctypes.CDLL(None), "mallopt", None)
        if choose is not None:
            choose(_MMAP_MAX, 0)
            choose(_TRIM_THRESHOLD, 2**31 - 1)


def give_back_memory() -> None:
    """Return to the system what was freed but is kept for the next request. glibc keeps up to 64 MB a thread
    once large blocks come and go; elsewhere nothing is asked."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _value(path: Path, wanted: str) -> str:
    """What a file of /proc says after `wanted:`, "" where it says nothing."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == wanted:
            return value.strip()
    return ""


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # "max": no limit
        return None
