"""A network over a grid larger than its window: overlapping windows, blended with a Gaussian."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.types import Array, ModelInput, Predictions, Watch
from npc_edge.engine.voxels import HOST, Box, Tiles, Voxels

OnWindow = Callable[[int, int], None]
"""Called after each window with how many are done and how many there are."""


def infer(
    runner: Runner,
    model_input: ModelInput,
    network: NetworkSpec,
    watch: Watch,
    on_window: OnWindow | None = None,
    at_once: int = 1,
    voxels: Voxels = HOST,
) -> Predictions:
    """Run the network over its input, raw outputs on the input's grid; the watch is asked before each window.

    Maps (1, K, Z, Y, X) of several windows are averaged with a Gaussian centred on each window; of scores
    (1, K) the largest counts. at_once: how many windows the runner is given together (`memory.plan`). voxels:
    those that made the input. Raises BundleError when an output is missing or has another shape.
    """
    tiles = Tiles.over(model_input.geometry.shape, network)
    blending, corners = voxels.blending(tiles), tiles.corners
    scores: dict[str, NDArray[np.float32]] = {}
    for first in range(0, len(corners), at_once):
        watch.check()
        group = corners[first : first + at_once]
        made = run_windows(runner, voxels.gather(model_input.array, group, tiles.window), network, voxels)
        blending.add({name: array for name, array in made.items() if len(array.shape) == 5})
        for name, array in made.items():
            if len(array.shape) == 2:
                found = voxels.host(array).max(axis=0, keepdims=True)
                scores[name] = np.maximum(scores[name], found) if name in scores else found
        if on_window is not None:
            for number in range(len(group)):
                on_window(first + number + 1, len(corners))
    return Predictions({**blending.maps(), **scores}, model_input.geometry)


def windows(shape: tuple[int, int, int], network: NetworkSpec) -> Iterator[Box]:
    """The windows (z, y, x) that cover a grid, evenly spread, overlapping by at least the network's overlap.

    BundleError when the grid is smaller than the window."""
    for corner in Tiles.over(shape, network).corners:
        z, y, x = (slice(s, s + w) for s, w in zip(corner, network.window, strict=True))
        yield z, y, x


def run_windows(
    runner: Runner, image: Array, network: NetworkSpec, voxels: Voxels = HOST
) -> dict[str, Array]:
    """Outputs of windows (N, C, Z, Y, X) together, each of the shape its kind asks for."""
    given = voxels.run(runner, image)
    outputs: dict[str, Array] = {}
    for output in network.outputs:
        if output.name not in given:
            raise BundleError(f"network {network.name} gave no output {output.name}")
        array = given[output.name]
        wanted, shape = 2 if output.kind == "detection" else 5, array.shape
        right = len(shape) == wanted and shape[0] == image.shape[0] and shape[2:] in ((), network.window)
        if not right or (output.kind in ("tumour", "heatmap", "detection") and shape[1] != 1):
            raise BundleError(f"output {output.name} of network {network.name} has shape {shape}")
        outputs[output.name] = array
    return outputs
