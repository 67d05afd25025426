"""Which series plays which role, and why every other was left out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import SequenceSpec
from npc_edge.engine.study import contrast as contrasts
from npc_edge.engine.study.rules import Facts, dixon, facts_of, fat_suppression, kind_of
from npc_edge.engine.study.stack import arrange
from npc_edge.engine.types import Contrast, Selection, Series, SeriesVerdict, State3, Study

MIN_CONFIDENCE = 0.5
_T1_LIKE = ("T1", "T1-FLAIR")
MISSING = {"T1": "NO_T1", "T2": "NO_T2", "T2FS": "NO_T2", "T1C": "NO_T1C", "ADC": "NO_ADC"}
"""Role → the reason code of a study that lacks it."""


@dataclass(frozen=True, eq=False)
class _Known:
    """One series as far as it is understood. grid: None with the reason in `fault` when it forms no stack."""

    index: int
    series: Series
    facts: Facts
    kind: str
    confidence: float
    evidence: tuple[str, ...]
    fat: State3
    grid: Geometry | None
    fault: str


def select(study: Study, sequences: Sequence[SequenceSpec], reference: str) -> Selection:
    """Choose a series for every sequence the bundle names, the reference first.

    Raises Refusal: the study's own problems (MULTIPLE_PATIENTS, MULTIPLE_STUDIES, UNREADABLE, HOSTILE_FILE),
    then NO_T1, NO_T2, NO_T1C, NO_ADC, CONTRAST_ONLY, CONTRAST_UNKNOWN.
    """
    if study.problems:
        raise Refusal(*study.problems[0])
    known = _understand(study)
    verdicts = _verdicts(known)
    chosen: dict[str, int] = {}
    for spec in sorted(sequences, key=lambda s: s.name != reference):
        grid = known[chosen[reference]].grid if reference in chosen else None
        fitting = [v for v in verdicts if v.role in spec.roles and v.series not in chosen.values()]
        sure = [v for v in fitting if v.confidence >= MIN_CONFIDENCE]
        if not sure:
            raise _missing(spec, verdicts, fitting)
        best = min(sure, key=lambda v: _rank(known[v.series], v, spec, grid))
        chosen[spec.name] = best.series
        verdicts = [_compared(v, best, spec, known) for v in verdicts]
    return Selection(chosen, tuple(verdicts))


def judge(study: Study) -> tuple[SeriesVerdict, ...]:
    """A verdict on every series, none chosen: what `inspect` shows and what a refusal is explained with."""
    return tuple(_verdicts(_understand(study)))


def _understand(study: Study) -> list[_Known]:
    siblings: dict[str, list[Series]] = defaultdict(list)
    for series in study.series:
        siblings[series.series_instance_uid].append(series)
    found = []
    for index, series in enumerate(study.series):
        facts = facts_of(series, tuple(siblings[series.series_instance_uid]))
        kind, confidence, why = kind_of(facts)
        fat, fat_why = fat_suppression(facts, kind)
        grid, fault = _grid(series)
        evidence = tuple(e for e in (why, fat_why) if e)
        found.append(_Known(index, series, facts, kind, confidence, evidence, fat, grid, fault))
    return found


def _grid(series: Series) -> tuple[Geometry | None, str]:
    try:
        stack = arrange(series)
    except Refusal as refusal:
        return None, refusal.message
    rows, columns = series.frames[0].shape
    return Geometry((len(stack.order), rows, columns), stack.affine), ""


def _verdicts(known: list[_Known]) -> list[SeriesVerdict]:
    places = _places(known)
    asked = [k for k in known if k.kind in (*_T1_LIKE, "T2", "STIR", "FLAIR")]
    candidates = [contrasts.Candidate(k.series, k.facts.text, k.fat, places[k.index]) for k in asked]
    t1_like = [k.kind in _T1_LIKE for k in asked]
    decided = dict(
        zip(
            [k.index for k, is_t1 in zip(asked, t1_like, strict=True) if is_t1],
            contrasts.decide([c for c, is_t1 in zip(candidates, t1_like, strict=True) if is_t1]),
            strict=True,
        )
    )
    return [_verdict(k, decided.get(k.index)) for k in known]


def _verdict(known: _Known, contrast: contrasts.Verdict | None) -> SeriesVerdict:
    state: Contrast
    state, factor, why = contrast or (contrasts.says(known.facts.text), 1.0, "")
    confidence = known.confidence * factor
    role, left_out = _role(known, state)
    warnings = [known.fault] if known.fault else []
    if "ND" in known.facts.image_type and not known.facts.image_type & {"DIS2D", "DIS3D"}:
        warnings.append("not corrected for gradient distortion (ND)")
    if role == "T1" and known.fat == "yes":
        warnings.append("fat-suppressed T1")
    if role is not None and confidence < MIN_CONFIDENCE:
        left_out = f"too uncertain ({confidence:.2f})"
    return SeriesVerdict(
        series=known.index,
        role=role,
        kind=known.kind,
        contrast=state,
        fat_suppression=known.fat,
        plane=_plane(known),
        confidence=round(confidence, 3),
        chosen=False,
        why=left_out or "no sequence of the bundle asked for it",
        evidence=known.evidence + ((why,) if why else ()),
        warnings=tuple(warnings),
    )


def _role(known: _Known, contrast: Contrast) -> tuple[str | None, str]:
    """(role, why it has none)."""
    component = dixon(known.facts)
    if known.kind == "ADC":
        return "ADC", ""
    if known.kind not in (*_T1_LIKE, "T2", "STIR"):
        return None, f"{known.kind}: not used"
    if component in ("fat", "opposed"):
        return None, f"Dixon {component} image: not used"
    if known.kind in _T1_LIKE:
        if contrast == "unknown":
            return None, "whether contrast was given cannot be told, and unknown is not pre"
        return ("T1" if contrast == "pre" else "T1C"), ""
    if contrast == "post":
        return None, "contrast-enhanced: left out"
    return ("T2FS" if known.fat == "yes" else "T2"), ""


def _plane(known: _Known) -> str:
    if len(known.facts.planes) != 1:
        return "mixed" if known.facts.planes else "unknown"
    frame = known.series.frames[0]
    if frame.row is None or frame.column is None:
        return "unknown"
    normal = np.abs(np.cross(frame.row, frame.column))
    return ("sagittal", "coronal", "axial")[int(normal.argmax())]


def _places(known: list[_Known]) -> list[int]:
    """A number for each series: those whose grids cover the same box have the same one."""
    first: list[Geometry] = []
    found = []
    for k in known:
        grid = k.grid
        if grid is None:
            found.append(-1 - k.index)
            continue
        match = (i for i, other in enumerate(first) if _same_box(grid, other))
        place = next(match, len(first))
        if place == len(first):
            first.append(grid)
        found.append(place)
    return found


def _same_box(a: Geometry, b: Geometry) -> bool:
    """Corner to corner within 5 % of the box: matrix and gap may differ between two acquisitions."""
    size = float(np.ptp(a.corners(), axis=0).max())
    return bool(np.abs(np.sort(a.corners(), axis=0) - np.sort(b.corners(), axis=0)).max() <= 0.05 * size)


def _rank(
    known: _Known, verdict: SeriesVerdict, spec: SequenceSpec, reference: Geometry | None
) -> tuple[float, ...]:
    """Smaller is better: role, a regular stack, plane, plain before special, twins, coverage, thickness."""
    thickness = known.grid.spacing[2] if known.grid else 99.0
    return (
        spec.roles.index(verdict.role) if verdict.role in spec.roles else 9,
        known.grid is None,
        verdict.plane != "axial",
        known.kind == "STIR",
        verdict.role == "T1" and known.fat == "yes",
        known.facts.gradient_echo,
        known.kind == "T1-FLAIR",
        "ND" in known.facts.image_type,
        -round(_coverage(known.grid, reference), 1),
        thickness,
        -verdict.confidence,
        known.index,
    )


def _coverage(grid: Geometry | None, reference: Geometry | None) -> float:
    """How much of the reference's box the series covers, 0..1; without one, its height in units of 100 mm."""
    if grid is None:
        return 0.0
    if reference is None:
        return grid.spacing[2] * grid.shape[0] / 100
    a, b = grid.corners(), reference.corners()
    shared = np.minimum(a.max(axis=0), b.max(axis=0)) - np.maximum(a.min(axis=0), b.min(axis=0))
    return float(np.prod(np.clip(shared, 0, None)) / np.prod(np.ptp(b, axis=0)))


