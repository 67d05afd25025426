"""The scribe: makes DICOM objects beside a session. Started by `scribe.Scribe`, one per Session.

A request is a pickle (name, outcome, previous) on standard input, its answer a pickle of the object's bytes,
or of the error that stopped it, on standard output. It writes no file. Anything unforeseen ends it: the
session then does the work itself, and tells what is wrong.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import sys

from npc_edge.engine.errors import OutputError
from npc_edge.engine.machine import GC_THRESHOLD
from npc_edge.engine.output import objects, seg


def main() -> None:
    """Answer requests until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the session decides when to stop
    gc.set_threshold(*GC_THRESHOLD)
    # What a library prints must not end up among the answers.
    with os.fdopen(os.dup(sys.stdout.fileno()), "wb") as out:
        os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
        seg.load_tables()
        while True:
            try:
                name, outcome, previous = pickle.load(sys.stdin.buffer)
            except EOFError:
                return
            try:
                answer: bytes | Exception = objects.encoded(name, outcome, previous)
            except (OutputError, OSError) as error:
                answer = error
            pickle.dump(answer, out, protocol=5)
            out.flush()
            del outcome, answer


if __name__ == "__main__":
    main()
