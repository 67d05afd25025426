"""Files of the state directory that several processes share: published whole, written one at a time."""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_POLL_S = 0.05


def replace_whole(path: Path, data: bytes) -> None:
    """Replace a file by a whole one: written beside it, synced, renamed, the folder synced. OSError."""
    with _written_beside(path, data) as hidden:
        hidden.replace(path)


def create_whole(path: Path, data: bytes) -> None:
    """The same, but a file that is there already stays: a link never replaces (nor, on Windows, a rename)."""
    with _written_beside(path, data) as hidden, contextlib.suppress(FileExistsError):
        if sys.platform == "win32":
            hidden.rename(path)
        else:
            path.hardlink_to(hidden)


@contextmanager
def _written_beside(path: Path, data: bytes) -> Iterator[Path]:
    """A synced file to publish under its name; gone afterwards, and the folder synced."""
    hidden = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(hidden, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        yield hidden
    finally:
        hidden.unlink(missing_ok=True)
    if sys.platform != "win32":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def exclusive(path: Path, wait_s: float) -> Iterator[bool]:
    """Hold a lock file, which stays; the system frees it when its process dies. Yields False where someone
    else still held it after `wait_s`: better to go on than to hang. OSError where it cannot be opened."""
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        limit = time.monotonic() + wait_s
        while not (held := _try_lock(handle)) and time.monotonic() < limit:
            time.sleep(_POLL_S)
        yield held
    finally:
        os.close(handle)


def _try_lock(handle: int) -> bool:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
