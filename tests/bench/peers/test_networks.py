"""The peer's networks are the bundle's, weight by weight, or they are not timed."""

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from npc_edge.bench.peers.networks import Prepared, Variant, as_arrays, rebuild, variants
from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.embedded import EMBEDDED
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE
from npc_edge.export.pack import pack


@pytest.fixture(scope="module")
def demo() -> bundles.Bundle:
    return bundles.load(None)


def edited(demo: bundles.Bundle, root: Path, change: str) -> bundles.Bundle:
    """A copy of the demo bundle whose locator's file was changed: "renamed" or "biased"."""
    shutil.copytree(EMBEDDED, root)
    path = root / "artefacts" / "locator.fp32.onnx"
    model = onnx.load(str(path))
    if change == "renamed":
        for tensor in model.graph.initializer:
            for node in model.graph.node:
                names = [f"{n}.other" if n == tensor.name else n for n in node.input]
                del node.input[:]
                node.input.extend(names)
            tensor.name += ".other"
    else:
        node = next(n for n in model.graph.node if n.op_type == "Conv")
        extra = numpy_helper.from_array(np.full(12, 0.5, np.float32), "extra")
        model.graph.initializer.append(extra)
        node.input[2] = "extra"  # what the file runs is no longer the weight of that name
    onnx.save(model, str(path))
    pack(root, demo.manifest.model_dump(mode="json", exclude={"files"}), None)
    return bundles.load(root, allow_unsigned=True)


def test_the_locator_says_what_the_bundles_file_says_in_every_way(demo: bundles.Bundle) -> None:
    network = rebuild(demo, "locator")
    image = torch.from_numpy(next(golden_cases(demo, "locator")).inputs[IMAGE])
    expected = network(image).numpy()
    for variant in variants("cpu"):
        found = as_arrays(Prepared(rebuild(demo, "locator"), variant)(image), ["heatmap"])["heatmap"]
        assert relative_error(found, expected) < (1e-4 if variant.precision == "fp32" else 5e-2), variant.name


def test_batch_norms_stay_folded(demo: bundles.Bundle) -> None:
    kinds = {type(part).__name__ for part in rebuild(demo, "npc").modules()}
    assert "BatchNorm3d" not in kinds


def test_a_file_that_runs_other_weights_is_found_out(demo: bundles.Bundle, tmp_path: Path) -> None:
    altered = edited(demo, tmp_path / "bundle", "biased")
    with pytest.raises(BundleError, match="network locator in PyTorch differs"):
        rebuild(altered, "locator")


def test_a_network_that_is_not_the_demos_is_refused(demo: bundles.Bundle, tmp_path: Path) -> None:
    altered = edited(demo, tmp_path / "bundle", "renamed")
    with pytest.raises(UsageError, match="no definition in PyTorch"):
        rebuild(altered, "locator")


def test_ways_are_named_apart() -> None:
    names = [variant.name for variant in (*variants("cpu"), *variants("cuda"))]
    assert len(set(names)) == len(names)
    assert Variant("bf16", True).name == "torch bf16 channels_last_3d"
    on_gpu = {variant.name for variant in variants("cuda")}
    assert {"torch fp32 eager cuda", "torch tf32 eager cuda", "torch autocast eager cuda"} < on_gpu
    assert "torch autocast channels_last_3d compiled cuda" in on_gpu


@pytest.mark.filterwarnings("ignore")  # of PyTorch's compiler, about itself
@pytest.mark.parametrize("precision", ["fp32", "fp16", "autocast"])
def test_a_compiled_network_and_one_in_fp16_say_the_same(demo: bundles.Bundle, precision: str) -> None:
    """As on a GPU, but captured only: the compiler itself would want a minute here."""
    network = rebuild(demo, "locator")
    image = torch.from_numpy(next(golden_cases(demo, "locator")).inputs[IMAGE])
    expected = network(image).numpy()
    ready = Prepared(network, Variant(precision, True, compiled="default"), compiler="eager")
    found = as_arrays(ready(image), ["heatmap"])["heatmap"]
    error = relative_error(found, expected)
    assert error < (1e-4 if precision == "fp32" else 5e-2)
    assert precision == "fp32" or error > 1e-5  # it did run in less
