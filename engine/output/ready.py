"""Getting ready to write DICOM while the study is still being looked at.

What writes it is read from disk on first use, modules by the hundred. The stations before output leave a
core to it: a run in a new process need not wait at its end.
"""

from __future__ import annotations

import contextlib
from functools import cache
from threading import Thread

from npc_edge.engine.output.scribe import Scribe
from npc_edge.engine.types import OnProgress, Progress, Station

_WHEN: Station = "align"
"""From here on a study is rarely refused, and little of the work is Python's own."""


def while_it_runs(on_progress: OnProgress | None, scribe: Scribe) -> OnProgress:
    """The same, and once a run has read its study, the scribe starts and a thread loads what reads back."""

    def forward(step: Progress) -> None:
        if step.station == _WHEN:
            scribe.start()
            get_ready()
        if on_progress is not None:
            on_progress(step)

    return forward


@cache
def get_ready() -> Thread:
    """Start a thread that loads what `publish` will ask for; the same one however often it is called."""
    thread = Thread(target=_load, name="npc-edge-ready")
    thread.start()
    return thread


def _load() -> None:
    # A library that does not load is told by the one who needs it.
    with contextlib.suppress(ImportError):
        from PIL import Image

        from npc_edge.engine.output import rtstruct, segments, sr_content  # noqa: F401

        Image.preinit()
