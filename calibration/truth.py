"""What is known of a case now, from all that was ever said of it; and what cannot be said."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from npc_edge.calibration.record import Truth

CATEGORIES = ("T1", "T2", "T3", "T4")
SOURCES = ("biopsy", "radiologist")
REVIEWS = ("accept", "reject", "corrected")
EDITIONS = ("ajcc8", "ajcc9")


def fault(truth: Truth) -> str:
    """Why a label cannot be taken, in a few words that quote nothing of it; "" when it can."""
    if truth.source not in SOURCES:
        return f"the source is one of {', '.join(SOURCES)}"
    if truth.edition not in EDITIONS:
        return f"the edition is one of {', '.join(EDITIONS)}"
    if truth.category is not None and truth.category not in CATEGORIES:
        return f"the T category is one of {', '.join(CATEGORIES)}"
    if truth.review is not None and truth.review not in REVIEWS:
        return f"the review is one of {', '.join(REVIEWS)}"
    if truth.npc is False and (truth.category is not None or any(truth.criteria.values())):
        return "a case without NPC has no T category and nothing involved"
    if truth.dice is not None and (truth.review != "corrected" or not 0 <= truth.dice <= 1):
        return "Dice goes with a corrected mask and lies between 0 and 1"
    if truth.npc is None and truth.category is None and truth.review is None and not truth.criteria:
        return "it says nothing: give npc, a T category, criteria or a review"
    try:
        date.fromisoformat(truth.on)
    except ValueError:
        return "the date is YYYY-MM-DD"
    return ""


def standing(history: Iterable[Truth]) -> Truth | None:
    """One value of all labels of a case, in the order they were entered: each overrides what it speaks of.

    "No NPC" withdraws every earlier category and criterion. source, on and at are of the last label.
    """
    known: Truth | None = None
    for label in history:
        known = label if known is None else _over(known, label)
    return known


def _over(known: Truth, label: Truth) -> Truth:
    if label.npc is False:
        known = replace(known, category=None, criteria={})
    reviewed = label.review is not None
    return replace(
        label,
        npc=known.npc if label.npc is None else label.npc,
        category=known.category if label.category is None else label.category,
        edition=known.edition if label.category is None else label.edition,
        criteria={**known.criteria, **label.criteria},
        review=label.review if reviewed else known.review,
        dice=label.dice if reviewed else known.dice,
    )
