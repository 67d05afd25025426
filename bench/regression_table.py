"""The regression's numbers as a table a person can read (Markdown, so that it can be quoted as it is)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from npc_edge.bench.measures import Interval
from npc_edge.bench.scoring import COLUMNS, STAGES

Summary = dict[str, Any]


def table(summary: Summary) -> str:
    """The whole report of a summary."""
    parts = [
        f"# {summary['title']}",
        f"{summary['tumour']} phantoms with a tumour, {summary['healthy']} without. A refusal counts as "
        "probability 0.5, Dice 0 and a wrong category. Intervals are 95 %: DeLong (AUC), bootstrap (Dice), "
        "Wilson (proportions).",
        _headline(summary),
        *(_confusion(summary["category"][edition], edition) for edition in summary["category"]),
        _criteria(summary["criteria"]),
        _acquisitions(summary["by_acquisition"]),
        _refusals(summary["refusals"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _headline(summary: Summary) -> str:
    eighth, ninth, baseline = summary["category"]["ajcc8"], summary["category"]["ajcc9"], summary["baseline"]
    rows = [
        ("AUC", _text(summary["auc"]), _text(baseline["auc"])),
        ("Brier", _figure(summary["brier"]), ""),
        ("sensitivity (suspicious)", _text(summary["sensitivity"]), ""),
        ("specificity (not suspicious)", _text(summary["specificity"]), ""),
        ("Dice, mean", _text(summary["dice"]), ""),
        *((f"Dice, {stage}", _text(summary["dice_by_stage"][stage]), "") for stage in STAGES),
        ("T category exact, AJCC 8", _text(eighth["exact"]), _text(baseline["exact"])),
        ("T category within one, AJCC 8", _text(eighth["within_one"]), _text(baseline["within_one"])),
        ("T category exact, AJCC version 9", _text(ninth["exact"]), ""),
        ("T category within one, AJCC version 9", _text(ninth["within_one"]), ""),
        ("indeterminate", str(summary["indeterminate"]), ""),
        ("refused", _text(summary["refused"]), ""),
    ]
    return _markdown(("measure", "engine", f"baseline: {baseline['feature']}"), rows)


def _confusion(category: Summary, edition: str) -> str:
    name = {"ajcc8": "AJCC 8", "ajcc9": "AJCC version 9"}[edition]
    rows = [(truth, *(str(category["confusion"][truth][got]) for got in COLUMNS)) for truth in STAGES]
    return _markdown((f"truth ↓ said → ({name})", *(column.replace("_", " ") for column in COLUMNS)), rows)


def _criteria(criteria: Summary) -> str:
    rows = [
        (
            name,
            str(row["sensitivity"][3]),
            *(_text(row[k]) for k in ("sensitivity", "at_least_equivocal", "specificity")),
        )
        for name, row in criteria.items()
    ]
    head = (
        "criterion",
        "invaded in",
        "sensitivity, unequivocal",
        "sensitivity, at least equivocal",
        "specificity",
    )
    return _markdown(head, rows) if rows else ""


def _acquisitions(groups: Summary) -> str:
    rows = [
        (kind, str(row["cases"]), *(_figure(row[k]) for k in ("auc", "dice", "exact")), str(row["refused"]))
        for kind, row in groups.items()
    ]
    return _markdown(("acquisition", "cases", "AUC", "Dice", "T category exact, AJCC 8", "refused"), rows)


def _refusals(refusals: Summary) -> str:
    if not refusals:
        return "No phantom was refused."
    return "Refused: " + ", ".join(f"{code} {count}" for code, count in refusals.items())


def _text(packed: Sequence[float]) -> str:
    value, low, high, n = packed
    return "not measured" if n == 0 else Interval(value, low, high, int(n)).text()


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
