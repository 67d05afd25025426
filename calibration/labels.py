"""Labels from a table, as a pathology list or a reporting system exports it: a CSV with a header row.

Columns, in any order; all but one of the first two and `source`, `date` may be missing or empty:

    accession_number   as in the DICOM header (0008,0050); hashed at once, never kept or printed
    case_key           the study's key in result.json, instead of the accession number
    source             biopsy | radiologist
    date               of the finding, YYYY-MM-DD
    npc                yes | no
    t_category         T1 | T2 | T3 | T4
    edition            ajcc8 (default) | ajcc9
    criteria           what is involved and what is not: "clivus=yes parotid.left=no"
    review             accept | reject | corrected: what was done with the mask
    dice               of the corrected mask against the engine's, 0 to 1

Comma or semicolon between columns. A fault is named by its line and never quotes a value.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Set
from dataclasses import dataclass, replace
from typing import Any

from npc_edge.calibration.record import Truth
from npc_edge.calibration.truth import fault

COLUMNS = (
    "accession_number",
    "case_key",
    "source",
    "date",
    "npc",
    "t_category",
    "edition",
    "criteria",
    "review",
    "dice",
)
UNKNOWN = "no run is known of this study"
_WORDS = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}

Find = Callable[[str, str], tuple[str, ...]]
"""(accession number, case key), one of them empty → the case keys of the runs known of it."""


class LabelFault(Exception):
    """Rows that cannot be taken: (line, why) of each, in order."""

    def __init__(self, faults: list[tuple[int, str]]) -> None:
        super().__init__(f"{len(faults)} rows cannot be taken")
        self.faults = faults

    def one_line(self, most: int = 5) -> str:
        """The first few, on one line."""
        named = "; ".join(f"line {line}: {why}" for line, why in self.faults[:most])
        more = len(self.faults) - most
        return named + (f"; and {more} more" if more > 0 else "")


@dataclass(frozen=True)
class Labels:
    """truths: what the table says. unknown: how many rows are of studies that were never run."""

    truths: tuple[Truth, ...]
    unknown: int


def read_labels(text: str, find: Find, structures: Set[str], at: int, skip_unknown: bool = False) -> Labels:
    """All of a table, or LabelFault with every line that is wrong.

    structures: names that criteria may have, without a side. at: UTC, milliseconds since 1970.
    skip_unknown: rows of studies never run are counted and left out.
    """
    truths: list[Truth] = []
    faults: list[tuple[int, str]] = []
    unknown = 0
    for line, row in _rows(text):
        try:
            truth = _truth(row, structures, at)
            truths.append(replace(truth, case_key=_case(row, find)))
        except _UnknownCase:
            unknown += 1
            if not skip_unknown:
                faults.append((line, UNKNOWN))
        except ValueError as error:
            faults.append((line, str(error)))
    if faults:
        raise LabelFault(faults)
    return Labels(tuple(truths), unknown)


class _UnknownCase(Exception):
    pass


def _rows(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """(line, column → value without blanks around it) of every row that is not empty."""
    first = text.partition("\n")[0]
    reader = csv.reader(text.splitlines(), delimiter=";" if ";" in first else ",", strict=True)
    names: list[str] | None = None
    try:
        for cells in reader:
            values = [cell.strip() for cell in cells]
            if names is None:
                names = _header([value.lower() for value in values])
            elif any(values):
                if len(values) != len(names):
                    raise LabelFault([(reader.line_num, "it has not as many cells as the header")])
                yield reader.line_num, dict(zip(names, values, strict=True))
    except csv.Error as error:
        raise LabelFault([(reader.line_num, "its quotes do not close")]) from error
    if names is None:
        raise LabelFault([(1, "there is no header row")])


def _header(names: list[str]) -> list[str]:
    """A header that names something else may be a patient's row: it is not quoted either."""
    strange = [str(place) for place, name in enumerate(names, start=1) if name not in COLUMNS]
    if strange or len(set(names)) < len(names):
        where = f"column {', '.join(strange)} is none of them" if strange else "one is there twice"
        raise LabelFault([(1, f"the columns are {', '.join(COLUMNS)}; {where}")])
    if not {"accession_number", "case_key"} & set(names):
        raise LabelFault([(1, "there is neither a column accession_number nor case_key")])
    return names


def _truth(row: dict[str, str], structures: Set[str], at: int) -> Truth:
    """ValueError says why not."""
    given: dict[str, Any] = {
        "source": row.get("source", "").lower(),
        "on": row.get("date", ""),
        "npc": _yes_no(row.get("npc", "")),
        "category": row.get("t_category", "").upper() or None,
        "edition": row.get("edition", "").lower() or "ajcc8",
        "criteria": criteria_of(row.get("criteria", "").split(), structures),
        "review": row.get("review", "").lower() or None,
        "dice": _number(row.get("dice", "")),
    }
    truth = Truth(case_key="", at=at, **given)
    if why := fault(truth):
        raise ValueError(why)
    return truth


def criteria_of(pairs: list[str], structures: Set[str]) -> dict[str, bool]:
    """ "clivus=yes", "parotid.left=no" → structure → involved. ValueError says why not."""
    found: dict[str, bool] = {}
    for pair in pairs:
        name, _, answer = pair.lower().partition("=")
        structure, _, side = name.partition(".")
        if structure not in structures or side not in ("", "left", "right", "midline"):
            raise ValueError("a criterion has a name the rules do not know")
        involved = _yes_no(answer)
        if involved is None:
            raise ValueError("a criterion is yes or no")
        found[name] = involved
    return found


def _yes_no(word: str) -> bool | None:
    if not word:
        return None
    if word.lower() not in _WORDS:
        raise ValueError("an answer is yes or no")
    return _WORDS[word.lower()]


def _number(word: str) -> float | None:
    try:
        return float(word.replace(",", ".")) if word else None
    except ValueError:
        raise ValueError("Dice is a number") from None


def _case(row: dict[str, str], find: Find) -> str:
    accession, key = row.get("accession_number", ""), row.get("case_key", "").lower()
    if bool(accession) == bool(key):
        raise ValueError("give either an accession number or a case key")
    cases = find(accession, key)
    if not cases:
        raise _UnknownCase
    if len(cases) > 1:
        raise ValueError("several studies have this accession number: give the case key")
    return cases[0]
