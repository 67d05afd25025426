"""What this process may use, and has used, of the machine: POSIX here, a plain answer elsewhere."""

from __future__ import annotations

import os
import sys


def available_cores() -> int:
    """Cores this process may run on (its affinity mask, not the machine's count)."""
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


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
