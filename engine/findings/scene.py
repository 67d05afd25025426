"""Everything the staging rules look at, prepared once: the primary tumour, the anatomy around it, signal."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.findings import signal
from npc_edge.engine.findings.boxes import Box, bounding_box, crop_geometry
from npc_edge.engine.findings.components import connected
from npc_edge.engine.findings.measure import Field
from npc_edge.engine.findings.rules import Rules
from npc_edge.engine.findings.sides import Midline, SidedLabel, find_midline, right_step, sided_labels
from npc_edge.engine.geometry import Floats, Geometry
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.types import Segmentation, State3, Volume

_CLEAR = 0.05  # anatomy with less tumour probability than this is uninvolved
# Classes of rules; the tumour's own signal is taken elsewhere.
_NOT_SOFT = ("bone", "thin", "process", "sinus")
_FLOOR = 0.02  # probabilities below this are no tumour at any threshold


@dataclass(frozen=True, eq=False)
class Scene:
    """window: the model's window, cropped. box: where the tumour may be, within that window.

    structures, probability (Z, Y, X) on `geometry` (the window); field on `structures[box]`.
    """

    rules: Rules
    manifest: Manifest
    geometry: Geometry
    structures: NDArray[np.uint8]
    probability: NDArray[np.float32]
    box: Box
    field: Field
    contrasts: signal.Contrasts
    labels: tuple[SidedLabel, ...]
    touches_edge: bool

    @cached_property
    def counts(self) -> NDArray[np.int64]:
        """(256,) voxels of each code in the window."""
        # Slice by slice: counting widens every voxel to eight bytes, which then stay in the cache.
        return np.asarray(sum(np.bincount(level.ravel(), minlength=256) for level in self.structures))

    @cached_property
    def near(self) -> NDArray[np.uint8]:
        """structures on the field's crop."""
        return self.structures[self.box]

    @cached_property
    def near_geometry(self) -> Geometry:
        return crop_geometry(self.geometry, self.box)

    @cached_property
    def midline(self) -> Midline:
        """From the structures, their sides taken back, for hand-made and predicted masks alike."""
        back = np.arange(256, dtype=np.uint8)
        step = right_step(self.manifest.labels)
        for label in self.manifest.labels:
            if label.side == "paired":
                back[label.code + step] = label.code
        return find_midline(self.structures, self.geometry, self.manifest.labels, back)

    @cached_property
    def tumour(self) -> signal.Level:
        """The tumour's signal where neither bone nor sinus lies under it."""
        hard = tuple(rule.structure for rule in self.rules.structures if rule.kind in _NOT_SOFT)
        soft = self.field.mask & ~self._of(hard, self.near)
        return self.level(soft if soft.any() else self.field.mask, self.near_geometry)

    @cached_property
    def fat_suppression(self) -> State3 | None:
        """Of the T1 without contrast; None when there is none."""
        t1 = self.contrasts.t1
        if t1 is None:
            return None
        rules = self.rules.signal
        fat = signal.level(t1, self._uninvolved(rules.fat), rules.marrow_percentile, rules.enough_voxels)
        muscle = signal.level(t1, self._uninvolved(rules.muscles), 50, rules.enough_voxels)
        return signal.fat_suppressed(t1.fat_suppression, fat, muscle, rules)

    def codes(self, structure: str) -> tuple[SidedLabel, ...]:
        return tuple(label for label in self.labels if label.structure == structure)

    def level(self, mask: NDArray[np.bool_], geometry: Geometry) -> signal.Level:
        """Median signal of a mask (Z, Y, X) on a grid."""
        points, enough = signal.points_of(mask, geometry), self.rules.signal.enough_voxels
        return signal.Level(
            signal.level(self.contrasts.t1, points, 50, enough),
            signal.level(self.contrasts.t2, points, 50, enough),
        )

    def bone(self, structure: str, overlap: NDArray[np.bool_]) -> signal.Bone:
        """Uninvolved bone of a structure, both sides, or of any bone where its own is used up; beside the
        overlap (Z, Y, X) on the field's crop. Marrow is a high percentile: a label holds dark cortex too."""
        rules, t1 = self.rules.signal, self.contrasts.t1
        bones = tuple(rule.structure for rule in self.rules.structures if "marrow_t1" in rule.needs)
        points = self._uninvolved((structure,))
        if len(points) < 5 * rules.enough_voxels:
            points = self._uninvolved(bones)
        here = signal.points_of(overlap, self.near_geometry)
        return signal.Bone(
            signal.level(t1, points, rules.marrow_percentile, 5 * rules.enough_voxels),
            signal.share_like(t1, points, self.tumour.t1, rules),
            signal.share_like(t1, here, self.tumour.t1, rules),
        )

    @cached_property
    def _clear(self) -> NDArray[np.bool_]:
        """(Z, Y, X) of the window: hardly any tumour."""
        return self.probability < _CLEAR

    def _of(self, structures: tuple[str, ...], codes: NDArray[np.uint8]) -> NDArray[np.bool_]:
        # A handful of comparisons is ten times as fast as looking every voxel up in a table.
        found = np.zeros(codes.shape, dtype=np.bool_)
        for label in self.labels:
            if label.structure in structures:
                found |= codes == label.code
        return found

    def _uninvolved(self, structures: tuple[str, ...]) -> Floats:
        return signal.points_of(self._of(structures, self.structures) & self._clear, self.geometry)


