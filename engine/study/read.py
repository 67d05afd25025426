"""A path → a Study: headers by the reading child, pixels on demand. This process opens no source file."""

from __future__ import annotations

import base64
import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.study.block import KEPT_BYTES, Block
from npc_edge.engine.study.limits import ReadLimits
from npc_edge.engine.study.parse import UNDEFINED
from npc_edge.engine.study.process import Child
from npc_edge.engine.study.records import Image, images_of, series_of
from npc_edge.engine.types import Frame, Series, Study, Watch
from npc_edge.kernels.threads import slabs

__all__ = ["ReadLimits", "Reader"]

PIXEL_BYTES_A_SECOND = 20e6
_LAYOUT = ("rows", "columns", "frames", "allocated", "stored", "signed", "offset", "length")
_PROBLEM_HINTS = {"UNREADABLE": "export the study again", "HOSTILE_FILE": "remove the file"}


@dataclass(frozen=True)
class _Source:
    """A source file as the child needs it to fetch pixels; `record` is its record without frames."""

    path: str
    member: int | None
    record: dict[str, Any]


@dataclass
class _Gathered:
    """What the headers of a study came to."""

    images: list[Image] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    problems: Counter[tuple[str, str]] = field(default_factory=Counter)
    patients: set[int] = field(default_factory=set)
    studies: set[str] = field(default_factory=set)
    accessions: set[str] = field(default_factory=set)
    quality_control: bool = True
    objects: dict[str, int] = field(default_factory=dict)  # SOP Instance UID → place among the files
    twins: list[tuple[int, int]] = field(default_factory=list)  # places of files with one SOP Instance UID
    first: dict[str, Any] | None = None
    module: bytes = b""


