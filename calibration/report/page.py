"""The monitor's report as one HTML file: pictures inside, nothing fetched, no script; print it for a PDF.

A content security policy forbids scripts and every network request, whatever an alias or a note holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files

from npc_edge.calibration.alarms import Alarm
from npc_edge.calibration.markup import Markup, page_style, tag
from npc_edge.calibration.record import Verdict
from npc_edge.calibration.report import alarm_sections, number_sections, wording
from npc_edge.calibration.report.values import Content

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def render(content: Content, verdicts: Sequence[Verdict], alarms: Sequence[Alarm]) -> str:
    """The whole page. verdicts: all of them, the quiet ones for what they could have seen."""
    overview = content.overview
    main = tag(
        "main",
        alarm_sections.lead(overview, verdicts, alarms),
        alarm_sections.first_steps(overview, alarms),
        number_sections.facts(content),
        alarm_sections.alarms(alarms, overview.view),
        number_sections.reliability(content.reliability),
        number_sections.trends(content.trends),
        number_sections.groups(content.groups),
        number_sections.agreement(content.agreement),
        alarm_sections.artefacts(verdicts),
        alarm_sections.watchers(verdicts, alarms),
        number_sections.not_assessed(content.not_assessed),
        _whose_data(),
    )
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", f"npc-edge monitor report, {wording.day(overview.made_at)}, research use only"),
        tag("style", Markup(_style())),
    )
    body = tag("body", _banner(overview.made_at), main, _footer(content))
    return f"<!DOCTYPE html>\n{tag('html', head, body, lang='en')}\n"


def _style() -> str:
    return page_style() + files("npc_edge.calibration.report").joinpath("report.css").read_text(
        encoding="utf-8"
    )


def _banner(made_at: int) -> Markup:
    return tag(
        "header",
        tag("strong", wording.RESEARCH),
        tag("span", "monitor of calibration and drift"),
        tag("span", f"made on {wording.day(made_at)}, times in UTC"),
        class_="banner",
    )


def _whose_data() -> Markup:
    return tag(
        "section",
        tag("h2", "Whose data this is"),
        [tag("p", sentence) for sentence in wording.PSEUDONYMOUS],
        class_="whose",
    )


def _footer(content: Content) -> Markup:
    overview = content.overview
    made = ", ".join(overview.bundles) or "no bundle"
    return tag(
        "footer",
        f"{wording.RESEARCH}. Not a medical device; no basis for a diagnosis or a treatment. ",
        f"Bundles: {made}. Artefacts: {', '.join(overview.artefacts) or 'none'}.",
    )
