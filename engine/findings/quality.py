"""Gates that need a reference the bundle declares: field of view, domain, age, context.

Each returns a line for `quality`, or refuses. Without a declared reference the line says `passed: None`.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from npc_edge.engine.errors import BundleError, Refusal
from npc_edge.engine.geometry import Floats
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import Context, QualityCheck, Region, Volume

_HALF_BOX_MM = 45.0  # features are taken from a box of 90 mm around the located point
_FEATURES = frozenset({"foreground", "spread", "bright", "noise", "correlation"})
_MOST_STEPS = 48  # points along each axis of that box


def check_field_of_view(volumes: Mapping[str, Volume], region: Region, manifest: Manifest) -> QualityCheck:
    """Refusal FOV_TRUNCATED unless every sequence shows what the bundle needs around the located point."""
    need = manifest.field_of_view
    if need is None:
        return QualityCheck("field_of_view", None, "the bundle declares no field of view")
    ways = {
        "left": (need.lateral, 0.0, 0.0),
        "right": (-need.lateral, 0.0, 0.0),
        "posterior": (0.0, need.posterior, 0.0),
        "anterior": (0.0, -need.anterior, 0.0),
        "superior": (0.0, 0.0, need.superior),
        "inferior": (0.0, 0.0, -need.inferior),
    }
    least, tightest = np.inf, ""
    for name, volume in volumes.items():
        for way, offset in ways.items():
            spare = _spare_mm(volume, np.asarray(region.centre), np.array(offset))
            if spare < -1e-6:
                raise Refusal(
                    "FOV_TRUNCATED",
                    f"{name} ends {-spare:.0f} mm short of the {np.abs(offset).max():.0f} mm needed {way} "
                    "of the nasopharynx",
                    "acquire from the skull base to the hypopharynx",
                )
            if spare < least:
                least, tightest = spare, f"{name}, {way}"
    return QualityCheck("field_of_view", True, f"at least {least:.0f} mm to spare ({tightest})")


def check_one_grid(volumes: Mapping[str, Volume], reference: str) -> QualityCheck:
    """nnU-Net wants all sequences on one grid; those that are not are resampled, and this line says so."""
    grid = volumes[reference].geometry
    moved = sorted(name for name, volume in volumes.items() if not volume.geometry.same_grid(grid))
    if not moved:
        return QualityCheck("one_grid", True, "all sequences lie on one grid")
    names = ", ".join(moved)
    return QualityCheck(
        "one_grid", None, f"resampled onto the grid of {reference} before the network saw it: {names}"
    )


def _spare_mm(volume: Volume, centre: Floats, offset: Floats) -> float:
    """mm from centre + offset to the volume's edge along the offset; negative when it lies outside."""
    reach = float(np.abs(offset).max())
    way = offset / reach if reach > 0 else offset
    grid = volume.geometry
    start, end = grid.to_index(np.stack([centre, centre + way]))
    room = np.inf
    for position, per_mm, length in zip(start, end - start, reversed(grid.shape), strict=True):
        if position < -0.5 or position > length - 0.5:
            return -reach
        if abs(per_mm) > 1e-9:
            edge = length - 0.5 if per_mm > 0 else -0.5
            room = min(room, (edge - position) / per_mm)
    return float(room - reach)


def intensity_features(volumes: Mapping[str, Volume], region: Region) -> dict[str, float]:
    """Scale-free numbers that describe how each sequence looks around the located point.

    `<sequence>.foreground`: share of the box above a quarter of its 99th percentile.
    `<sequence>.spread`: (p90 - p10) / p50 of that foreground. `<sequence>.bright`: its p99 / p50.
    `<sequence>.noise`: median absolute difference of neighbours along X over p50.
    `<a>-<b>.correlation`: of two sequences over the foreground of the first, for each pair.
    Empty for a sequence that has no signal there.
    """
    boxes = {name: _box(volume, region) for name, volume in volumes.items()}
    features: dict[str, float] = {}
    kept: dict[str, Floats] = {}
    for name, box in boxes.items():
        values = box[np.isfinite(box)]
        top = float(np.percentile(values, 99)) if values.size else 0.0
        tissue = values[values > 0.25 * top]
        middle = float(np.median(tissue)) if tissue.size else 0.0
        if top <= 0 or middle <= 0:
            continue
        kept[name] = box
        p10, p90, p99 = np.percentile(tissue, [10, 90, 99])
        step = np.abs(np.diff(box, axis=2))
        features[f"{name}.foreground"] = float(tissue.size / values.size)
        features[f"{name}.spread"] = float((p90 - p10) / middle)
        features[f"{name}.bright"] = float(p99 / middle)
        features[f"{name}.noise"] = float(np.nanmedian(step) / middle)
    names = sorted(kept)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            a, b = kept[first], kept[second]
            use = np.isfinite(a) & np.isfinite(b)
            use &= a > 0.25 * np.nanpercentile(a, 99)
            if use.sum() > 10 and a[use].std() > 0 and b[use].std() > 0:
                features[f"{first}-{second}.correlation"] = float(np.corrcoef(a[use], b[use])[0, 1])
    return features


