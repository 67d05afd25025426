"""The reading child: the only process that opens source files. Started by `process.Child`, one per Reader.

Requests and answers are JSON, each behind a 4-byte big-endian length, on standard input and output. It works
under the limits of `limits.confine`, answers what it can and survives what it can; the parent ends it when
it is silent for too long. Pixels go into a shared-memory block the parent made.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import signal
import struct
import sys
import time
from typing import IO, Any

from npc_edge.engine.study import limits
from npc_edge.engine.study.block import KEPT_BYTES
from npc_edge.engine.study.headers import Record, Skip, read_record
from npc_edge.engine.study.parse import Hostile, NotDicom, Unreadable
from npc_edge.engine.study.pixels import FrameReader, Layout
from npc_edge.engine.study.sources import Sources, dicomdir_references, kind_of

FLUSH_S = 0.05
Answer = dict[str, Any]


class _Worker:
    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._sources = Sources()
        self._patients: dict[bytes, int] = {}
        self._block: Any = None

    def answer(self, request: dict[str, Any]) -> None:
        """Do what is asked and send `{"done": …}` or `{"error": [code, why]}`, whatever happens."""
        try:
            limits.allow_cpu(float(request["cpu_s"]))
            done = getattr(self, "_" + request["op"])(request)
            self._send({"done": done})
        except Exception as error:  # noqa: BLE001  the child must survive anything a file makes it raise
            self._send({"error": explain(error)})

    def _send(self, message: Answer) -> None:
        payload = json.dumps(message, separators=(",", ":")).encode()
        self._out.write(struct.pack(">I", len(payload)) + payload)
        self._out.flush()

    def _ping(self, request: dict[str, Any]) -> bool:
        return True

    def _open(self, request: dict[str, Any]) -> Answer:
        """What kind of source a single path is, and what a zip or a DICOMDIR holds."""
        path = request["path"]
        try:
            kind = kind_of(path)
        except (NotDicom, Hostile):
            kind = "file"
        if kind == "zip":
            return {"kind": kind, "sizes": self._sources.members(path)}
        return {"kind": kind, "references": dicomdir_references(path) if kind == "dicomdir" else None}

    def _headers(self, request: dict[str, Any]) -> int:
        """Send a batch of [index, outcome, value] at least every FLUSH_S, so that silence means a hang."""
        self._patients.clear()
        batch: list[Any] = []
        last, module_sent = time.monotonic(), False
        for index, (path, member) in enumerate(request["files"]):
            outcome, value = self._one(path, member)
            if outcome == "record":
                if module_sent:
                    value["module"] = None
                module_sent = True
            batch.append([index, outcome, value])
            if time.monotonic() - last > FLUSH_S:
                self._send({"batch": batch})
                batch, last = [], time.monotonic()
        self._send({"batch": batch})
        return len(request["files"])

    def _one(self, path: str, member: int | None) -> tuple[str, Any]:
        try:
            with self._sources.open(path, member) as (stream, stamp):
                record, _ = read_record(stream)
                return "record", self._anonymous(record) | {"stamp": stamp}
        except Skip as skip:
            return "skip", [skip.why, self._anonymous(skip.record)]
        except NotDicom:
            return "skip", ["not DICOM", None]
        except Exception as error:  # noqa: BLE001  the reading child survives anything
            return "problem", explain(error)

    def _anonymous(self, record: Record) -> Record:
        """The patient id becomes a number: two patients are told apart here, and no id leaves."""
        patient = record["patient"]
        module = base64.b64encode(record["module"]).decode()
        return record | {"patient": self._patients.setdefault(patient, len(self._patients)), "module": module}

    def _same(self, request: dict[str, Any]) -> bool:
        """Whether two sources hold the same bytes."""
        digests = []
        for path, member in request["files"]:
            digest = hashlib.sha256()
            with self._sources.open(path, member) as (stream, _):
                while piece := stream.read(1 << 20):
                    digest.update(piece)
            digests.append(digest.digest())
        return digests[0] == digests[1]

    def _pixels(self, request: dict[str, Any]) -> int:
        """Fill the shared block with frames; one source after the other, as `request` orders them."""
        block = self._attached(request["block"])
        try:
            return self._fill(block, request)
        finally:
            if block.size > KEPT_BYTES:  # the parent gives it back: held here, its pages would stay
                self._block = None
                block.close()

    def _fill(self, block: Any, request: dict[str, Any]) -> int:
        done = 0
        for source in request["sources"]:
            layout = Layout(**source["layout"])
            with self._sources.open(source["path"], source["member"]) as (stream, stamp):
                if list(stamp) != source["stamp"]:
                    raise Unreadable("a file changed while the study was read")
                path = source["path"] if source["member"] is None else None
                reader = FrameReader(stream, path, layout)
                for frame in source["frames"]:
                    size = layout.frame_bytes
                    with memoryview(block.buf)[done : done + size] as target:
                        reader.read_into(frame, target)
                    done += size
            self._send({"progress": done})
        return done

    def _attached(self, name: str) -> Any:
        """The parent's block, which stays the same for most requests."""
        if self._block is None or self._block.name != name:
            if self._block is not None:
                self._block.close()
            self._block = _attach(name)
        return self._block


def _attach(name: str) -> Any:
    """Attach to the parent's block without registering it: the parent alone removes it."""
    from multiprocessing import resource_tracker, shared_memory

    if sys.version_info >= (3, 13):
        return shared_memory.SharedMemory(name, track=False)
    # Before 3.13 attaching registers the block, which starts a tracker process that would remove it.
    register = resource_tracker.register
    resource_tracker.register = lambda *_: None
    try:
        return shared_memory.SharedMemory(name)
    finally:
        resource_tracker.register = register


def explain(error: BaseException) -> list[str]:
    """[reason code, words] without a path, a tag's text or an exception's own message."""
    if isinstance(error, Hostile):
        return ["HOSTILE_FILE", f"a file was refused: {error}"]
    if isinstance(error, MemoryError | RecursionError):
        return ["HOSTILE_FILE", "a file needs more memory than reading may use"]
    if isinstance(error, Unreadable):
        return ["UNREADABLE", f"a file cannot be read: {error}"]
    if isinstance(error, OSError):
        return ["UNREADABLE", "a file could not be opened or vanished"]
    return ["UNREADABLE", f"a file is damaged ({type(error).__name__})"]


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides when to stop
    # One thread for each library that may be loaded later: address space is limited.
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    limits.confine(int(sys.argv[1]))
    requests, out = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not speak on our line
    worker = _Worker(out)
    while len(size := requests.read(4)) == 4:
        worker.answer(json.loads(requests.read(struct.unpack(">I", size)[0])))


if __name__ == "__main__":
    main()
