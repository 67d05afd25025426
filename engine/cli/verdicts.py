"""The table of verdicts that `quantize` and `verify --cases` share."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from npc_edge.engine.model.parity import Verdict


def table(rows: Iterable[tuple[str, str, Verdict]]) -> Table:
    """rows: what was held against the original, what ran it (or what else is to be said), the verdict."""
    from rich.table import Column, Table

    made = Table(
        Column("what", overflow="fold", min_width=12),
        Column("runs on", overflow="fold", min_width=11),
        *("largest error", "Dice fall", "agreement", "T changed"),
        Column("verdict", overflow="fold", min_width=10),
    )
    for what, where, v in rows:
        made.add_row(
            what.removeprefix("artefacts/"),
            where,
            f"{v.relative_error:.1e}",
            f"{v.delta_dice:+.4f}",
            f"{v.dice:.4f}",
            f"{v.category_changes} of {v.cases} (≤ {v.category_bound:.1%})",
            "within the gate" if v else "; ".join(v.why),
        )
    return made
