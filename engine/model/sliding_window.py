"""A network over a grid larger than its window: overlapping windows, blended with a Gaussian."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.runner import IMAGE, Arrays, Runner
from npc_edge.engine.types import ModelInput, Predictions, Watch
from npc_edge.kernels.windows import gaussian_weight

OnWindow = Callable[[int, int], None]
"""Called after each window with how many are done and how many there are."""

Box = tuple[slice, slice, slice]


def infer(
    runner: Runner,
    model_input: ModelInput,
    network: NetworkSpec,
    watch: Watch,
    on_window: OnWindow | None = None,
    at_once: int = 1,
) -> Predictions:
    """Run the network over its input, raw outputs on the input's grid; the watch is asked before each window.

    Maps (1, K, Z, Y, X) of several windows are averaged with a Gaussian centred on each window; of scores
    (1, K) the largest counts. at_once: how many windows the runner is given together (`memory.plan`). Raises
    BundleError when an output is missing or has another shape.
    """
    boxes = list(windows(model_input.geometry.shape, network))
    if len(boxes) == 1:
        watch.check()
        outputs = run_window(runner, model_input, boxes[0], network)
    else:
        outputs = _blend(runner, model_input, network, _Pace(watch, on_window, at_once))
    if on_window is not None and len(boxes) == 1:
        on_window(1, 1)
    return Predictions(outputs, model_input.geometry)


def windows(shape: tuple[int, int, int], network: NetworkSpec) -> Iterator[Box]:
    """The windows (z, y, x) that cover a grid, evenly spread, overlapping by at least the network's overlap.

    BundleError when the grid is smaller than the window."""
    starts = [_starts(n, w, network.overlap) for n, w in zip(shape, network.window, strict=True)]
    for corner in itertools.product(*starts):
        z, y, x = (slice(s, s + w) for s, w in zip(corner, network.window, strict=True))
        yield z, y, x


def run_window(runner: Runner, model_input: ModelInput, box: Box, network: NetworkSpec) -> Arrays:
    """Outputs of one window, each of the shape its kind asks for."""
    return run_image(runner, model_input.array[(slice(None), slice(None), *box)], network)


def run_image(runner: Runner, window: NDArray[np.float32], network: NetworkSpec) -> Arrays:
    """The same of the window itself, (N, C, Z, Y, X): N windows together."""
    image = np.ascontiguousarray(window)
    given = runner.infer({IMAGE: image})
    outputs: Arrays = {}
    for output in network.outputs:
        if output.name not in given:
            raise BundleError(f"network {network.name} gave no output {output.name}")
        array = given[output.name]
        wanted = 2 if output.kind == "detection" else 5
        right = array.ndim == wanted and len(array) == len(image) and array.shape[2:] in ((), network.window)
        if not right or (output.kind in ("tumour", "heatmap", "detection") and array.shape[1] != 1):
            raise BundleError(f"output {output.name} of network {network.name} has shape {array.shape}")
        outputs[output.name] = array
    return outputs


@dataclass(frozen=True)
class _Pace:
    """How windows follow one another: who may stop them, who is told, how many go together."""

    watch: Watch
    on_window: OnWindow | None
    at_once: int


def _blend(runner: Runner, model_input: ModelInput, network: NetworkSpec, pace: _Pace) -> Arrays:
    shape = model_input.geometry.shape
    boxes = list(windows(shape, network))
    weight = gaussian_weight(network.window)
    total = np.zeros(shape, dtype=np.float32)
    outputs: Arrays = {}
    for first in range(0, len(boxes), pace.at_once):
        pace.watch.check()
        group = boxes[first : first + pace.at_once]
        images = [model_input.array[(slice(None), slice(None), *box)] for box in group]
        made = run_image(runner, images[0] if len(images) == 1 else np.concatenate(images), network)
        for number, box in enumerate(group):
            one = {name: array[number : number + 1] for name, array in made.items()}
            _add(outputs, one, box, weight, shape)
            total[box] += weight
            if pace.on_window is not None:
                pace.on_window(first + number + 1, len(boxes))
    for array in outputs.values():
        if array.ndim == 5:
            array /= total
    return outputs


def _add(
    outputs: Arrays, made: Arrays, box: Box, weight: NDArray[np.float32], shape: tuple[int, int, int]
) -> None:
    """What one window said joins what the others said."""
    for name, array in made.items():
        if array.ndim == 2:
            outputs[name] = np.maximum(outputs[name], array) if name in outputs else array
            continue
        if name not in outputs:
            outputs[name] = np.zeros((1, array.shape[1], *shape), dtype=np.float32)
        outputs[name][(slice(None), slice(None), *box)] += array * weight


def _starts(length: int, window: int, overlap: float) -> list[int]:
    if length < window:
        raise BundleError(f"a grid of {length} voxels is smaller than the window of {window}")
    step = max(1.0, window * (1 - overlap))
    count = math.ceil((length - window) / step) + 1
    return [round(s) for s in np.linspace(0, length - window, count)]