def _box(volume: Volume, region: Region) -> Floats:
    """(Z, Y, X) signal at the nearest voxels of an axial lattice around the point; nan outside."""
    grid = volume.geometry
    lines = [
        np.linspace(-_HALF_BOX_MM, _HALF_BOX_MM, n) for n in (_MOST_STEPS // 2, _MOST_STEPS, _MOST_STEPS)
    ]
    z, y, x = np.meshgrid(*lines, indexing="ij")
    points = np.stack([x, y, z], axis=-1).reshape(-1, 3) + np.asarray(region.centre)
    index = np.rint(grid.to_index(points)).astype(np.int64)
    shape = np.array(grid.shape[::-1])
    inside = ((index >= 0) & (index < shape)).all(axis=1)
    i, j, k = np.clip(index, 0, shape - 1).T
    return np.where(inside, volume.voxels[k, j, i].astype(np.float64), np.nan).reshape(x.shape)


def check_locator(region: Region, manifest: Manifest) -> QualityCheck:
    """Refusal OUT_OF_DOMAIN when the locator is less sure than the bundle needs."""
    if manifest.domain is None:
        return QualityCheck("locator", None, "the bundle declares no reference")
    least = manifest.domain.locator_confidence_min
    if not region.confidence >= least:
        raise Refusal(
            "OUT_OF_DOMAIN",
            f"the nasopharynx was not found with confidence ({region.confidence:.2f}, {least:.2f} is needed)",
            "check that the study shows the head and neck",
        )
    return QualityCheck("locator", True, f"confidence {region.confidence:.2f}, {least:.2f} needed")


def check_domain(volumes: Mapping[str, Volume], region: Region, manifest: Manifest) -> QualityCheck:
    """Refusal OUT_OF_DOMAIN when an intensity feature lies outside the limits the bundle declares.

    Raises BundleError for a feature this engine does not know.
    """
    limits = {} if manifest.domain is None else manifest.domain.features
    if not limits:
        return QualityCheck("domain", None, "the bundle declares no reference")
    measured = intensity_features(volumes, region)
    for name, (low, high) in limits.items():
        if name.rpartition(".")[2] not in _FEATURES:
            raise BundleError(f"the bundle's domain names a feature this engine does not know: {name}")
        value = measured.get(name, float("nan"))
        if not low <= value <= high:
            raise Refusal(
                "OUT_OF_DOMAIN",
                f"{name} is {value:.2f}, outside of {low:.2f} to {high:.2f} that the bundle was made for",
                "the bundle is not for images of this kind",
            )
    return QualityCheck("domain", True, f"{len(limits)} intensity features within their limits")


def check_age(age_years: float | None, manifest: Manifest) -> QualityCheck:
    """Refusal POPULATION_MISMATCH for a patient outside the bundle's age range."""
    if manifest.age_range_years is None:
        return QualityCheck("age", None, "the bundle declares no age range")
    low, high = manifest.age_range_years
    if age_years is None:
        return QualityCheck("age", None, "the headers hold no age")
    if not low <= age_years <= high:
        raise Refusal(
            "POPULATION_MISMATCH",
            f"the bundle is for patients of {low:g} to {high:g} years, this one is not",
            "use a bundle made for this age",
        )
    return QualityCheck("age", True, f"within {low:g} to {high:g} years")


def check_context(context: Context, manifest: Manifest) -> QualityCheck:
    """Refusal CONTEXT_NOT_SUPPORTED when the bundle was not made for patients of this context."""
    if context not in manifest.contexts:
        raise Refusal(
            "CONTEXT_NOT_SUPPORTED",
            f"the bundle does not read {context} patients, only {', '.join(manifest.contexts)}",
            "after treatment signal change is not recurrence: use a bundle made for it",
        )
    return QualityCheck("context", True, context)
