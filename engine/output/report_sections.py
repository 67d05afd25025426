"""The report's sections, each from the document that becomes result.json (so the two cannot disagree)."""

from __future__ import annotations

from npc_edge.calibration.markup import Child, Markup, pairs, table, tag
from npc_edge.engine.output import wording
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.reason_texts import explain
from npc_edge.engine.output.report_charts import distribution, gauge
from npc_edge.engine.output.schema import EvidenceEntry, ResultDocument, SeriesEntry
from npc_edge.engine.types import TCategory

_EVIDENCE_WORDS = {
    "synthetic": "synthetic studies only: no clinical validity whatsoever",
    "retrospective": "retrospective patient data",
    "prospective": "prospective patient data",
}


def section(title: str, *children: Child) -> Markup:
    """A section with its heading."""
    return tag("section", tag("h2", title), children)


def lead(outcome: Outcome, doc: ResultDocument) -> Markup:
    """The conclusion, and what to know before believing it."""
    finding = "refused" if doc.outcome == "no-result" else doc.detection.finding if doc.detection else ""
    lines: list[Child] = [tag("h1", wording.headline(outcome))]
    if doc.detection is not None and doc.detection.why:
        lines.append(tag("p", doc.detection.why))
    if doc.outcome == "result":
        lines.append(tag("p", f"{wording.NOT_STAGED}. Unreviewed output of an algorithm.", class_="soft"))
    note = None
    if outcome.synthetic:
        note = tag(
            "p",
            tag("strong", "Demonstration bundle. "),
            "It was trained and calibrated on synthetic studies only and says nothing about a patient.",
            class_="note",
        )
    return tag("section", tag("div", lines, class_=f"lead {finding}"), note)


def refusal(doc: ResultDocument) -> Markup:
    """Why there is no result, in plain words, and what to do."""
    blocks = []
    for reason in doc.reasons:
        meaning, advice = explain(reason.code)
        blocks.append(
            tag(
                "div",
                tag("h3", meaning),
                tag("p", reason.message),
                tag("p", tag("strong", "What to do: "), advice),
                tag("p", "Reason code ", tag("span", reason.code, class_="mono"), class_="soft small"),
            )
        )
    return section("Why there is no result", blocks)


def key_facts(outcome: Outcome, doc: ResultDocument) -> Markup:
    """Cards: score, volume, T category under both editions."""
    cards = [_score_card(outcome, doc), _volume_card(doc)]
    staging, told = outcome.concluded.staging, doc.staging
    if staging is not None and told is not None:
        editions = (("ajcc8", staging.ajcc8, told.ajcc8), ("ajcc9", staging.ajcc9, told.ajcc9))
        for name, item, entry in editions:
            if item is not None and entry is not None:
                words = wording.category(staging, item), wording.set_words(entry)
                cards.append(_category_card(wording.EDITIONS[name], words, item))
    return tag("dl", cards, class_="facts")


def _card(title: str, big: Child, *rest: Child) -> Markup:
    return tag("div", tag("dt", title), tag("dd", tag("div", big, class_="big"), rest), class_="fact")


def _score_card(outcome: Outcome, doc: ResultDocument) -> Markup | None:
    detection, spec = doc.detection, outcome.manifest.detection
    if detection is None or spec is None:
        return None
    calibration, point = detection.calibration, detection.operating_point
    words = (
        f"Calibrated by {calibration.method} on {calibration.cases} cases"
        f" ({calibration.population or 'population not stated'}; prevalence {calibration.prevalence:.0%}). "
        if calibration.cases
        else "Not calibrated. "
    )
    point_words = (
        f"At the threshold: sensitivity {point.sensitivity:.0%}, "
        f"specificity {point.specificity:.0%} on {point.on}."
    )
    return _card(
        wording.score_name(outcome),
        f"{detection.probability:.2f}",
        gauge(detection.probability, detection.threshold, (spec.indeterminate_low, spec.indeterminate_high)),
        tag("p", f"{wording.interval_words(detection)}.", class_="small"),
        tag("p", f"{moved}.", class_="small") if (moved := wording.prevalence_words(detection)) else None,
        tag("p", words + point_words, class_="small soft"),
    )


def _volume_card(doc: ResultDocument) -> Markup | None:
    if doc.tumour is None or doc.tumour.volume_ml <= 0:
        return None
    parts = doc.tumour.components
    pieces = "one piece" if parts == 1 else f"{parts} separate pieces"
    return _card("Segmented volume", f"{doc.tumour.volume_ml:.1f} ml", tag("p", pieces, class_="small soft"))


_NOTHING_TO_CATEGORISE = "there is no suspicious finding to categorise"


def _category_card(edition: str, words: tuple[str, str], item: TCategory) -> Markup:
    """words: the category's, and those of its set."""
    big, _, why = words[0].partition(" (")
    doubt = tag("p", why.removesuffix(")").capitalize(), class_="small") if why else None
    flag = wording.disagreement(item)
    return _card(
        f"T category, {edition}",
        big,
        doubt,
        distribution(item.distribution),
        tag("p", f"{words[1]}.", class_="small"),
        tag("p", tag("strong", "Flagged: "), flag, class_="small note") if flag else None,
    )


