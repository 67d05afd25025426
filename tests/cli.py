"""The real command line in a new process, as a person or a program would call it."""

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PROGRAM = [sys.executable, "-m", "npc_edge.engine.cli.app"]


def run(
    *arguments: str | Path,
    env: Mapping[str, str] | None = None,
    before: Sequence[str] = (),
    timeout: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run npc-edge and wait; `before` holds what it runs under (strace, unshare). Warnings are errors."""
    command = [*before, PROGRAM[0], "-W", "error", *PROGRAM[1:], *map(str, arguments)]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        env=dict(os.environ if env is None else env),
        timeout=timeout,
        check=False,
    )
