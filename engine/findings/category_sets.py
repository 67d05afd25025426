"""Which T categories go with a case at a stated level, by the table of the artefact that ran."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from npc_edge.calibration.conformal import Conformal, why_not
from npc_edge.engine.certainty import CategorySet
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import Staging, TCategory


def with_sets(staging: Staging | None, manifest: Manifest, artefact_file: str) -> Staging | None:
    """The staging with the set of each edition's category, or why there is none. Nothing else changes."""
    if staging is None:
        return None
    return replace(
        staging,
        ajcc8=_with_set(staging.ajcc8, "ajcc8", manifest, artefact_file),
        ajcc9=_with_set(staging.ajcc9, "ajcc9", manifest, artefact_file),
    )


def _with_set(
    category: TCategory | None, edition: Literal["ajcc8", "ajcc9"], manifest: Manifest, artefact_file: str
) -> TCategory | None:
    if category is None:
        return None
    calibrator = manifest.calibrators.get(artefact_file)
    sets = None if calibrator is None else calibrator.sets.get(edition)
    if sets is None:
        return replace(category, set_not_given="the bundle has no sets of T categories for this artefact")
    if sets.thresholds is None:
        return replace(category, set_not_given=why_not(sets.cases, sets.level) or "no sets were fitted")
    fitted = Conformal(sets.level, sets.thresholds, sets.cases)
    return replace(category, set=CategorySet(sets.level, fitted.categories(category.distribution)))