class Reader:
    """Reads studies through one warm child process. A context manager; not to be shared between threads.

    Serves the pixels of the study it read last.
    """

    def __init__(self, limits: ReadLimits | None = None) -> None:
        self._limits = ReadLimits() if limits is None else limits
        self._child = Child(self._limits.memory_mb)
        self._block = Block()
        self._first = 0  # number of the first source of the study read last
        self._sources: list[_Source | None] = []

    def __enter__(self) -> Reader:
        self._child.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the child."""
        self._child.close()
        self._block.close()

    @property
    def child_pid(self) -> int | None:
        """Process id of the warm child, None when there is none."""
        return self._child.pid

    def read(self, path: Path, watch: Watch | None = None) -> Study:
        """Read the headers below a folder (recursive, any file names), of a DICOMDIR, a zip or a single file.

        Raises UsageError when the path is not there; Refusal (NO_MR, UNREADABLE, HOSTILE_FILE, TOO_LARGE).
        What makes a result impossible but leaves something to show is in `problems` of the study.
        """
        if not path.exists():
            raise UsageError(f"there is no {path}", "give a folder, a DICOMDIR or a zip")
        self._first += len(self._sources)
        self._sources = []
        files = self._files(path, watch)
        gathered = _Gathered()
        request = {"op": "headers", "files": files}
        for message in self._child.ask(request, self._limits.file_s, self._limits.headers_s, watch):
            for index, outcome, value in message.get("batch", ()):
                self._gather(gathered, files[index], outcome, value)
        self._drop_copies(gathered, watch)
        return _study(gathered)

    def pixels(
        self,
        series: Series,
        frames: Sequence[Frame],
        watch: Watch | None = None,
        dtype: type[np.generic] | None = None,
    ) -> NDArray[Any]:
        """(N, rows, columns) stored values of `frames`, in their order, before any rescale.

        As dtype, or as they are stored: uint8, int16, uint16, int32, uint32 or float32. Raises Refusal
        (UNREADABLE, HOSTILE_FILE, TOO_LARGE).
        """
        sources = [self._source(frame) for frame in frames]
        layout = sources[0].record["pixels"]
        wanted = ("rows", "columns", "allocated", "stored", "shift", "signed", "float", "little")
        if any(s.record["pixels"][k] != layout[k] for s in sources for k in wanted):
            raise Refusal("UNREADABLE", "slices of one series store their pixels in different ways")
        count, rows, columns = len(frames), layout["rows"], layout["columns"]
        if count * rows * columns > self._limits.max_voxels:
            raise Refusal("TOO_LARGE", f"a series has {count} slices of {rows} x {columns}")
        stored = _dtype(layout)
        values = np.empty((count, rows, columns), stored.newbyteorder("=") if dtype is None else dtype)
        each = rows * columns * stored.itemsize
        allowed = self._limits.file_s + count * each / PIXEL_BYTES_A_SECOND
        until = time.monotonic() + self._limits.headers_s + allowed
        try:
            for part in slabs(count, count if _all_at_once(sources) else max(1, KEPT_BYTES // each)):
                block = self._block.holding((part.stop - part.start) * each)
                plan = _plan(sources[part], frames[part])
                request = {"op": "pixels", "block": block.name, "sources": plan}
                for _ in self._child.ask(request, allowed, until - time.monotonic(), watch):
                    pass
                raw = np.ndarray((part.stop - part.start, rows, columns), stored, buffer=block.buf)
                try:
                    values[part] = _stored(raw, layout)
                finally:
                    del raw  # a block cannot be closed while an array lies in it
        finally:
            self._block.leave()
        return values

    def _source(self, frame: Frame) -> _Source:
        place = frame.source - self._first
        found = self._sources[place] if 0 <= place < len(self._sources) else None
        if found is None:
            raise UsageError("these frames belong to a study read earlier", "read the study again")
        return found

    def _files(self, path: Path, watch: Watch | None) -> list[tuple[str, int | None]]:
        if path.is_dir():
            return self._checked(_below(path))
        request = {"op": "open", "path": str(path)}
        *_, last = self._child.ask(request, self._limits.file_s, self._limits.file_s, watch)
        found = last["done"]
        if found["kind"] == "zip":
            if sum(found["sizes"]) > self._limits.max_bytes or len(found["sizes"]) > self._limits.max_files:
                raise Refusal("TOO_LARGE", "the zip is larger than any study")
            return [(str(path), member) for member in range(len(found["sizes"]))]
        if found["kind"] == "dicomdir":
            referenced = _referenced(path.parent, found["references"])
            return self._checked(referenced or _below(path.parent))
        return [(str(path), None)]

    def _checked(self, paths: Iterable[Path]) -> list[tuple[str, int | None]]:
        files: list[tuple[str, int | None]] = []
        total = 0
        for path in paths:
            with contextlib.suppress(OSError):  # what cannot be looked at, the child will report
                total += path.stat().st_size
            files.append((str(path), None))
            if len(files) > self._limits.max_files or total > self._limits.max_bytes:
                raise Refusal(
                    "TOO_LARGE", "the folder is larger than any study", "name the study's own folder"
                )
        return files

    def _gather(self, into: _Gathered, file: tuple[str, int | None], outcome: str, value: Any) -> None:
        source: _Source | None = None
        if outcome == "problem":
            into.problems[(value[0], value[1])] += 1
        elif outcome == "skip":
            into.skipped[value[0]] += 1
            if value[1] is not None and value[0] != "a DICOMDIR":
                into.patients.add(value[1]["patient"])
        else:
            here = len(self._sources)
            twin = into.objects.setdefault(value["sop"], here)
            if twin != here:
                into.twins.append((twin, here))
            into.images += images_of(value, self._first + here)
            into.patients.add(value["patient"])
            into.studies.add(value["study"])
            into.accessions.add(value["accession"])
            into.quality_control &= value["quality_control"]
            if into.first is None:
                into.first, into.module = value, base64.b64decode(value["module"])
            source = _Source(*file, {k: value[k] for k in ("pixels", "syntax", "stamp")})
        self._sources.append(source)

    def _drop_copies(self, gathered: _Gathered, watch: Watch | None) -> None:
        """The same file twice counts once; two objects under one UID both stay, and are found out later."""
        copies = set()
        for twin, here in gathered.twins:
            pair = [self._sources[twin], self._sources[here]]
            request = {"op": "same", "files": [(s.path, s.member) for s in pair if s is not None]}
            *_, last = self._child.ask(request, self._limits.file_s, self._limits.file_s, watch)
            if last["done"]:
                copies.add(self._first + here)
        if copies:
            gathered.images = [image for image in gathered.images if image.frame.source not in copies]
            gathered.skipped["a copy"] += len(copies)


def _below(folder: Path) -> list[Path]:
    """Every regular file below a folder, sorted; links to folders are not followed."""
    found = []
    for directory, folders, names in os.walk(folder):
        folders.sort()
        found += [Path(directory, name) for name in sorted(names)]
    return [path for path in found if path.is_file()]


def _referenced(folder: Path, references: Sequence[Sequence[str]]) -> list[Path]:
    """The files a DICOMDIR names; empty when one is missing or lies outside the folder."""
    root = folder.resolve()
    found = []
    for parts in references:
        if not parts or any(p in ("", ".", "..") or set(p) & set("/\\:\0") for p in parts):
            return []
        path = root.joinpath(*parts)
        if not path.is_file() or not path.resolve().is_relative_to(root):
            return []
        found.append(path)
    return found


def _study(gathered: _Gathered) -> Study:
    problems = [
        (code, why if count == 1 else f"{why} ({count} files)")
        for (code, why), count in gathered.problems.items()
    ]
    if gathered.first is None:
        if problems:
            raise Refusal(*problems[0], _PROBLEM_HINTS.get(problems[0][0], ""))
        raise Refusal("NO_MR", "there is no MR image in it")
    if len(gathered.patients) > 1:
        problems.insert(0, ("MULTIPLE_PATIENTS", f"it mixes {len(gathered.patients)} patients"))
    elif len(gathered.studies) > 1:
        problems.insert(0, ("MULTIPLE_STUDIES", f"it mixes {len(gathered.studies)} studies"))
    return Study(
        study_instance_uid=gathered.first["study"],
        series=series_of(gathered.images),
        patient_module=gathered.module,
        quality_control_subject=gathered.quality_control,
        patient_age_years=gathered.first["age"],
        skipped=dict(gathered.skipped),
        problems=tuple(problems),
        accession_number=next(iter(gathered.accessions)) if len(gathered.accessions) == 1 else "",
    )


def _plan(sources: Sequence[_Source], frames: Sequence[Frame]) -> list[dict[str, Any]]:
    """Consecutive frames of one source become one step of the child's work."""
    plan = []
    pairs = zip(sources, frames, strict=True)
    for _, group in groupby(pairs, key=lambda pair: id(pair[0])):
        steps = list(group)
        source = steps[0][0]
        layout = {k: source.record["pixels"][k] for k in _LAYOUT} | {"syntax": source.record["syntax"]}
        plan.append(
            {
                "path": source.path,
                "member": source.member,
                "stamp": source.record["stamp"],
                "layout": layout,
                "frames": [frame.number for _, frame in steps],
            }
        )
    return plan


def _all_at_once(sources: Sequence[_Source]) -> bool:
    """Whether the child reads through what lies before a frame: of an object of many frames that is
    compressed, or lies in a zip. By parts that would be done again for each."""
    layouts = [(source, source.record["pixels"]) for source in sources]
    return any(
        layout["frames"] > 1 and (layout["length"] == UNDEFINED or source.member is not None)
        for source, layout in layouts
    )


def _dtype(layout: dict[str, Any]) -> np.dtype[Any]:
    kind = "f" if layout["float"] else "i" if layout["signed"] else "u"
    # Decoded pixels are little endian whatever the source was; only native ones can be big.
    return np.dtype(f"{'<' if layout['little'] else '>'}{kind}{layout['allocated'] // 8}")


def _stored(raw: NDArray[Any], layout: dict[str, Any]) -> NDArray[Any]:
    """A native-endian copy with the bits beyond BitsStored (old overlays) cleared, the sign extended."""
    values = raw.astype(raw.dtype.newbyteorder("="))
    spare = layout["allocated"] - layout["stored"]
    if spare and not layout["float"]:
        left = max(0, spare - layout["shift"])
        values <<= left
        values >>= spare
    return values