def build_scene(
    segmentation: Segmentation, volumes: Mapping[str, Volume], manifest: Manifest, rules: Rules
) -> Scene | None:
    """The scene, or None when there is no tumour outside nodes."""
    window = bounding_box(segmentation.covered | (segmentation.tumour > 0))
    if window is None or not segmentation.tumour_slices:
        return None
    geometry = crop_geometry(segmentation.geometry, window)
    structures, raw = segmentation.structures[window], segmentation.tumour_probability[window]
    mask, labels = segmentation.tumour[window] > 0, sided_labels(manifest)
    tumour = _primary(structures, raw, mask, manifest, rules)
    if tumour is None:
        return None
    box, probability, primary = tumour
    x, y, _ = geometry.spacing
    field = Field(
        probability,
        primary,
        (y, x),
        geometry.voxel_mm3,
        window[0].start + box[0].start,
        manifest.tumour.threshold,
    )
    return Scene(
        rules, manifest, geometry, structures, raw, box, field, signal.contrasts(volumes, manifest), labels,
        _touches_edge(mask, segmentation.covered[window]),
    )  # fmt: skip


def _primary(
    structures: NDArray[np.uint8],
    raw: NDArray[np.float32],
    mask: NDArray[np.bool_],
    manifest: Manifest,
    rules: Rules,
) -> tuple[Box, NDArray[np.float32], NDArray[np.bool_]] | None:
    """The box of the primary tumour within the window; in it the probability, 0 in what is no primary, and
    the mask. None where there is none."""
    sweep = manifest.staging.thresholds if manifest.staging is not None else ()
    floor = max(_FLOOR, min([*sweep, manifest.tumour.threshold]))
    around = bounding_box((raw >= floor) | mask)
    if around is None:
        return None
    structures, raw, mask = structures[around], raw[around], mask[around]
    nodes = [label.code for label in sided_labels(manifest) if label.structure == rules.node.structure]
    node = np.isin(structures, nodes)
    # Components the segmentation dropped stay dropped; nodes are no primary.
    dropped = ((raw >= manifest.tumour.threshold) & ~mask) | (raw < floor)
    primary = _without_nodes(mask, node, rules.node.component_fraction)
    dropped |= (mask & ~primary) | node
    probability = np.where(dropped, np.float32(0), raw)
    primary &= ~node
    box = bounding_box(probability > 0)
    if box is None or not primary.any():
        return None
    z, y, x = (slice(a.start + b.start, a.start + b.stop) for a, b in zip(around, box, strict=True))
    return (z, y, x), probability[box], primary[box]


def _without_nodes(mask: NDArray[np.bool_], node: NDArray[np.bool_], fraction: float) -> NDArray[np.bool_]:
    """The mask without the components that lie at least `fraction` in nodes."""
    box = bounding_box(mask)
    if box is None or not (mask & node).any():
        return mask.copy()
    parts, sizes = connected(mask[box])
    in_node = np.bincount(parts[node[box]], minlength=len(sizes))
    keep = in_node < fraction * sizes
    keep[0] = False
    out = np.zeros_like(mask)
    out[box] = keep[parts]
    return out


def _touches_edge(mask: NDArray[np.bool_], covered: NDArray[np.bool_]) -> bool:
    """True when the tumour reaches the last voxels the model saw."""
    box = bounding_box(mask, 1)
    if box is None:
        return False
    # The box has room for the tumour's neighbours, except where the window ends: beyond it nothing is seen.
    seen, inner = np.pad(covered[box], 1), np.pad(mask[box], 1)
    for axis in range(3):
        for step in (-1, 1):
            if (inner & ~np.roll(seen, step, axis)).any():
                return True
    return False
