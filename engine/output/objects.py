"""The DICOM objects that highdicom makes, as bytes. Loading it takes half a second, once."""

from __future__ import annotations

from pathlib import Path

from npc_edge.engine.output import dicom, seg, sr
from npc_edge.engine.output.folder import SEG
from npc_edge.engine.output.outcome import Outcome


def encoded(name: str, outcome: Outcome, previous: Path | None = None) -> bytes:
    """What is to lie in seg.dcm, for a run with something to show, or in sr.dcm.

    previous: the sr.dcm of the run that this one replaces, if there is one.
    """
    if name == SEG:
        return dicom.encoded(seg.build(outcome), outcome.facts.version)
    return dicom.encoded(sr.build(outcome, sr.predecessor(outcome, previous)), outcome.facts.version)