def _compared(
    verdict: SeriesVerdict, best: SeriesVerdict, spec: SequenceSpec, known: list[_Known]
) -> SeriesVerdict:
    """The verdict once `best` was chosen for `spec`."""
    if verdict.series == best.series:
        return replace(verdict, chosen=True, why=f"chosen as {spec.name}")
    if verdict.chosen or verdict.role not in spec.roles or verdict.confidence < MIN_CONFIDENCE:
        return verdict
    number = known[best.series].series.number
    return replace(verdict, why=f"series {number if number is not None else '?'} fits {spec.name} better")


def _missing(spec: SequenceSpec, verdicts: list[SeriesVerdict], fitting: list[SeriesVerdict]) -> Refusal:
    """The refusal that says best why nothing plays this sequence."""
    code = MISSING[spec.roles[0]]
    if fitting:
        return Refusal(
            code, f"what looks like {spec.roles[0]} is too uncertain to be used", "see npc-edge inspect"
        )
    if code == "NO_T1":
        t1_like = [v for v in verdicts if v.kind in _T1_LIKE]
        if any(v.contrast == "post" for v in t1_like):
            return Refusal(
                "CONTRAST_ONLY", "every T1 series is contrast-enhanced", "add the T1 before contrast"
            )
        if any(v.contrast == "unknown" for v in t1_like):
            return Refusal("CONTRAST_UNKNOWN", "whether the T1 is before contrast cannot be told")
    return Refusal(code, f"there is no {' or '.join(spec.roles)} series", "see npc-edge inspect")
