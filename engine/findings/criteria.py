"""Each structure and side: is the tumour in it, unequivocally, equivocally, or can it not be said.

A criterion is unequivocal when the overlap is deep enough, on enough neighbouring slices, at a high enough
tumour probability, and nothing else the rule asks for is missing. Contact, sclerosis, secretion and air are
no invasion and leave no evidence. What cannot be assessed is said.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.findings.measure import Overlap, measure
from npc_edge.engine.findings.rules import EDITIONS, Edition, Limits, StructureRule, SurfaceRule
from npc_edge.engine.findings.scene import Scene
from npc_edge.engine.findings.sides import SidedLabel
from npc_edge.engine.findings.signal import marrow, sinus
from npc_edge.engine.findings.surface import beyond, fit_surface
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import CranialNerves, NotAssessable, Side, Status, StructureEvidence

_EVER = 1.0
NO_LABEL = "no label in this bundle"
NOT_SUPPLIED = "not supplied by the operator"
"""Gaps that every case of a bundle has, those it was calibrated on too."""


@dataclass(frozen=True)
class Criterion:
    """evidence: what is reported. fires_in: editions under which it may decide the category; in the other
    editions of `counts_in` it is equivocal. support: see `measure`; 0 for what is capped."""

    evidence: StructureEvidence
    support: float
    fires_in: tuple[Edition, ...] = EDITIONS
    counts_in: tuple[Edition, ...] = EDITIONS


@dataclass(frozen=True)
class Gap:
    """What could not be assessed, and under which editions that matters."""

    what: NotAssessable
    counts_in: tuple[Edition, ...] = EDITIONS


@dataclass(frozen=True)
class Judgement:
    """A cap keeps evidence equivocal and says why; dropped evidence is no invasion at all."""

    cap: str = ""
    dropped: bool = False


def assess(scene: Scene) -> tuple[list[Criterion], list[Gap]]:
    """All structures and surfaces of the rules."""
    criteria: list[Criterion] = []
    gaps: list[Gap] = []
    if not predicts_anatomy(scene.manifest):
        why = "the bundle predicts no anatomy under the tumour"
        for rule in scene.rules.structures:
            gaps.append(Gap(NotAssessable(rule.structure, None, why, rule.category)))
        for surface in scene.rules.surfaces:
            gap = NotAssessable(surface.structure, None, why, surface.category)
            gaps.append(Gap(gap, (surface.edition,)))
    else:
        for rule in scene.rules.structures:
            found, missing = _structure(scene, rule)
            criteria += found
            gaps += missing
        for surface in scene.rules.surfaces:
            found, missing = _surface(scene, surface)
            criteria += found
            gaps += missing
    if scene.touches_edge:
        why = "the tumour reaches the edge of what the model saw"
        gaps.append(Gap(NotAssessable("tumour_extent", None, why, "T4")))
    # T1 is what a tumour has anyway: nothing is missed where a structure of T1 is not assessable.
    return criteria, [gap for gap in gaps if gap.what.category != "T1"]


def predicts_anatomy(manifest: Manifest) -> bool:
    """True when a network says what lies under the tumour; one softmax over all labels cannot."""
    return any(output.kind == "anatomy" for network in manifest.networks for output in network.outputs)


def cranial_nerves(scene: Scene, told: CranialNerves) -> tuple[list[Criterion], list[Gap]]:
    """The operator's word: a palsy fires, and a word not given is not an absence."""
    rule = scene.rules.cranial_nerves
    if told == "palsy":
        note = "operator input: cranial-nerve palsy"
        middle = scene.field.first_slice + scene.field.mask.shape[0] // 2
        evidence = StructureEvidence(
            rule.structure, "midline", "unequivocal", 0.0, 0.0, 0.0, 0, 1.0, rule.category, middle, note
        )
        return [Criterion(evidence, _EVER)], []
    if told == "not supplied":
        gap = NotAssessable(rule.structure, None, NOT_SUPPLIED, rule.category)
        return [], [Gap(gap, EDITIONS if rule.not_supplied_limits else ())]
    return [], []


def _structure(scene: Scene, rule: StructureRule) -> tuple[list[Criterion], list[Gap]]:
    labels = scene.codes(rule.structure)
    if not labels:
        gap = NotAssessable(rule.structure, None, NO_LABEL, rule.category)
        return [], [Gap(gap)]
    if "marrow_t1" in rule.needs and scene.fat_suppression in (None, "yes"):
        why = "no T1 without contrast" if scene.fat_suppression is None else "the T1 is fat suppressed"
        gap = NotAssessable(rule.structure, None, f"{why}: marrow cannot be judged", rule.category)
        return [], [Gap(gap)]
    found: list[Criterion] = []
    unseen: list[SidedLabel] = []
    for label in labels:
        if scene.counts[label.code] * scene.geometry.voxel_mm3 < scene.rules.visible_mm3:
            unseen.append(label)
            continue
        criterion = _criterion(scene, rule, label)
        if criterion is not None:
            found.append(criterion)
    why = "outside the field of view" if rule.lies else "not recognised in the field of view"
    sides: list[Side | None] = [None] if len(unseen) == len(labels) else [label.side for label in unseen]
    gaps = [Gap(NotAssessable(rule.structure, side, why, rule.category)) for side in sides]
    return found, gaps if unseen else []


