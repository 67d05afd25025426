"""Records with what became known of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.record import CaseRecord, Truth
from npc_edge.calibration.truth import standing

Floats = NDArray[np.float64]


def current(truths: Iterable[Truth]) -> dict[str, Truth]:
    """What is now held true of each case: a later entry supersedes an earlier one in what it speaks of."""
    said: dict[str, list[Truth]] = {}
    for truth in sorted(truths, key=attrgetter("at")):
        said.setdefault(truth.case_key, []).append(truth)
    return {case: known for case, history in said.items() if (known := standing(history)) is not None}


@dataclass(frozen=True)
class Pair:
    """A record and what is held true of its case; index: of the record among those given."""

    index: int
    record: CaseRecord
    truth: Truth


def pairs_of(records: Sequence[CaseRecord], truths: Iterable[Truth]) -> tuple[Pair, ...]:
    """Every record whose case something is known of, in the records' order."""
    known = current(truths)
    return tuple(
        Pair(index, record, known[record.case_key])
        for index, record in enumerate(records)
        if record.case_key in known
    )


def labels(count: int, pairs: Iterable[Pair]) -> Floats:
    """(count,): 1 with NPC, 0 without, NaN where it is not known."""
    found = np.full(count, np.nan)
    for pair in pairs:
        if pair.truth.npc is not None:
            found[pair.index] = float(pair.truth.npc)
    return found


def said_category(pair: Pair) -> str | None:
    """The record's category under the edition of the truth."""
    return pair.record.category_ajcc9 if pair.truth.edition == "ajcc9" else pair.record.category_ajcc8
