"""Volumes become a network's input: one grid, one normalisation, channels in the network's order."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.types import ModelInput, Volume
from npc_edge.engine.voxels import HOST, Voxels

_MOST_VOXELS = 2**28  # of one sequence on the network's grid: 1 GB as float32


def prepare(
    volumes: Mapping[str, Volume],
    network: NetworkSpec,
    centre: NDArray[np.float64] | None,
    reference: str,
    voxels: Voxels = HOST,
) -> ModelInput:
    """The network's input (1, C, Z, Y, X) float32 on its grid (see `grid`), where `voxels` works.

    centre: LPS mm, where an earlier network pointed, None for a `whole` network. reference: the name of the
    sequence whose volume a `whole` grid covers. Voxels outside a volume are 0. Raises Refusal (UNREADABLE,
    TOO_LARGE).
    """
    target = grid(volumes[reference].geometry, network, centre)
    if int(np.prod(target.shape, dtype=np.int64)) > _MOST_VOXELS:
        raise Refusal(
            "TOO_LARGE", f"the field of view needs {target.shape} voxels for network {network.name}"
        )
    return ModelInput(voxels.image(volumes, network, target), target)


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
