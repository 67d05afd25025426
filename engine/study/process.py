"""The parent's end of the reading child: starts it, asks it, and outlives it."""

from __future__ import annotations

import contextlib
import json
import queue
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

from npc_edge.engine.errors import Refusal
from npc_edge.engine.types import Watch

MAX_MESSAGE = 256 << 20
POLL_S = 0.1
START_S = 20.0


class Child:
    """A reading child, started on first use and again after it died. Not to be shared between threads."""

    def __init__(self, memory_mb: int) -> None:
        self._memory_mb = memory_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._listener: threading.Thread | None = None
        self._answers: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()

    @property
    def pid(self) -> int | None:
        """The running child's process id."""
        alive = self._process is not None and self._process.poll() is None
        return self._process.pid if alive and self._process is not None else None

    def start(self) -> None:
        """Start it ahead of use, so that its start-up overlaps with other work."""
        if self.pid is not None:
            return
        self.close()
        # -P: the working directory is never searched for modules.
        command = [sys.executable, "-P", "-m", "npc_edge.engine.study.child", str(self._memory_mb)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self._answers = queue.SimpleQueue()
        assert self._process.stdout is not None
        # A thread rather than select(): pipes cannot be waited on with a timeout on Windows.
        arguments = (self._process.stdout, self._answers)
        self._listener = threading.Thread(target=_listen, args=arguments, daemon=True)
        self._listener.start()

    def ask(
        self, request: dict[str, Any], silence_s: float, total_s: float, watch: Watch | None
    ) -> Iterator[dict[str, Any]]:
        """Send a request and yield its answers, the last one `{"done": …}`.

        Raises Refusal: what the child refused; HOSTILE_FILE when it died or was silent for `silence_s`;
        UNREADABLE when the whole took longer than `total_s`. On any error the child is gone or idle.
        """
        fresh = self.pid is None
        self.start()
        finished = False
        try:
            self._send(request | {"cpu_s": total_s})
            limit = time.monotonic() + total_s
            allowed = silence_s + (START_S if fresh else 0.0)
            while not finished:
                message = self._receive(allowed, limit, watch)
                if "error" in message:
                    finished = True
                    code, why = message["error"]
                    raise Refusal(str(code), str(why))
                finished = "done" in message
                allowed = silence_s
                yield message
        finally:
            if not finished:
                self.close()

    def close(self) -> None:
        """End the child; nothing of it stays."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        if self._listener is not None:
            self._listener.join()

    def _send(self, request: dict[str, Any]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        payload = json.dumps(request).encode()
        try:
            self._process.stdin.write(struct.pack(">I", len(payload)) + payload)
            self._process.stdin.flush()
        except OSError as error:
            raise Refusal("HOSTILE_FILE", "the reading process ended unexpectedly") from error

    def _receive(self, silence_s: float, limit: float, watch: Watch | None) -> dict[str, Any]:
        quiet_until = time.monotonic() + silence_s
        while True:
            if watch is not None:
                watch.check()
            try:
                payload = self._answers.get(timeout=POLL_S)
            except queue.Empty:
                if time.monotonic() > limit:
                    raise Refusal(
                        "UNREADABLE", "reading the study took too long", "copy it to a local disk"
                    ) from None
                if time.monotonic() > quiet_until:
                    raise Refusal("HOSTILE_FILE", "reading one file took too long") from None
                continue
            if payload is None:
                raise Refusal("HOSTILE_FILE", "a file made the reading process fail")
            message: dict[str, Any] = json.loads(payload)
            return message


def _listen(stream: IO[bytes], answers: queue.SimpleQueue[bytes | None]) -> None:
    """Pass on the child's messages; None when it ended."""
    with stream:
        while len(size := stream.read(4)) == 4:
            (length,) = struct.unpack(">I", size)
            payload = stream.read(length) if length <= MAX_MESSAGE else b""
            if len(payload) != length:
                break
            answers.put(payload)
    answers.put(None)
