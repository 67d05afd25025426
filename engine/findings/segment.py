"""Raw outputs on the model's grid become masks on the reference sequence's own grid.

Only the model's window is resampled, never the whole image: logits are interpolated, then thresholded, so
that a mask follows the source's in-plane resolution. Outside the window nothing is claimed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.findings.boxes import Box, bounding_box, crop_geometry
from npc_edge.engine.findings.components import connected
from npc_edge.engine.findings.sides import axis_sum, find_midline, sided_labels, split_sides, tumour_code
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import Manifest, OutputSpec
from npc_edge.engine.types import Array, Predictions, Segmentation, Volume, Watch
from npc_edge.engine.voxels import HOST, Voxels
from npc_edge.kernels.sampling import leave_out

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class TumourMask:
    """mask (Z, Y, X) uint8 0/1 and what it measures."""

    mask: NDArray[np.uint8]
    volume_ml: float
    centroid_lps_mm: tuple[float, float, float] | None
    components: int


def find_output(
    predictions: Predictions, manifest: Manifest, kind: str, voxels: Voxels = HOST
) -> tuple[OutputSpec, Array] | None:
    """The first output of a kind, named `output` or `network.output`; None when the bundle has none.

    Raises BackendError when it holds a value that is not finite: such a run has no meaning.
    """
    for network in manifest.networks:
        for output in network.outputs:
            if output.kind != kind:
                continue
            for name in (output.name, f"{network.name}.{output.name}"):
                if name in predictions.outputs:
                    array = predictions.outputs[name]
                    if not voxels.finite(array):
                        raise BackendError(
                            f"the network's output {name} holds values that are not finite",
                            "try another precision or backend",
                        )
                    return output, array
    return None


def segment(
    predictions: Predictions, reference: Volume, manifest: Manifest, watch: Watch, voxels: Voxels = HOST
) -> Segmentation:
    """Masks of tumour and anatomy on the reference's source grid, from raw outputs on the model's grid.

    Tumour: sigmoid of the interpolated logit, at `manifest.tumour.threshold`, or where the tumour is the
    largest of all labels (`manifest.tumour.rule`); small components dropped.
    Structures: the winner of the interpolated anatomy logits, as the anatomy is under the tumour; paired
    labels carry their side (see `sides`). A one-softmax bundle has no anatomy under its tumour.
    voxels: those that made the predictions; what they bring home is the window's part of the source grid.
    Raises BundleError when the bundle has no output a mask can be made of.
    """
    geometry, model = reference.geometry, predictions.geometry
    box = _window(model, geometry)
    crop = crop_geometry(geometry, box)
    covered = _covered(model, crop)
    maps = _maps(predictions, manifest, voxels)
    watch.check()
    probability = np.where(covered, voxels.probability(maps.tumour, model, crop), np.float32(0))
    watch.check()
    largest = None if maps.anatomy is None else voxels.labels(maps.anatomy, model, crop)
    structures = np.zeros(crop.shape, dtype=np.uint8)
    if largest is not None:
        structures = _only_declared(largest * covered.view(np.uint8), manifest)
        plane = find_midline(structures, crop, manifest.labels)
        structures = split_sides(structures, crop, manifest.labels, plane)
    watch.check()
    where = probability
    if maps.whole is not None:
        if largest is None or maps.whole is not maps.anatomy:
            largest = voxels.labels(maps.whole, model, crop)
        where = np.asarray(largest == tumour_code(manifest), dtype=np.float32)
    found = tumour_mask(where, crop, manifest.tumour.threshold, manifest.tumour.min_component_ml)
    return Segmentation(
        tumour=_paste(found.mask, box, geometry.shape, np.uint8),
        tumour_probability=_paste(probability, box, geometry.shape, np.float32),
        structures=_paste(structures, box, geometry.shape, np.uint8),
        covered=_paste(covered, box, geometry.shape, np.bool_),
        geometry=geometry,
        labels={label.code: label.name for label in sided_labels(manifest)},
        volume_ml=found.volume_ml,
        centroid_lps_mm=found.centroid_lps_mm,
        components=found.components,
    )


def cleared(segmentation: Segmentation) -> Segmentation:
    """The same without a tumour: what a study that is not suspicious gets. The anatomy stays, and so does
    the probability map, which is what the network said."""
    return replace(
        segmentation,
        tumour=np.zeros_like(segmentation.tumour),
        volume_ml=0.0,
        centroid_lps_mm=None,
        components=0,
    )


def tumour_mask(
    probability: NDArray[np.float32], geometry: Geometry, threshold: float, min_component_ml: float
) -> TumourMask:
    """probability (Z, Y, X) → the mask at a threshold, its components (26-connected) of at least
    min_component_ml, their volume in ml and centroid in LPS mm (None without a tumour)."""
    above = probability >= threshold
    mask = np.zeros(probability.shape, dtype=np.uint8)
    box = bounding_box(above)
    if box is None:
        return TumourMask(mask, 0.0, None, 0)
    parts, sizes = connected(above[box])
    keep = sizes * geometry.voxel_mm3 / 1000 >= min_component_ml
    keep[0] = False
    mask[box] = keep[parts]
    count = int(mask.sum())
    if count == 0:
        return TumourMask(mask, 0.0, None, 0)
    x, y, z = geometry.to_world([_middle(mask, box)])[0].tolist()
    return TumourMask(mask, count * geometry.voxel_mm3 / 1000, (x, y, z), int(keep.sum()))


def _middle(mask: NDArray[np.uint8], box: Box) -> list[float]:
    """The mean index (x, y, z) of a mask that lies within a box."""
    found = []
    for axis in (2, 1, 0):
        others = tuple({0, 1, 2} - {axis})
        counts = np.count_nonzero(mask[box], axis=others)
        found.append(float(counts @ np.arange(len(counts)) / counts.sum() + box[axis].start))
    return found


def _window(model: Geometry, reference: Geometry) -> Box:
    """The part of the reference grid that the model's window can reach."""
    index = reference.to_index(model.corners())[:, ::-1]
    low = np.clip(np.floor(index.min(axis=0)), 0, np.array(reference.shape) - 1).astype(int).tolist()
    high = np.clip(np.ceil(index.max(axis=0)) + 1, 1, np.array(reference.shape)).astype(int).tolist()
    z, y, x = (slice(a, max(a + 1, b)) for a, b in zip(low, high, strict=True))
    return z, y, x


