"""Left and right: the output codes of paired labels, and the midline found in the anatomy itself.

A paired label has one code in the network. In the masks left keeps that code and right gets
code + 100 (or the least larger step that is free), named `<name>_left` and `<name>_right`.
The midline plane comes from the predicted anatomy, for a head may be turned and off centre.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError
from npc_edge.engine.geometry import Floats, Geometry
from npc_edge.engine.model.manifest import LabelSpec, Manifest
from npc_edge.engine.types import Side
from npc_edge.kernels.threads import on_cores

RIGHT_STEP = 100
TUMOUR_STRUCTURES = ("tumour", "tumor", "gtvp", "lesion")

_LEFT = np.array([1.0, 0.0, 0.0])  # LPS
_LEAST_BALANCE = 0.25  # a pair whose smaller side is less than this of the larger one says nothing
_LARGEST_TURN = np.cos(np.radians(45))


@dataclass(frozen=True)
class SidedLabel:
    """One code of the structures mask."""

    code: int
    name: str
    structure: str
    side: Side


@dataclass(frozen=True, eq=False)
class Midline:
    """The plane normal · point = offset (LPS mm); the normal points to the patient's left."""

    normal: Floats
    offset: float


def tumour_code(manifest: Manifest) -> int | None:
    """The label that is the tumour of a one-softmax bundle: named so, else the first; None when there is
    a tumour output of its own."""
    kinds = {output.kind for network in manifest.networks for output in network.outputs}
    if "segmentation" not in kinds or "tumour" in kinds:
        return None
    named = [label.code for label in manifest.labels if label.structure in TUMOUR_STRUCTURES]
    return named[0] if named else 1


def right_step(labels: Sequence[LabelSpec]) -> int:
    """What is added to a paired code for the right side. BundleError when no free step fits in uint8."""
    taken = {label.code for label in labels}
    paired = [label.code for label in labels if label.side == "paired"]
    for step in range(RIGHT_STEP, 255):
        if all(code + step <= 255 and code + step not in taken for code in paired):
            return step
    raise BundleError("the bundle has too many labels to tell their sides apart", "give sided labels instead")


def sided_labels(manifest: Manifest) -> tuple[SidedLabel, ...]:
    """Every code the structures mask may hold, the tumour left out."""
    step, tumour = right_step(manifest.labels), tumour_code(manifest)
    out: list[SidedLabel] = []
    for label in manifest.labels:
        if label.code == tumour:
            continue
        if label.side == "paired":
            out.append(SidedLabel(label.code, f"{label.name}_left", label.structure, "left"))
            out.append(SidedLabel(label.code + step, f"{label.name}_right", label.structure, "right"))
        else:
            out.append(SidedLabel(label.code, label.name, label.structure, label.side))
    return tuple(out)


