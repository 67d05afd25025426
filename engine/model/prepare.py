"""Volumes become a network's input: one grid, one normalisation, channels in the network's order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.types import ModelInput, Volume
from npc_edge.kernels import cpu
from npc_edge.kernels.intensity import normalise
from npc_edge.kernels.sampling import index_map, inside

_MOST_VOXELS = 2**28  # of one sequence on the network's grid: 1 GB as float32


def prepare(
    volumes: Mapping[str, Volume],
    network: NetworkSpec,
    centre: NDArray[np.float64] | None,
    reference: str,
) -> ModelInput:
    """The network's input (1, C, Z, Y, X) float32 on its grid (see `grid`).

    centre: LPS mm, where an earlier network pointed, None for a `whole` network. reference: the name of the
    sequence whose volume a `whole` grid covers. Voxels outside a volume are 0. Raises Refusal (UNREADABLE,
    TOO_LARGE).
    """
    target = grid(volumes[reference].geometry, network, centre)
    if int(np.prod(target.shape, dtype=np.int64)) > _MOST_VOXELS:
        raise Refusal(
            "TOO_LARGE", f"the field of view needs {target.shape} voxels for network {network.name}"
        )
    array = np.empty((1, len(network.inputs), *target.shape), dtype=np.float32)
    for channel, name in enumerate(network.inputs):
        array[0, channel] = channel_on(target, volumes[name], network, name)
    return ModelInput(array, target)


def grid(reference: Geometry, network: NetworkSpec, centre: NDArray[np.float64] | None) -> Geometry:
    """The network's grid, axial LPS. Around a point: one window. Whole: centred on the reference volume, one
    window or, along an axis where the volume is longer, as many voxels as cover it."""
    z, y, x = network.spacing
    spacing = (x, y, z)
    if centre is not None:
        return Geometry.centred(centre, spacing, network.window, reference.frame_of_reference)
    extent = np.ptp(reference.corners(), axis=0)
    # A volume that sticks out by less than half a voxel on each side gains nothing from more windows.
    needed = [int(np.ceil(e / s - 1)) for e, s in zip(extent, spacing, strict=True)][::-1]
    shape = (
        max(network.window[0], needed[0]),
        max(network.window[1], needed[1]),
        max(network.window[2], needed[2]),
    )
    return Geometry.centred(reference.centre, spacing, shape, reference.frame_of_reference)


def channel_on(target: Geometry, volume: Volume, network: NetworkSpec, name: str) -> NDArray[np.float32]:
    """One sequence on a grid, normalised: (Z, Y, X) float32, 0 outside the volume."""
    if not np.isfinite(volume.voxels).all():
        raise Refusal("UNREADABLE", f"sequence {name} holds values that are not finite")
    source = volume.geometry
    values = cpu.resample(
        volume.voxels,
        source.affine,
        target.affine,
        target.shape,
        anti_alias=network.resampling == "linear",
        interpolation="bspline" if network.resampling == "bspline" else "linear",
    )
    covered = inside(index_map(source.affine, target.affine), source.shape, target.shape)
    rule = network.normalisation
    if rule is None:
        raise BundleError(f"network {network.name} declares no normalisation")
    return normalise(values, rule.method, rule.lower, rule.upper, rule.foreground, covered)
