"""Where a later network should look: the mode of a coarse heatmap, refined below its voxel."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.prepare import prepare
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.sliding_window import run_windows
from npc_edge.engine.types import Region, Volume, Watch
from npc_edge.engine.voxels import HOST, Tiles, Voxels

NEAR_MM = 15.0
"""Confidence is the probability this near the mode: half the width of a nasopharynx."""

_REFINE_MM = 12.0


def locate(
    volumes: Mapping[str, Volume],
    network: NetworkSpec,
    runner: Runner,
    watch: Watch,
    reference: str,
    voxels: Voxels = HOST,
) -> Region:
    """The point the network's first output, a heatmap, points at, LPS mm, and how sure it is, 0..1.

    The heatmap, coarse and small, is looked at on the host; all before it is the work of `voxels`.

    Each window's logits are a distribution over its own voxels (softmax knows no common zero), so windows
    are not blended: a field of view of several windows takes the point of the surest one.
    Raises BackendError when a logit is not finite, Refusal as `prepare` does.
    """
    output = network.outputs[0]
    if output.kind != "heatmap":
        raise BundleError(f"network {network.name} has no heatmap to locate by")
    prepared = prepare(volumes, network, None, reference, voxels)
    best: Region | None = None
    for corner in Tiles.over(prepared.geometry.shape, network).corners:
        watch.check()
        window = voxels.gather(prepared.array, [corner], network.window)
        logits = voxels.host(run_windows(runner, window, network, voxels)[output.name])[0, 0]
        if not np.isfinite(logits).all():
            raise BackendError(f"output {output.name} of network {network.name} holds values not finite")
        index, confidence = peak(logits, network.spacing)
        start = np.array(corner, dtype=np.float64)
        centre = prepared.geometry.to_world((index + start)[::-1][None])[0]
        if best is None or confidence > best.confidence:
            best = Region(centre, confidence)
    assert best is not None, "a grid has at least one window"
    return best


def peak(
    logits: NDArray[np.float32], spacing: tuple[float, float, float]
) -> tuple[NDArray[np.float64], float]:
    """(Z, Y, X) logits, spacing (z, y, x) mm → fractional index (z, y, x) of the mode, and the confidence.

    The mode is the mean of the probability near the most probable voxel; the confidence is the probability
    within NEAR_MM of it.
    """
    weights = np.exp(logits.astype(np.float64) - logits.max())
    weights /= weights.sum()
    top = np.array(np.unravel_index(int(weights.argmax()), weights.shape), dtype=np.float64)
    near = np.where(_distance(weights.shape, top, spacing) <= _REFINE_MM, weights, 0.0)
    mass = near.sum()
    index = np.array([(near.sum(axis=other) * np.arange(n)).sum() / mass for n, other in _axes(near.shape)])
    confidence = weights[_distance(weights.shape, index, spacing) <= NEAR_MM].sum()
    return index, min(1.0, float(confidence))


def _axes(shape: tuple[int, ...]) -> list[tuple[int, tuple[int, int]]]:
    return [(shape[0], (1, 2)), (shape[1], (0, 2)), (shape[2], (0, 1))]


def _distance(
    shape: tuple[int, ...], index: NDArray[np.float64], spacing: tuple[float, float, float]
) -> NDArray[np.float64]:
    """(Z, Y, X) mm from a fractional index."""
    z, y, x = (((np.arange(n) - i) * s) ** 2 for n, i, s in zip(shape, index.tolist(), spacing, strict=True))
    return np.asarray(np.sqrt(z[:, None, None] + y[:, None] + x))
