"""What reading may cost, and the one place where the operating system is asked to enforce it (POSIX only)."""

from __future__ import annotations

import sys
from dataclasses import dataclass


@dataclass(frozen=True)
class ReadLimits:
    """Limits on reading one study.

    memory_mb: address space of the reading child. headers_s: all headers of a study. file_s: one file; pixel
    data get a second more for each 20 MB. max_files, max_bytes: of the folder. max_voxels: of one volume.
    """

    memory_mb: int = 1024
    headers_s: float = 30.0
    file_s: float = 3.5
    max_files: int = 20_000
    max_bytes: int = 16 << 30
    max_voxels: int = 80_000_000


def confine(memory_mb: int) -> None:
    """Confine this process: address space, no core dump, no written file. Called by the child on itself.

    Windows has no rlimit: there the parent's wall-clock limits and the parser's own bounds hold alone.
    """
    if sys.platform == "win32":
        return
    import resource

    for what, size in (
        (resource.RLIMIT_AS, memory_mb << 20),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_FSIZE, 0),
    ):
        hard = resource.getrlimit(what)[1]
        lowest = size if hard == resource.RLIM_INFINITY else min(size, hard)
        resource.setrlimit(what, (lowest, lowest))


def allow_cpu(seconds: float) -> None:
    """Let this process use that much more processor time; beyond it the system ends it (POSIX only)."""
    if sys.platform == "win32":
        return
    import resource

    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = int(used.ru_utime + used.ru_stime + seconds) + 2
    hard = resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(
        resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard)
    )
