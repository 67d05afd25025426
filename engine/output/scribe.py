"""The session's end of the scribe: a process beside it that makes the DICOM objects.

That is two thirds of a run's output and all of it Python's own work, so a second core does it while this
process goes on: SEG needs no more than the masks, and is begun before staging and report. What comes back are
the bytes this process would make itself, and does where the scribe was lost; every file is read back here as
ever. Both ends are this package and talk in pickles: no file of others is ever one.
"""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from types import TracebackType

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output.folder import SEG
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import Watch

POLL_S = 0.1
PATIENCE_S = 60.0
"""A SEG of many frames takes a second or two; a machine that is short of memory takes longer."""


class ScribeLost(Exception):
    """The scribe did not start, or ended: whoever asked does it."""


class Scribe:
    """The process. A context manager; not to be shared between threads."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._talk = ThreadPoolExecutor(1, "npc-edge-scribe")

    def __enter__(self) -> Scribe:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
        self._talk.shutdown(cancel_futures=True)

    @property
    def pid(self) -> int | None:
        """The running scribe's process id."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self) -> None:
        """Start it, or start it again after it ended; what it loads takes it half a second."""
        if self.pid is not None:
            return
        self.stop()
        # -P: the working directory is never searched for modules.
        command = [sys.executable, "-P", "-m", "npc_edge.engine.output.scribe_child"]
        with contextlib.suppress(OSError):  # no process to be had: ScribeLost when it is asked
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )

    def ask(self, name: str, outcome: Outcome, previous: Path | None = None) -> Future[bytes]:
        """The bytes of `objects.encoded`, some time from now. Its error is the work's own, or ScribeLost."""
        return self._talk.submit(_asked, self._process, (name, outcome.for_dicom(), previous))

    def stop(self) -> None:
        """End it, whatever it is at: what was asked of it is lost."""
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                assert pipe is not None
                pipe.close()


class Drafts:
    """The objects of one run: some begun before it is over. watch: asked while one is waited for. patience_s:
    after that long a scribe that has not answered is lost."""

    def __init__(self, scribe: Scribe, watch: Watch, patience_s: float = PATIENCE_S) -> None:
        self._scribe, self._watch, self._patience_s = scribe, watch, patience_s
        self._begun: tuple[Outcome, Future[bytes]] | None = None

    def begin(self, outcome: Outcome) -> None:
        """Begin with the SEG of a run whose masks are there, while the rest of it is to come."""
        masks = outcome.segmentation
        if outcome.writes_dicom and (masks.tumour_slices or masks.structures.any()):
            self._begun = outcome, self._scribe.ask(SEG, outcome)

    def object(self, name: str, outcome: Outcome, previous: Path | None) -> Future[bytes]:
        """What was begun, where it is of these very masks and bears the same UIDs, or what is begun now."""
        if name == SEG and self._begun is not None:
            drawn, promised = self._begun
            same_masks = drawn.segmentation is outcome.segmentation
            if same_masks and drawn.facts.fingerprint == outcome.facts.fingerprint:
                return promised
        return self._scribe.ask(name, outcome, previous)

    def wait(self, promised: Future[bytes]) -> bytes:
        """An object's bytes. Raises ScribeLost, what stopped the work, or what the watch raises."""
        until = time.monotonic() + self._patience_s
        while not wait([promised], POLL_S).done:
            self._watch.check()
            if time.monotonic() > until:
                self._scribe.stop()
                raise ScribeLost("it does not answer")
        return promised.result()


def _asked(process: subprocess.Popen[bytes] | None, request: tuple[str, Outcome, Path | None]) -> bytes:
    """Send a request and wait for its answer. A talk that breaks off ends the process: what was left of it
    would be taken for the next answer."""
    if process is None:
        raise ScribeLost("no process")
    assert process.stdin is not None
    assert process.stdout is not None
    whole = False
    try:
        pickle.dump(request, process.stdin, protocol=5)
        process.stdin.flush()
        answer = pickle.load(process.stdout)
        whole = isinstance(answer, bytes | OutputError | OSError)
    except (OSError, EOFError, ValueError, MemoryError, pickle.UnpicklingError) as error:
        raise ScribeLost(type(error).__name__) from error
    finally:
        if not whole:
            process.kill()
            process.wait()  # from now on it counts as ended
    if isinstance(answer, OutputError | OSError):
        raise answer
    if not isinstance(answer, bytes):
        raise ScribeLost("no answer")
    return answer