def evidence(outcome: Outcome, doc: ResultDocument) -> Markup | None:
    """What decides the category, with a link to its picture, and what could not be judged."""
    staging = doc.staging
    if staging is None:
        return None
    context = f"Context: {staging.context}. Cranial nerves: {staging.cranial_nerves}. "
    rules = tag("p", f"{context}Rules: version {staging.rules_version or 'not stated'}.", class_="soft small")
    if staging.ajcc8 is None and staging.ajcc9 is None:
        whys = sorted({n.why for n in staging.not_assessable})
        asked = doc.detection is None or doc.detection.finding == "suspicious"
        why = f"not assessable ({'; '.join(whys)})" if asked and whys else _NOTHING_TO_CATEGORISE
        words = f"No T category: {why}. {wording.NOT_STAGED}."
        return section("T category", tag("p", words), rules)
    head = ("Structure", "Status", "Stands for", "Overlap", "Depth in plane", "Slices", "Image", "Note")
    rows = [_evidence_row(number, item) for number, item in enumerate(staging.evidence, 1)]
    shown = table(head, rows, "Overlap of the tumour with each structure; equivocal evidence never upstages")
    nothing = tag("p", "No structure beyond the nasopharynx is involved by these rules.", class_="soft")
    hidden = [
        tag("li", tag("strong", wording.structure(n.structure, n.side)), f": {n.why}", _would_be(n.category))
        for n in staging.not_assessable
    ]
    return section(
        "Evidence for the T category",
        shown if rows else nothing,
        [tag("h3", "Not assessed"), tag("ul", hidden, tag("li", wording.NOT_STAGED))],
        rules,
    )


def _would_be(category: str) -> str:
    return f" (would be {category})" if category else ""


def _evidence_row(number: int, item: EvidenceEntry) -> list[Child]:
    label = wording.image_label(item.series_number, item.instance_number, item.source_slice)
    pill = tag("span", item.status, class_=f"pill {'strong' if item.status == 'unequivocal' else 'weak'}")
    return [
        wording.structure(item.structure, item.side),
        pill,
        item.category,
        f"{item.overlap_mm3:.0f} mm³",
        f"{item.depth_mm:.1f} mm",
        item.slices,
        tag("a", label, href=f"#evidence-{number}"),
        item.note,
    ]


def series(doc: ResultDocument) -> Markup | None:
    """The series that were read, and why every other was left out."""
    if doc.study is None or not doc.study.series:
        return None
    used = [s for s in doc.study.series if s.chosen]
    left = [s for s in doc.study.series if not s.chosen]
    parts: list[Child] = []
    if used:
        head = ("Series", "Used as", "Contrast", "Fat suppression", "Plane", "Why")
        parts.append(table(head, [_series_row(s, s.role or "") for s in used], "Series chosen"))
    if left:
        head = ("Series", "Taken for", "Contrast", "Fat suppression", "Plane", "Why it was left out")
        parts.append(tag("h3", "Left out"))
        parts.append(table(head, [_series_row(s, s.kind) for s in left], "Series left out"))
    return section("Series", parts)


def _series_row(entry: SeriesEntry, taken_for: str) -> list[Child]:
    number = "Se ?" if entry.series_number is None else f"Se {entry.series_number}"
    warnings = [tag("div", f"Note: {w}", class_="small soft") for w in entry.warnings]
    contrast = {"pre": "before contrast", "post": "after contrast", "unknown": "unknown"}[entry.contrast]
    return [number, taken_for, contrast, entry.fat_suppression, entry.plane, [entry.why, warnings]]


def quality(doc: ResultDocument) -> Markup | None:
    """Every check, passed or not; one without a reference is neither."""
    if not doc.quality:
        return None
    words = {True: ("passed", "ok"), False: ("not passed", "failed"), None: ("no statement", "none")}
    rows = [
        [
            line.check.replace("_", " "),
            tag("span", words[line.passed][0], class_=f"pill {words[line.passed][1]}"),
            line.detail,
        ]
        for line in doc.quality
    ]
    return section("Quality", table(("Check", "Outcome", "Detail"), rows, "Checks made on this study"))


def run(outcome: Outcome, doc: ResultDocument) -> Markup:
    """What ran, on what, and how long it took."""
    runtime = doc.runtime
    device = f"{runtime.backend or 'not opened'} {runtime.backend_version or ''}"
    machine = f"{runtime.device or ''} {runtime.precision or ''} {runtime.isa or ''}"
    rows: list[tuple[str, Child]] = [
        ("Bundle", [runtime.bundle, tag("div", f"SHA-256 {runtime.bundle_sha256}", class_="mono soft")]),
        ("Evidence of the bundle", _EVIDENCE_WORDS[runtime.evidence]),
        ("Intended use", outcome.manifest.intended_use),
        ("Engine", f"npc-edge {runtime.version}, {device.strip()}, {machine.strip()}"),
        ("Voxel operations", runtime.voxels),
        ("Fallback", runtime.fallback or "none"),
        ("Time before the output was written", _timings(doc)),
        ("Peak memory", f"{runtime.peak_rss_mb:.0f} MB"),
        ("Fingerprint", tag("span", runtime.fingerprint, class_="mono")),
    ]
    return section("This run", pairs(rows, "Bundle, engine and timings"))


def _timings(doc: ResultDocument) -> str:
    spent = {
        name: ms for name, ms in doc.runtime.timings_ms.items() if ms > 0 and name not in ("total", "output")
    }
    total = doc.runtime.timings_ms["total"] - doc.runtime.timings_ms["output"]
    parts = ", ".join(f"{name} {ms / 1000:.2f}" for name, ms in spent.items())
    return f"{total / 1000:.1f} s ({parts})" if parts else f"{total / 1000:.1f} s"
