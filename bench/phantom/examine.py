"""A head goes through a protocol: every series of an examination, from tissue to magnitude images."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom.acquire import acquire, suppression_failure, texture
from npc_edge.bench.phantom.dicom import Acquired
from npc_edge.bench.phantom.protocol import PhantomSpec, Protocol, SeriesPlan
from npc_edge.bench.phantom.signal import render, tissue_signals
from npc_edge.engine.geometry import Geometry

_TISSUE, _FLAWS, _TEXTURE = 11, 12, 13  # streams of the seed: one person's tissues, each series' own noise


@dataclass(frozen=True, eq=False)
class Head:
    """A head in the scanner: tissue (Z, Y, X) uint8, the tumour's fraction in it, and where they lie."""

    tissue: NDArray[np.uint8]
    fraction: NDArray[np.float32] | None
    geometry: Geometry


def examine(spec: PhantomSpec, protocol: Protocol, head: Head) -> list[Acquired]:
    """Acquire every series of a protocol from a head."""
    return [
        Acquired(plan, _localizer(spec, plan, head)) if plan.geometry is None else _stack(spec, plan, head)
        for plan in protocol.series
    ]


def _signal(spec: PhantomSpec, plan: SeriesPlan, head: Head) -> NDArray[np.float32]:
    """The head's signal in a series, (Z, Y, X) float32; the person's tissues are the same in all of them."""
    lut, unsuppressed = tissue_signals(plan.parameters, np.random.default_rng([spec.seed, _TISSUE]))
    signal = render(head.tissue, lut, head.fraction)
    if plan.parameters.fat_suppression == "spectral":
        failure = suppression_failure(head.tissue.shape, np.random.default_rng([spec.seed, plan.number]))
        if failure.any():
            signal += failure * (unsuppressed - lut)[head.tissue]
    signal *= texture(head.geometry, np.random.default_rng([spec.seed, _TEXTURE]), 0.05)
    return signal


def _stack(spec: PhantomSpec, plan: SeriesPlan, head: Head) -> Acquired:
    assert plan.geometry is not None
    rng = np.random.default_rng([spec.seed, _FLAWS, plan.number])
    moved = np.array(head.geometry.affine)
    moved[:3, 3] += plan.shift_mm
    where = Geometry(head.geometry.shape, moved)
    signal = _signal(spec, plan, head)
    voxels = acquire(signal, where, plan.geometry, plan.thickness_mm, plan.resolution_mm, rng, plan.flaws)
    return Acquired(plan, ((plan.geometry, voxels),))


def _localizer(
    spec: PhantomSpec, plan: SeriesPlan, head: Head
) -> tuple[tuple[Geometry, NDArray[np.float32]], ...]:
    """Three slices in each of three planes, 256x256."""
    rng = np.random.default_rng([spec.seed, _FLAWS, plan.number])
    signal = _signal(spec, plan, head)
    stacks = []
    planes = {"axial": [[1, 0], [0, 1], [0, 0]], "coronal": [[1, 0], [0, 0], [0, -1]]}
    planes["sagittal"] = [[0, 0], [1, 0], [0, -1]]
    for columns in planes.values():
        in_plane = np.array(columns, dtype=np.float64)
        direction = np.column_stack([in_plane, np.cross(in_plane[:, 0], in_plane[:, 1])])
        spacing = np.array([1.1, 1.1, 20.0])
        origin = head.geometry.centre - direction @ (np.array([127.5, 127.5, 1.0]) * spacing)
        grid = Geometry.from_parts((3, 256, 256), spacing.tolist(), origin.tolist(), direction)
        voxels = acquire(signal, head.geometry, grid, plan.thickness_mm, plan.resolution_mm, rng, plan.flaws)
        stacks.append((grid, voxels))
    return tuple(stacks)
