"""The T category under both editions, its bound, its evidence and its distribution.

The rules and every threshold are in `t_category_rules.json`; `docs/staging.md` says why. The category is
the highest that unequivocal evidence stands for. Equivocal evidence never raises it, under either edition:
with what cannot be assessed it makes the category a lower bound. T0 and TX are never given.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from npc_edge.engine.findings.criteria import Criterion, Gap, assess, cranial_nerves, predicts_anatomy
from npc_edge.engine.findings.rules import CATEGORIES, Category, Edition, Rules, highest, rules_for
from npc_edge.engine.findings.scene import build_scene
from npc_edge.engine.model.manifest import Manifest, StagingSpec
from npc_edge.engine.types import Detection, Options, Segmentation, Staging, TCategory, Volume


def stage(
    segmentation: Segmentation,
    volumes: Mapping[str, Volume],
    manifest: Manifest,
    detection: Detection | None,
    options: Options,
) -> Staging | None:
    """The staging of a study; None when the bundle stages nothing.

    volumes: by the bundle's sequence names, each on its own grid in one space. Both categories are None
    without a suspicious finding (where the bundle detects), without a tumour, in a bundle that predicts no
    anatomy, and after treatment, where the category is the clinician's. Raises BundleError when the bundle
    asks for rules of another version.
    """
    if manifest.staging is None:
        return None
    rules = rules_for(manifest.staging.rules)
    if detection is not None and detection.finding != "suspicious":
        return _nothing(options, rules)
    scene = build_scene(segmentation, volumes, manifest, rules)
    if scene is None:
        return _nothing(options, rules)
    criteria, gaps = assess(scene)
    if not predicts_anatomy(manifest):
        # Nothing a category rests on was looked at: even T1 would be invented.
        return replace(_nothing(options, rules), not_assessable=tuple(gap.what for gap in gaps))
    told, untold = cranial_nerves(scene, options.cranial_nerves)
    criteria, gaps = criteria + told, gaps + untold
    treated = options.context == "treated"
    order = sorted(
        (criterion.evidence for criterion in criteria),
        key=lambda e: (-CATEGORIES.index(_category(e.category)), e.status == "equivocal", -e.overlap_mm3),
    )
    return Staging(
        context=options.context,
        cranial_nerves=options.cranial_nerves,
        ajcc8=None if treated else conclude("ajcc8", criteria, gaps, manifest.staging),
        ajcc9=None if treated else conclude("ajcc9", criteria, gaps, manifest.staging),
        evidence=tuple(order),
        not_assessable=tuple(gap.what for gap in gaps),
        rules_version=rules.version,
    )


def conclude(
    edition: Edition, criteria: Sequence[Criterion], gaps: Sequence[Gap], spec: StagingSpec
) -> TCategory:
    """The category of one edition from its criteria; bound and could_be from what stayed open above it."""
    mine = [criterion for criterion in criteria if edition in criterion.counts_in]
    fired = [c for c in mine if c.evidence.status == "unequivocal" and edition in c.fires_in]
    t = highest([_category(c.evidence.category) for c in fired]) or "T1"
    is_open = [_category(c.evidence.category) for c in mine if c not in fired]
    is_open += [_category(gap.what.category) for gap in gaps if edition in gap.counts_in]
    top = highest(is_open)
    above = top if top is not None and CATEGORIES.index(top) > CATEGORIES.index(t) else None
    return TCategory(t, "at_least" if above else "exact", above, distribution(edition, mine, t, spec))


def distribution(
    edition: Edition, criteria: Sequence[Criterion], rule_t: Category, spec: StagingSpec
) -> dict[str, float]:
    """T1..T4 → share, summing to 1, given that there is a tumour.

    At each threshold of the sweep the highest category whose support reaches it; the shares, `smoothing`
    added to each count, are raised to 1 / distribution_temperature. Without a sweep the rule's category.
    """
    counts = dict.fromkeys(CATEGORIES, float(spec.smoothing))
    able = [criterion for criterion in criteria if edition in criterion.fires_in]
    for threshold in spec.thresholds:
        at = highest([_category(c.evidence.category) for c in able if c.support >= threshold])
        counts[at or "T1"] += 1
    if not spec.thresholds:
        counts[rule_t] += 1
    share = np.array([counts[category] for category in CATEGORIES]) / sum(counts.values())
    share = share ** (1 / spec.distribution_temperature)
    share = share / share.sum()
    return {category: float(value) for category, value in zip(CATEGORIES, share, strict=True)}


def _category(text: str) -> Category:
    return CATEGORIES[CATEGORIES.index(text)]


def _nothing(options: Options, rules: Rules) -> Staging:
    return Staging(options.context, options.cranial_nerves, None, None, (), (), rules.version)