def axis_sum(row: NDArray[np.float64], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """row (4,) over indices (x, y, z, 1) at every voxel of shape (Z, Y, X), as an array that broadcasts to
    it; axes along which nothing changes have length 1."""
    out = np.full((1, 1, 1), float(row[3]))
    for axis, column in ((2, 0), (1, 1), (0, 2)):
        if abs(row[column]) * shape[axis] > 1e-6:
            line = row[column] * np.arange(shape[axis], dtype=np.float64)
            out = out + line.reshape([-1 if i == axis else 1 for i in range(3)])
    return out


def find_midline(
    structures: NDArray[np.uint8],
    geometry: Geometry,
    labels: Sequence[LabelSpec],
    back: NDArray[np.uint8] | None = None,
) -> Midline:
    """The plane between the two sides of the predicted anatomy.

    structures (Z, Y, X) network codes on `geometry`, or what `back` (256,) turns into those. Each paired
    structure, split by the plane so far, votes with the line between its two centroids for the normal and
    with their midpoint for the offset; midline structures vote for the offset too. Weighted medians, so that
    one displaced structure does not tilt the head. Without any anatomy: the middle of the grid.
    """
    paired = [label.code for label in labels if label.side == "paired"]
    middle = [label.code for label in labels if label.side == "midline"]
    points, codes = _points(structures, geometry)
    codes = codes if back is None else back[codes]
    in_pair, in_middle = np.isin(codes, paired), np.isin(codes, middle)
    if not in_pair.any() and not in_middle.any():
        return Midline(_LEFT, float(geometry.centre @ _LEFT))
    if in_middle.any():
        start = float(np.median(points[in_middle] @ _LEFT))
    else:
        start = float(np.percentile(points[in_pair] @ _LEFT, [5, 95]).mean())
    plane = Midline(_LEFT, start)
    spines = _centroids(points[in_middle], codes[in_middle])
    pairs, pair_codes = points[in_pair], codes[in_pair]
    for _ in range(8):
        last, plane = plane, _refined(plane, pairs, pair_codes, spines)
        if plane.offset == last.offset and np.array_equal(plane.normal, last.normal):
            break  # at rest: no further round would move it
    return plane


def _points(structures: NDArray[np.uint8], geometry: Geometry) -> tuple[Floats, NDArray[np.uint8]]:
    """Labelled voxels on a grid of about 2 mm in plane: (N, 3) LPS mm and their codes."""
    x, y, _ = geometry.spacing
    step_y, step_x = max(1, round(2 / y)), max(1, round(2 / x))
    thin = structures[:, ::step_y, ::step_x]
    index = np.argwhere(thin)[:, ::-1] * np.array([step_x, step_y, 1])
    return geometry.to_world(index), thin[thin > 0]


def _centroids(points: Floats, codes: NDArray[np.uint8]) -> list[tuple[Floats, int]]:
    counts, means = _means(points, codes)
    return [(means[code], int(counts[code])) for code in np.flatnonzero(counts).tolist()]


def _means(points: Floats, groups: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], Floats]:
    """Points (N, 3) and the number of each one's group → how many there are in each, and their means (G, 3),
    nan of an empty one. One pass for all groups, adding up in the points' order as a mean of each would."""
    counts = np.bincount(groups)
    sums = np.stack([np.bincount(groups, weights=column) for column in points.T], axis=1)
    with np.errstate(invalid="ignore"):
        return counts, sums / counts[:, None]


def _refined(
    plane: Midline, points: Floats, codes: NDArray[np.uint8], spines: list[tuple[Floats, int]]
) -> Midline:
    left = points @ plane.normal > plane.offset
    counts, means = _means(points, 2 * codes.astype(np.intp) + left)
    sides = np.zeros((256, 2), dtype=np.int64)
    sides.reshape(-1)[: len(counts)] = counts
    lines: list[Floats] = []
    middles: list[Floats] = []
    weights: list[float] = []
    for code in np.flatnonzero(sides.all(axis=1)).tolist():
        less, more = sorted(sides[code].tolist())
        if less < _LEAST_BALANCE * more:
            continue
        on_right, on_left = means[2 * code], means[2 * code + 1]
        lines.append(on_left - on_right)
        middles.append((on_left + on_right) / 2)
        weights.append(float(np.sqrt(less)))
    normal = plane.normal
    if lines:
        total = np.sum([w * line for w, line in zip(weights, lines, strict=True)], axis=0)
        total = total / np.linalg.norm(total)
        normal = total if float(total @ _LEFT) > _LARGEST_TURN else _LEFT
    # Midline structures are wide and lobed: each counts half of a pair of its size.
    middles += [centroid for centroid, _ in spines]
    weights += [0.5 * float(np.sqrt(count)) for _, count in spines]
    if not middles:
        return plane
    return Midline(normal, _weighted_median(np.array(middles) @ normal, np.array(weights)))


def _weighted_median(values: Floats, weights: Floats) -> float:
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][int(np.searchsorted(reached, reached[-1] / 2))])


def split_sides(
    structures: NDArray[np.uint8], geometry: Geometry, labels: Sequence[LabelSpec], plane: Midline
) -> NDArray[np.uint8]:
    """structures (Z, Y, X) network codes → the same with the right side of paired labels renumbered."""
    moves = np.zeros(256, dtype=np.uint8)
    moves[[label.code for label in labels if label.side == "paired"]] = right_step(labels)
    row = plane.normal @ geometry.affine[:3]
    across = axis_sum(np.array([row[0], row[1], 0.0, row[3] - plane.offset]), structures.shape)
    along = axis_sum(np.array([0.0, 0.0, row[2], 0.0]), structures.shape)
    result = np.empty_like(structures)

    def renumber(level: int) -> None:
        right = across[0] + along[level if along.size > 1 else 0] < 0
        np.add(structures[level], moves[structures[level]] * right, out=result[level])

    on_cores(renumber, range(len(structures)))
    return result
