"""The sentences of SR and report, in one place: what may be said, and how.

"T category", never "T stage"; never "normal", "no NPC" or a diagnosis; "model score" where the number was not
calibrated on patients.
"""

from __future__ import annotations

from npc_edge.calibration import conformal, venn_abers
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.output.schema import DetectionEntry, TCategoryEntry
from npc_edge.engine.types import NotAssessable, Staging, StructureEvidence, TCategory

NOT_STAGED = "N, M and stage group not assessed"
RESEARCH = "RESEARCH USE ONLY"
HEADLINES = {
    "suspicious": "Suspicious finding in the nasopharynx",
    "not_suspicious": "No suspicious lesion above the operating point; does not exclude NPC",
    "indeterminate": "Indeterminate: score and mask do not agree well enough for a conclusion",
}
EDITIONS = {"ajcc8": "AJCC/UICC 8th edition", "ajcc9": "AJCC Version 9"}


def headline(outcome: Outcome) -> str:
    """What was found, in one line."""
    if outcome.outcome == "no-result":
        return "No result: the study was refused"
    detection = outcome.concluded.detection
    if detection is not None:
        return HEADLINES[detection.finding]
    volume = outcome.segmentation.volume_ml
    if not outcome.segmentation.tumour_slices:
        return "Nothing segmented; this bundle makes no statement on detection"
    return f"Segmentation of {volume:.1f} ml; this bundle makes no statement on detection"


def calibrated_on_patients(outcome: Outcome) -> bool:
    """True when the score may be called a probability."""
    runner = outcome.facts.runner
    calibrator = outcome.manifest.calibrators.get(runner.artefact) if runner is not None else None
    return not outcome.synthetic and calibrator is not None and calibrator.method != "none"


def score_name(outcome: Outcome) -> str:
    """What to call the number between 0 and 1."""
    return "Calibrated probability" if calibrated_on_patients(outcome) else "Model score"


def structure(name: str, side: str | None) -> str:
    """'parapharyngeal_space', 'left' → 'left parapharyngeal space'; the midline goes without saying."""
    plain = name.replace("_", " ")
    return f"{side} {plain}" if side in ("left", "right") else plain


def category(staging: Staging, item: TCategory) -> str:
    """'T2' or '≥ T2 (hypopharynx outside the field of view)'."""
    if item.bound == "exact":
        return item.t
    doubts = doubted(staging, item)
    return f"≥ {item.t} ({'; '.join(doubts)})" if doubts else f"≥ {item.t}"


def doubted(staging: Staging, item: TCategory) -> list[str]:
    """Why a category is a lower bound: structures of a higher one that could not be seen or are equivocal."""
    hidden = [n for n in staging.not_assessable if n.category > item.t or not n.category]
    equivocal = [e for e in staging.evidence if e.status == "equivocal" and e.category > item.t]
    return [*_hidden(hidden), *(f"{structure(e.structure, e.side)} equivocal" for e in equivocal)]


def _hidden(items: list[NotAssessable]) -> list[str]:
    """One phrase per reason, naming every structure it hides."""
    by_reason: dict[str, list[str]] = {}
    for item in items:
        names = by_reason.setdefault(item.why, [])
        name = structure(item.structure, item.side)
        if name not in names:
            names.append(name)
    return [f"{', '.join(names)} {why}" for why, names in by_reason.items()]


def disagreement(item: TCategory) -> str:
    """A sentence when the distribution's mode is not the rule's category, else ''."""
    if not item.distribution:
        return ""
    mode = max(sorted(item.distribution), key=lambda t: item.distribution[t])
    if mode == item.t:
        return ""
    return (
        f"The rules give {item.t}; the distribution over probability thresholds peaks at {mode} "
        f"({item.distribution[mode]:.0%}). Look at the evidence."
    )


def interval_words(detection: DetectionEntry) -> str:
    """'Venn-Abers interval 0.99 to 1.00, from 240 calibration cases (1000 are wanted), 50 % of them NPC'."""
    interval = detection.interval
    if interval is None:
        return f"No interval: {detection.interval_not_given}"
    wanted = f" ({venn_abers.WANTED} are wanted)" if interval.cases < venn_abers.WANTED else ""
    span = f"{interval.low:.2f} to {interval.high:.2f}"
    share = f"{100 * interval.prevalence:.0f} % of them NPC"
    return f"Venn-Abers interval {span}, from {interval.cases} calibration cases{wanted}, {share}"


def prevalence_words(detection: DetectionEntry) -> str:
    """The score at the operator's prevalence; '' when nobody gave one."""
    moved = detection.prevalence
    if moved is None:
        why = detection.prevalence_not_given
        return f"Not moved to the prevalence given: {why}" if why else ""
    return (
        f"At a prevalence of {100 * moved.given:g} %: {moved.probability:.2f}, if only the prevalence differs"
        f" from the calibration set's ({100 * moved.fitted:g} %). The finding does not go by this number"
    )


def set_words(item: TCategoryEntry) -> str:
    """'T3 or T4 at 90 % (of the cases of each T category, so many have theirs in their set)', or why not."""
    if item.set is None:
        return f"No set of categories: {item.set_not_given}"
    meant = "of the cases of each T category, so many have theirs in their set"
    return f"{conformal.words(item.set.categories, item.set.level)} ({meant})"


def image_label(series: int | None, instance: int | None, slice_index: int) -> str:
    """'Se 3 / Im 18', or the slice's place in the volume where the input has no numbers."""
    if instance is None:
        return f"slice {slice_index + 1}"
    return f"Se {series if series is not None else '?'} / Im {instance}"


def evidence_label(outcome: Outcome, item: StructureEvidence) -> str:
    """The image a piece of evidence is seen on."""
    piece = outcome.source_slice(item.source_slice)
    number = outcome.series_number(outcome.reference_volume)
    return image_label(number, None if piece is None else piece.instance_number, item.source_slice)


def report_lines(outcome: Outcome) -> list[str]:
    """The text of the SR: one statement a line."""
    lines = [headline(outcome) + "."]
    staging = outcome.concluded.staging
    if staging is not None:
        for name, item in (("ajcc8", staging.ajcc8), ("ajcc9", staging.ajcc9)):
            if item is not None:
                lines.append(
                    f"Algorithm-suggested imaging T category, {EDITIONS[name]}: {category(staging, item)}."
                )
        for hidden in _hidden(list(staging.not_assessable)):
            lines.append(f"Not assessable: {hidden}.")
        for e in staging.evidence:
            lines.append(
                f"{structure(e.structure, e.side)}: {e.status}, {e.overlap_mm3:.0f} mm3, "
                f"depth {e.depth_mm:.1f} mm, {e.slices} slice(s), {evidence_label(outcome, e)}."
            )
        lines.append(f"Context {staging.context}; cranial nerves {staging.cranial_nerves}.")
    return [*lines, f"{NOT_STAGED}."]
