"""report.html: one file for a person to read, with its pictures inside and nothing fetched from anywhere.

A content security policy forbids scripts and every network request, whatever text a header holds.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

from npc_edge.calibration.markup import Child, Markup, join, page_style, tag
from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import report_sections as sections
from npc_edge.engine.output import wording
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.report_images import Images
from npc_edge.engine.output.result import document
from npc_edge.engine.output.schema import ResultDocument

_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render(outcome: Outcome) -> str:
    """The whole page."""
    doc = document(outcome)
    key = doc.study.key if doc.study is not None else "NIfTI input"
    parts = _refused(outcome, doc) if doc.outcome == "no-result" else _concluded(outcome, doc)
    toggle = tag("input", type="checkbox", id="hide", class_="toggle", aria_label="hide outlines")
    body = tag("body", toggle, _banner(key), tag("main", parts), _footer(doc, key))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"npc-edge report, {wording.RESEARCH.lower()}"),
        tag("style", Markup(_style())),
    )
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _style() -> str:
    own = files("npc_edge.engine.output").joinpath("report.css").read_text(encoding="utf-8")
    return page_style() + own


def _banner(key: str) -> Markup:
    return tag(
        "header",
        tag("strong", wording.RESEARCH),
        tag("span", "not for filing"),
        tag("span", "Study key ", tag("span", key, class_="mono")),
        class_="banner",
    )


def _refused(outcome: Outcome, doc: ResultDocument) -> list[Child]:
    return [
        sections.lead(outcome, doc),
        sections.refusal(doc),
        sections.series(doc),
        sections.quality(doc),
        sections.run(outcome, doc),
    ]


def _concluded(outcome: Outcome, doc: ResultDocument) -> list[Child]:
    images = Images(outcome)
    drawn = bool(outcome.segmentation.tumour_slices)
    extent = images.extent()
    evidence = images.evidence()
    return [
        sections.lead(outcome, doc),
        sections.key_facts(outcome, doc),
        sections.section(
            "Extent" if drawn else "Where was looked",
            _legend(drawn, bool(evidence)),
            tag("div", extent, class_="figures"),
        ),
        sections.evidence(outcome, doc),
        tag("section", tag("h3", "Images of the evidence"), tag("div", evidence, class_="figures"))
        if evidence
        else None,
        sections.series(doc),
        sections.quality(doc),
        sections.run(outcome, doc),
    ]


def _legend(drawn: bool, structures: bool) -> Markup:
    label = tag(
        "label",
        tag("span", "hide outlines", class_="on"),
        tag("span", "show outlines", class_="off"),
        for_="hide",
    )
    return tag(
        "div",
        tag("span", tag("i"), "tumour outline, along voxel edges") if drawn else None,
        tag("span", tag("i", class_="structure"), "structure concerned") if structures else None,
        tag(
            "span",
            "L and R are the patient's sides; the bar is 2 cm; every sequence on the first one's slices",
        ),
        label if drawn else None,
        class_="legend",
    )


def _footer(doc: ResultDocument, key: str) -> Markup:
    job = f" Correlation {doc.correlation}." if doc.correlation else ""
    return tag(
        "footer",
        f"{wording.RESEARCH}. Not a medical device; not for diagnosis, treatment or a patient's record. ",
        f"The study key {key} is a salted hash, a pseudonym; the pictures are still of a patient.",
        job,
    )


def write(outcome: Outcome, path: Path) -> None:
    """Write report.html as UTF-8."""
    path.write_text(render(outcome), encoding="utf-8", newline="\n")


def check(outcome: Outcome, path: Path) -> None:
    """Read it back; OutputError unless it is whole and is this study's."""
    text = path.read_text(encoding="utf-8")
    whole = text.startswith("<!DOCTYPE html>") and text.endswith("</html>\n")
    if not whole or str(join(wording.headline(outcome))) not in text:
        raise OutputError("report.html does not hold what was meant", "is the disk full?")
