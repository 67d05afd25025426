"""A folder that appears whole or not at all: staged beside its place, synced, then renamed into it.

parent/.NAME.npc-edge-lock        held while a run publishes NAME; never removed by a waiting run
parent/.NAME.npc-edge-stage-PID   what a run is writing; left only by a killed run, swept by the next
parent/.NAME.npc-edge-old-PID     what `replace` took out of the way; put back by the next run if need be
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from npc_edge.engine.errors import OutputError

SEG, RTSTRUCT, SR = "seg.dcm", "rtstruct.dcm", "sr.dcm"
OURS = frozenset({"result.json", "report.html", "tumour.nii.gz", "structures.nii.gz", SEG, RTSTRUCT, SR})

_HINTS = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk quota is used up",
    errno.EACCES: "no permission to write there",
    errno.EPERM: "no permission to write there",
    errno.EROFS: "the file system is read-only",
    errno.EBUSY: "it is a mount point: name a folder inside it",
    errno.EXDEV: "it is a mount point: name a folder inside it",
    errno.ENAMETOOLONG: "the name is too long",
}


def output_error(path: Path, error: OSError) -> OutputError:
    """The one translation of an operating-system error of this room."""
    reason = error.strerror or type(error).__name__
    return OutputError(f"cannot write {path}: {reason}", _HINTS.get(error.errno or 0, "choose another --out"))


@dataclass(frozen=True)
class Place:
    """Where a folder is to appear, and the names of its neighbours while it does."""

    target: Path

    @property
    def lock(self) -> Path:
        return self.target.parent / f".{self.target.name}.npc-edge-lock"

    @property
    def stage(self) -> Path:
        return self.target.parent / f".{self.target.name}.npc-edge-stage-{os.getpid()}"

    @property
    def old(self) -> Path:
        return self.target.parent / f".{self.target.name}.npc-edge-old-{os.getpid()}"

    def leftovers(self, kind: str) -> list[Path]:
        """Folders of killed runs; only meaningful while holding the lock."""
        prefix = f".{self.target.name}.npc-edge-{kind}-"
        return sorted(p for p in self.target.parent.iterdir() if p.name.startswith(prefix))


@contextmanager
def staged(target: Path, replace: bool) -> Iterator[Path]:
    """Yield an empty folder beside `target`; when the block ends well, it becomes `target`, else it vanishes.

    Raises OutputError: target is a file, is not empty and may not be replaced, holds files that are not ours,
    another run is publishing it, or the operating system says no.
    """
    place = Place(target.resolve())
    try:
        place.target.parent.mkdir(parents=True, exist_ok=True)
        with _locked(place):
            _recover(place)
            check_target(place.target, replace)
            place.stage.mkdir()
            try:
                yield place.stage
                _sync_tree(place.stage)
                _swap_in(place)
            finally:
                shutil.rmtree(place.stage, ignore_errors=True)
    except OSError as error:
        raise output_error(target, error) from error


def check_target(target: Path, replace: bool) -> None:
    """OutputError unless `target` is absent, empty, or a folder of ours that may be replaced."""
    if not target.exists():
        return
    if not target.is_dir():
        raise OutputError(f"{target} is a file", "name a folder with --out")
    names = {entry.name for entry in target.iterdir()}
    if names and not replace:
        raise OutputError(f"{target} is not empty", "choose another --out, or pass --replace")
    strange = sorted(name for name in names if name not in OURS or not (target / name).is_file())
    if strange:
        raise OutputError(
            f"{target} holds {len(strange)} file(s) that npc-edge did not write", "choose another --out"
        )


@contextmanager
def _locked(place: Place) -> Iterator[None]:
    """Hold the lock of a place. The operating system frees it when a process dies, however it dies."""
    while True:
        handle = os.open(place.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            _lock_file(handle)
        except OSError as error:
            os.close(handle)
            raise OutputError(
                f"another run is writing {place.target}", "wait for it, or choose another --out"
            ) from error
        # Whoever held it before may have removed the file between our open and our lock: then it is no lock.
        if place.lock.exists() and os.path.samestat(os.fstat(handle), place.lock.stat()):
            break
        os.close(handle)
    try:
        yield
    finally:
        if sys.platform != "win32":
            place.lock.unlink(missing_ok=True)
        os.close(handle)


def _lock_file(handle: int) -> None:
    """Raise OSError when someone else holds it."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _recover(place: Place) -> None:
    """Tidy up after a killed run: drop what it staged, put back what it had moved aside."""
    for stale in place.leftovers("stage"):
        shutil.rmtree(stale)
    for aside in place.leftovers("old"):
        if place.target.exists():
            shutil.rmtree(aside)
        else:
            aside.rename(place.target)


def _sync_tree(folder: Path) -> None:
    for path in folder.iterdir():
        sync(path)
    sync(folder)


def sync(path: Path) -> None:
    """fsync a file or a folder (Windows has no fsync on folders)."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDWR if sys.platform == "win32" else os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _swap_in(place: Place) -> None:
    """The staged folder takes the target's name; what was there before is removed last."""
    if not place.target.exists():
        place.stage.rename(place.target)
    elif not any(place.target.iterdir()):
        _over_empty(place)
    elif _exchange(place.stage, place.target):
        pass  # the old folder now bears the staging name and goes with it
    else:
        place.target.rename(place.old)
        try:
            place.stage.rename(place.target)
        except OSError:
            place.old.rename(place.target)
            raise
        shutil.rmtree(place.old)
    sync(place.target.parent)


def _over_empty(place: Place) -> None:
    if sys.platform == "win32":
        place.target.rmdir()
    place.stage.rename(place.target)


def _exchange(a: Path, b: Path) -> bool:
    """Swap two folders in one step (Linux renameat2, RENAME_EXCHANGE); False where that does not exist."""
    if sys.platform != "linux":
        return False
    renameat2 = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if renameat2 is None:
        return False
    at_fdcwd, rename_exchange = -100, 2
    return bool(renameat2(at_fdcwd, os.fsencode(a), at_fdcwd, os.fsencode(b), rename_exchange) == 0)
