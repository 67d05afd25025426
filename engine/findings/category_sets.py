"""Which T categories go with a case at a stated level, by the table of the artefact that ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from npc_edge.calibration.conformal import Conformal, why_not
from npc_edge.engine.certainty import CategorySet
from npc_edge.engine.findings.criteria import NO_LABEL, NOT_SUPPLIED
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import Staging, TCategory


def with_sets(staging: Staging | None, manifest: Manifest, artefact_file: str) -> Staging | None:
    """The staging with the set of each edition's category, or why there is none. Nothing else changes."""
    if staging is None:
        return None
    return replace(
        staging,
        ajcc8=_with_set(staging.ajcc8, "ajcc8", manifest, artefact_file, _hidden(staging, staging.ajcc8)),
        ajcc9=_with_set(staging.ajcc9, "ajcc9", manifest, artefact_file, _hidden(staging, staging.ajcc9)),
    )


def _hidden(staging: Staging, category: TCategory | None) -> bool:
    """Whether the category is a lower bound because something could not be assessed in this study: the
    distribution knows nothing of that. What no case of the bundle has was missing in calibration too."""
    if category is None or category.bound == "exact":
        return False
    gaps = [gap for gap in staging.not_assessable if gap.why not in (NO_LABEL, NOT_SUPPLIED)]
    return any(not gap.category or gap.category > category.t for gap in gaps)


def _with_set(
    category: TCategory | None,
    edition: Literal["ajcc8", "ajcc9"],
    manifest: Manifest,
    artefact_file: str,
    hidden: bool,
) -> TCategory | None:
    if category is None:
        return None
    calibrator = manifest.calibrators.get(artefact_file)
    sets = None if calibrator is None else calibrator.sets.get(edition)
    if sets is None:
        return replace(category, set_not_given="the bundle has no sets of T categories for this artefact")
    if sets.thresholds is None:
        return replace(category, set_not_given=why_not(sets.cases, sets.level) or "no sets were fitted")
    if hidden:
        return replace(category, set_not_given="what a higher category rests on could not be assessed here")
    fitted = Conformal(sets.level, sets.thresholds, sets.cases)
    return replace(category, set=CategorySet(sets.level, fitted.categories(category.distribution)))