def _covered(model: Geometry, crop: Geometry) -> NDArray[np.bool_]:
    """(Z, Y, X) bool: voxel centres of the crop inside the model's grid."""
    to_model = np.linalg.inv(model.affine) @ crop.affine
    inside = np.ones(crop.shape, dtype=np.bool_)
    for row, length in zip(to_model[:3], reversed(model.shape), strict=True):
        index = axis_sum(row, crop.shape)
        leave_out(inside, (index < -0.5) | (index > length - 0.5))
    return inside


@dataclass(frozen=True, eq=False)
class _Maps:
    """tumour: its logit (1, 1, Z, Y, X). anatomy, whole: logits (1, K, Z, Y, X) whose largest is a structure,
    and whose largest may be the tumour; None where nobody asks."""

    tumour: Array
    anatomy: Array | None
    whole: Array | None


def _maps(predictions: Predictions, manifest: Manifest, voxels: Voxels) -> _Maps:
    tumour = find_output(predictions, manifest, "tumour", voxels)
    anatomy = find_output(predictions, manifest, "anatomy", voxels)
    whole = find_output(predictions, manifest, "segmentation", voxels)
    code = tumour_code(manifest)
    if tumour is None and whole is None:
        raise BundleError("the bundle has neither a tumour output nor a segmentation output")
    if manifest.tumour.rule == "argmax" and (whole is None or code is None):
        raise BundleError("only one softmax over all labels has a largest label")
    labels = None if whole is None or manifest.tumour.rule != "argmax" else whole[1]
    if tumour is not None:
        logits = anatomy or whole
        return _Maps(tumour[1], None if logits is None else logits[1], labels)
    assert whole is not None, "one of the two is there"
    array, code = whole[1], code or 1
    if array.shape[1] <= code:
        raise BundleError(f"the segmentation output has {array.shape[1]} channels, no tumour among them")
    return _Maps(voxels.margin(array, code), array if array.shape[1] > 2 else None, labels)


def _only_declared(structures: NDArray[np.uint8], manifest: Manifest) -> NDArray[np.uint8]:
    """Codes that are no declared structure (the tumour channel of a one-softmax bundle too) become 0."""
    keep = np.zeros(256, dtype=np.uint8)
    tumour = tumour_code(manifest)
    for label in manifest.labels:
        if label.code != tumour:
            keep[label.code] = label.code
    there = np.arange(int(structures.max()) + 1)
    return structures if np.array_equal(keep[there], there) else np.asarray(keep[structures])


def _paste(crop: NDArray[T], box: Box, shape: tuple[int, int, int], dtype: type[T]) -> NDArray[T]:
    if crop.shape == shape and crop.dtype == dtype:
        return crop
    out = np.zeros(shape, dtype=dtype)
    out[box] = crop
    return out
