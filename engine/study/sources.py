"""Where the reading child gets its bytes: a plain file, or a zip's member read in place, never unpacked."""

from __future__ import annotations

import os
import stat
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from npc_edge.engine.study.parse import NotDicom, Unreadable, parse
from npc_edge.engine.study.values import text

Stamp = tuple[int, int, int]
"""(size, modification time in ns, CRC of a zip member or 0): tells whether a source changed."""

_OPEN_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_DIRECTORY = {0x00041220: {0x00041500: None}}


class Sources:
    """Opens sources; keeps the zip it used last open."""

    def __init__(self) -> None:
        self._zip: zipfile.ZipFile | None = None
        self._zip_key: tuple[str, int, int] | None = None

    @contextmanager
    def open(self, path: str, member: int | None) -> Iterator[tuple[IO[bytes], Stamp]]:
        """The source's bytes and its stamp. Raises OSError, NotDicom (not a regular file) or Unreadable."""
        if member is None:
            with _regular(path) as stream:
                status = os.fstat(stream.fileno())
                yield stream, (status.st_size, status.st_mtime_ns, 0)
            return
        archive = self._archive(path)
        info = files_in(archive)[member]
        status = Path(path).stat()
        try:
            with archive.open(info) as stream:
                yield stream, (info.file_size, status.st_mtime_ns, info.CRC)
        except (zipfile.BadZipFile, RuntimeError, NotImplementedError, EOFError) as error:
            raise Unreadable("a member of the zip is damaged or encrypted") from error

    def members(self, path: str) -> list[int]:
        """Uncompressed sizes of a zip's files, in order. Raises Unreadable."""
        return [info.file_size for info in files_in(self._archive(path))]

    def close(self) -> None:
        """Close the zip that is still open."""
        if self._zip is not None:
            self._zip.close()
        self._zip = self._zip_key = None

    def _archive(self, path: str) -> zipfile.ZipFile:
        status = Path(path).stat()
        key = (path, status.st_size, status.st_mtime_ns)
        if self._zip is None or self._zip_key != key:
            self.close()
            try:
                self._zip, self._zip_key = zipfile.ZipFile(path), key
            except (zipfile.BadZipFile, NotImplementedError, ValueError, EOFError) as error:
                raise Unreadable("the zip is damaged") from error
        return self._zip


def files_in(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The zip's members that are files, in the order of its directory; their names never become paths."""
    return [info for info in archive.infolist() if not info.is_dir()]


def kind_of(path: str) -> str:
    """'zip', 'dicomdir' or 'file', by content."""
    with _regular(path) as stream:
        if stream.read(4) in (b"PK\x03\x04", b"PK\x05\x06"):
            return "zip"
    return "file" if dicomdir_references(path) is None else "dicomdir"


def dicomdir_references(path: str) -> list[list[str]] | None:
    """The path components of every file a DICOMDIR refers to; None when it is not a readable DICOMDIR."""
    with _regular(path) as stream:
        try:
            elements = parse(stream, _DIRECTORY).elements
        except (NotDicom, Unreadable):
            return None
    if text(elements.values.get(0x00020002)) != "1.2.840.10008.1.3.10":
        return None
    found = (item.values.get(0x00041500) for item in elements.sequences.get(0x00041220, ()))
    return [[part.strip(" \0") for part in raw.decode("latin-1").split("\\")] for raw in found if raw]


@contextmanager
def _regular(path: str) -> Iterator[IO[bytes]]:
    """Open a regular file for reading; a pipe or a device is refused without waiting on it."""
    descriptor = os.open(path, _OPEN_FLAGS)
    with os.fdopen(descriptor, "rb") as stream:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise NotDicom
        yield stream
