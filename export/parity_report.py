"""The parity report of a bundle: what each artefact says beside the original, as one HTML file with plots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from npc_edge.calibration.markup import Child, Markup, join, table, tag
from npc_edge.engine.model.parity import CaseParity, Verdict

_SIDE = 150
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2530; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 } caption { text-align: left; font-weight: 600 }
th, td { border-bottom: 1px solid #dde3e9; padding: .25rem .7rem; text-align: left; vertical-align: top }
figure { display: inline-block; margin: 0 1.5rem 1rem 0 } svg { width: 16rem } .failed { color: #8c1d18 }
"""


@dataclass(frozen=True)
class Tried:
    """What ran, a network's artefact on a backend at an execution precision on an instruction set, and what
    came of it. diverged: the layer that diverged first, of a pair that failed."""

    network: str
    artefact: str
    backend: str
    precision: str
    isa: str
    verdict: Verdict
    cases: tuple[CaseParity, ...]
    diverged: str = ""

    @property
    def name(self) -> str:
        return f"{self.artefact} on {self.backend}, {self.precision} ({self.isa})"


def html(title: str, lines: Sequence[str], pairs: Sequence[Tried]) -> str:
    """The whole report. lines: what it was measured on, in words."""
    body = [
        tag("h1", title),
        tag("p", tag("strong", "Research use only."), " ", " ".join(lines)),
        table(_HEAD, [_row(pair) for pair in pairs], "Every artefact beside the fp32 original"),
        tag("p", _LEGEND),
        [_section(pair) for pair in pairs],
    ]
    head = [tag("meta", charset="utf-8"), tag("title", title), tag("style", Markup(_STYLE))]
    return "<!doctype html>\n" + tag("html", tag("head", head), tag("body", body), lang="en") + "\n"


_HEAD = (
    "artefact, backend, precision",
    "largest relative error",
    "Dice: fall, agreement",
    "HD95, ASSD (mm)",
    "probability: mean, largest shift",
    "T category changed (95 % bound)",
    "verdict",
)
_LEGEND = (
    "Fall: mean Dice against the truth of the original less that of the artefact (against the original "
    "itself where no truth is known). Agreement, HD95 and ASSD: the artefact's tumour mask against the "
    "original's. Probabilities are compared after each score was calibrated. The bound is the upper end of "
    "the one-sided 95 % interval of the share of cases whose T category changes."
)


def _row(pair: Tried) -> list[Child]:
    v = pair.verdict
    return [
        pair.name,
        f"{v.relative_error:.1e}",
        f"{v.delta_dice:+.4f}, {v.dice:.4f}" + ("" if v.against_truth else " (no truth)"),
        f"{_mm(v.hd95_mm)}, {_mm(v.assd_mm)}",
        "no score"
        if v.probability_shift is None
        else f"{v.probability_shift:.4f}, {v.probability_shift_max:.4f}",
        f"{v.category_changes} of {v.cases} (≤ {v.category_bound:.1%})",
        "within the gate" if v else tag("span", "; ".join(v.why), class_="failed"),
    ]


def _section(pair: Tried) -> Markup:
    dice = [(c.dice_reference, c.dice_candidate) for c in pair.cases]
    scores = [(c.score_reference, c.score_candidate) for c in pair.cases]
    figures = [
        _scatter("Dice against the truth", _known(dice)),
        _scatter("score (logit)", _known(scores)),
        _scatter("agreement of the masks, sorted", _sorted([c.dice for c in pair.cases])),
    ]
    first = tag("p", f"Diverged first at {pair.diverged}.", class_="failed") if pair.diverged else None
    return tag("section", tag("h2", pair.name), first, join([f for f in figures if f is not None]))


def _known(points: Sequence[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    return [(a, b) for a, b in points if a is not None and b is not None and math.isfinite(a + b)]


def _sorted(values: Sequence[float]) -> list[tuple[float, float]]:
    ordered = sorted(values)
    return [(i / max(len(ordered) - 1, 1), v) for i, v in enumerate(ordered)]


def _scatter(title: str, points: Sequence[tuple[float, float]]) -> Markup | None:
    """Original along x, artefact along y, and the line on which both say the same."""
    if not points:
        return None
    low = min(min(point) for point in points)
    high = max(max(point) for point in points)
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return 20 + (_SIDE - 30) * (value - low) / span

    def dot(point: tuple[float, float]) -> Markup:
        x, y = f"{place(point[0]):.1f}", f"{_SIDE - place(point[1]):.1f}"
        return tag("circle", cx=x, cy=y, r=2, fill="#1f4e79", fill_opacity=0.6)

    ends = place(low), place(high)
    line = f"M{ends[0]:.1f} {_SIDE - ends[0]:.1f}L{ends[1]:.1f} {_SIDE - ends[1]:.1f}"
    parts = [
        tag("path", d=line, stroke="#c9d8e6", stroke_width=1),
        [dot(point) for point in points],
        tag("text", f"{low:.3g}", x=f"{ends[0]:.1f}", y=_SIDE - 4, font_size=7, fill="#5a6673"),
        tag(
            "text",
            f"{high:.3g}",
            x=f"{ends[1]:.1f}",
            y=_SIDE - 4,
            text_anchor="end",
            font_size=7,
            fill="#5a6673",
        ),
        tag("text", "original → artefact ↑", x=20, y=10, font_size=7, fill="#5a6673"),
    ]
    words = f"{title}: {len(points)} cases, original against artefact"
    drawn = tag("svg", parts, viewBox=f"0 0 {_SIDE} {_SIDE}", role="img", aria_label=words)
    return tag("figure", drawn, tag("figcaption", title))


def _mm(value: float) -> str:
    return f"{value:.2f}" if math.isfinite(value) else "no mask in common"
