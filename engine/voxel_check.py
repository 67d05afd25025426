"""Do a device's voxel operations say here what the processor's say? Asked when they are opened.

Golden cases prove a network on this machine; nothing else would prove what surrounds it, on a GPU nobody has
tried. One small made-up study goes through both: tilted, in several windows, on to another grid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import NpcEdgeError
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.types import Array, Volume
from npc_edge.engine.voxels import HOST, Tiles, Voxels

_INPUT, _PROBABILITY, _LABELS = 1e-4, 1e-5, 1e-3
"""Allowed: of the normalised range; of a probability; of all voxels, where two logits lie within rounding."""

_NETWORK = NetworkSpec.model_validate(
    {
        "name": "check",
        "region": "whole",
        "inputs": ("a", "b"),
        "spacing": (3.0, 1.5, 1.5),
        "window": (4, 8, 12),
        "normalisation": {"method": "percentile"},
        "outputs": [{"name": "map", "kind": "segmentation"}],
        "artefacts": [{"precision": "fp32", "file": "none"}],
    }
)
_MODEL = Geometry.centred((0.0, 0.0, 0.0), (1.5, 1.5, 3.0), (9, 15, 21))


def difference(voxels: Voxels) -> str:
    """What differs from the processor's operations, in words; "" when nothing does."""
    volumes = _study()
    wanted = HOST.image(volumes, _NETWORK, _MODEL)
    finer = Geometry.centred((1.0, 0.5, -1.0), (0.7, 0.7, 2.0), (13, 30, 40))
    try:
        with voxels.holding(volumes.values()):
            image = voxels.image(volumes, _NETWORK, _MODEL)
            if not _near(voxels.host(image), HOST.host(wanted), _INPUT):
                return "volumes prepared for a network"
            blended = _through_windows(voxels, image)
            if not (voxels.finite(blended) and _near(voxels.host(blended), HOST.host(wanted), _INPUT)):
                return "windows put together"
            found = voxels.probability(voxels.margin(blended, 1), _MODEL, finer)
            expected = HOST.probability(HOST.margin(wanted, 1), _MODEL, finer)
            if not _near(found, expected, _INPUT + _PROBABILITY):
                return "a probability on another grid"
            labels, others = voxels.labels(blended, _MODEL, finer), HOST.labels(wanted, _MODEL, finer)
            return "labels on another grid" if (labels != others).mean() > _LABELS else ""
    except NpcEdgeError as error:
        return error.one_line()


def _study() -> dict[str, Volume]:
    """Two sequences of smooth noise, tilted against the network's grid and larger than it."""
    rng, shape = np.random.default_rng(11), (12, 30, 32)
    turn = np.array([[0.98, -0.19, 0.0], [0.19, 0.98, 0.05], [-0.01, -0.05, 1.0]])
    columns = np.linalg.qr(turn)[0]
    columns *= np.sign(np.diag(columns))
    half = columns @ (np.array([1.1, 1.2, 3.3]) * (np.array(shape[::-1]) - 1) / 2)
    geometry = Geometry.from_parts(shape, (1.1, 1.2, 3.3), (-half).tolist(), columns)
    volumes = {}
    for name in ("a", "b"):
        noise = rng.gamma(2.0, 100.0, shape)
        for axis in range(3):
            noise = noise + np.roll(noise, 1, axis) + np.roll(noise, 2, axis)
        volumes[name] = Volume(noise.astype(np.float32), geometry)
    return volumes


def _through_windows(voxels: Voxels, image: Array) -> Array:
    """The image cut into windows and put together again: itself."""
    tiles = Tiles.over(_MODEL.shape, _NETWORK)
    blending = voxels.blending(tiles)
    for first in range(0, len(tiles.corners), 5):
        blending.add({"map": voxels.gather(image, tiles.corners[first : first + 5], tiles.window)})
    return blending.maps()["map"]


def _near(found: NDArray[np.float32], wanted: NDArray[np.float32], allowed: float) -> bool:
    """NaN is near nothing."""
    return found.shape == wanted.shape and bool((np.abs(found - wanted) <= allowed).all())
