"""Does a TensorRT take the GPU in this machine? Asked with a network of one layer, told in its own words.

What it lists is one thing, what it does another: it is asked to build for the card that is here, to load what
it built, and to run it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from npc_edge.bench.gpu_rounds import FAULTS, words
from npc_edge.engine.errors import BackendError
from npc_edge.engine.gpu import Gpus, find_gpus
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners.devices import gpu_for
from npc_edge.engine.model.runners.tensorrt import Engine, TensorRtRunner
from npc_edge.engine.model.runners.tensorrt_build import Runtime, TensorRt, load_tensorrt, quiet_log
from npc_edge.engine.types import Options
from npc_edge.kernels.launch import Launcher

Row = dict[str, Any]
_SHAPE = (1, 2, 3, 4, 5)


def acceptance(
    runtime: Runtime,
    number: int,
    load: Callable[[Runtime], TensorRt] = load_tensorrt,
    build: Callable[[TensorRt], bytes] | None = None,
    memory: Callable[[int], Launcher] | None = None,
    gpus: Gpus | None = None,
) -> Row:
    """`runtime`, `version`, `lists` (the cards it says it builds for), `card`, `accepts` (None where it is
    not installed or there is no GPU), `at` (the step that failed: load, build or run) and `words`."""
    row: Row = {"runtime": runtime, "accepts": None, "at": "load"}
    try:
        trt = load(runtime)
        row |= {"version": trt.version, "lists": list(trt.targets())}
        gpu = gpu_for(Options(device=f"cuda:{number}"), gpus=find_gpus() if gpus is None else gpus)
        assert gpu is not None, "a GPU that is named is there, or an error"
        row |= {"card": gpu.capability, "listed": gpu.capability in row["lists"]}
    except FAULTS as error:
        return {**row, "words": words(error)}
    try:
        row["at"] = "build"
        plan = (one_layer if build is None else build)(trt)
        row["at"] = "run"
        engine = Engine(lambda: plan, "one layer", "fp32")
        given = np.arange(np.prod(_SHAPE), dtype=np.float32).reshape(_SHAPE)
        with TensorRtRunner(engine, trt, gpu, memory) as runner:
            made = runner.infer({IMAGE: given})
        right = np.array_equal(next(iter(made.values())), 2 * given)
    except FAULTS as error:
        return {**row, "accepts": False, "words": words(error)}
    if not right:
        return {**row, "accepts": False, "words": "it ran, and its numbers are wrong"}
    return {**row, "accepts": True, "at": "", "words": "it builds, loads and runs a network of one layer"}


def one_layer(trt: TensorRt) -> bytes:
    """(1, 2, 3, 4, 5) float32 added to itself, built for the card that is here. BackendError in the words of
    the TensorRT that does not."""
    module, log = trt.module, quiet_log(trt.module)
    builder = module.Builder(log)
    flags = module.NetworkDefinitionCreationFlag
    typed = 1 << int(flags.STRONGLY_TYPED) if hasattr(flags, "STRONGLY_TYPED") else 0
    network, config = builder.create_network(typed), builder.create_builder_config()
    image = network.add_input(IMAGE, module.float32, _SHAPE)
    layer = network.add_elementwise(image, image, module.ElementWiseOperation.SUM)
    layer.get_output(0).name = "out"
    network.mark_output(layer.get_output(0))
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        why = log.last or "it does not say why"
        raise BackendError(f"{trt.name} {trt.version} builds nothing for this card: {why}")
    return bytes(memoryview(plan))