def _criterion(scene: Scene, rule: StructureRule, label: SidedLabel) -> Criterion | None:
    limits = scene.rules.limits(rule)
    region = scene.near == label.code
    overlap = measure(scene.field, region, limits)
    if overlap is None or not _is_more_than_contact(overlap, limits):
        return None
    judgement = _judge(scene, rule, region)
    if judgement.dropped:
        return None
    notes = [note for note in (_shortfall(overlap, limits, scene.field.threshold), judgement.cap) if note]
    fires_in = EDITIONS if not notes else ()
    named = tuple(edition for edition in fires_in if edition in rule.named_in)
    if fires_in and named != fires_in:
        unnamed = [scene.rules.editions[e].name for e in fires_in if e not in rule.named_in]
        notes.append(f"not named by {', '.join(unnamed)}, equivocal there")
    share = overlap.overlap_mm3 / (float(scene.counts[label.code]) * scene.geometry.voxel_mm3)
    status: Status = "unequivocal" if named else "equivocal"
    support = 0.0 if judgement.cap else overlap.support
    # Under a sweep evidence may gain or lose support, but never a name.
    may_fire = () if judgement.cap else rule.named_in
    return Criterion(
        _evidence(rule, label.side, status, overlap, min(1.0, share), "; ".join(notes)), support, may_fire
    )


def _is_more_than_contact(overlap: Overlap, limits: Limits) -> bool:
    return overlap.depth_mm >= min(limits.contact_mm, limits.depth_mm)


def _shortfall(overlap: Overlap, limits: Limits, threshold: float) -> str:
    """Why an overlap is not deep or sure enough, '' when it is. threshold: the mask's."""
    if overlap.depth_mm < limits.depth_mm - 1e-6:
        return f"{overlap.depth_mm:.1f} mm deep, less than {limits.depth_mm:g} mm"
    if overlap.support < threshold:
        return f"that deep on fewer than {limits.slices} neighbouring slices"
    if overlap.core < limits.probability:
        return f"tumour probability {overlap.core:.2f} at that depth, less than {limits.probability:g}"
    return ""


def _judge(scene: Scene, rule: StructureRule, region: NDArray[np.bool_]) -> Judgement:
    """What the rule needs besides the overlap."""
    if "node_label" in rule.needs and not scene.codes(scene.rules.node.structure):
        return Judgement("no node label in this bundle: a node cannot be told from the primary")
    if "contrast" in rule.needs and not scene.contrasts.enhanced:
        return Judgement("no contrast series")
    if "marrow_t1" in rule.needs:
        return _judge_marrow(scene, rule, region)
    if "sinus_signal" in rule.needs:
        overlap = scene.level(_sure_part(scene, rule, region), scene.near_geometry)
        verdict = sinus(overlap, scene.tumour, scene.rules.signal)
        if verdict == "undecided":
            return Judgement("no T2 signal to tell tumour from secretion")
        return Judgement(dropped=verdict in ("air", "secretion"))
    return Judgement()


def _judge_marrow(scene: Scene, rule: StructureRule, region: NDArray[np.bool_]) -> Judgement:
    sure = _sure_part(scene, rule, region)
    bone = scene.bone(rule.structure, sure)
    verdict = marrow(scene.level(sure, scene.near_geometry), scene.tumour, bone, scene.rules.signal)
    if verdict == "sclerosis":
        return Judgement(dropped=True)
    if verdict == "preserved":
        return Judgement("the marrow signal is preserved on T1")
    if verdict == "undecided":
        return Judgement("the marrow signal does not decide")
    if scene.fat_suppression == "unknown":
        return Judgement("whether the T1 is fat suppressed is not known")
    return Judgement()


def _sure_part(scene: Scene, rule: StructureRule, region: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The sure part of an overlap, all of it where that is empty."""
    sure = region & (scene.field.probability >= scene.rules.limits(rule).probability)
    return sure if sure.any() else region & scene.field.mask


def _surface(scene: Scene, rule: SurfaceRule) -> tuple[list[Criterion], list[Gap]]:
    found: list[Criterion] = []
    gaps: list[Gap] = []
    limits = scene.rules.limits(rule)
    labels = scene.codes(rule.of)
    candidates = (scene.near == 0) & (scene.field.probability > 0)
    for label in labels:
        muscle = scene.structures == label.code
        surface = fit_surface(muscle, scene.geometry, scene.midline, label.side, rule)
        if surface is None:
            gap = NotAssessable(rule.structure, label.side, f"{rule.of} not seen", rule.category)
            gaps.append(Gap(gap, (rule.edition,)))
            continue
        region = beyond(surface, candidates, scene.near_geometry, rule.clearance_mm)
        overlap = measure(scene.field, region, limits)
        if overlap is None or not _is_more_than_contact(overlap, limits):
            continue
        short = _shortfall(overlap, limits, scene.field.threshold)
        status: Status = "equivocal" if short else "unequivocal"
        evidence = _evidence(rule, label.side, status, overlap, 0.0, short)
        found.append(Criterion(evidence, overlap.support, (rule.edition,), (rule.edition,)))
    if not labels:
        gap = NotAssessable(rule.structure, None, NO_LABEL, rule.category)
        gaps.append(Gap(gap, (rule.edition,)))
    return found, gaps


def _evidence(
    rule: StructureRule | SurfaceRule, side: Side, status: Status, overlap: Overlap, share: float, note: str
) -> StructureEvidence:
    return StructureEvidence(
        structure=rule.structure,
        side=side,
        status=status,
        overlap_mm3=round(overlap.overlap_mm3, 1),
        overlap_fraction=round(share, 4),
        depth_mm=round(overlap.depth_mm, 2),
        slices=overlap.slices,
        probability=round(overlap.probability, 4),
        category=rule.category,
        source_slice=overlap.source_slice,
        note=note,
    )
