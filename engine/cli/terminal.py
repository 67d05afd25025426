"""What every command shares on the terminal."""

from __future__ import annotations

import sys


def complain(message: str, code: int) -> int:
    """Print one line on standard error and hand the exit code back."""
    print(f"npc-edge: {' '.join(message.split())}", file=sys.stderr)
    return code


def note(message: str) -> None:
    """One line of progress on standard error."""
    print(message, file=sys.stderr, flush=True)
