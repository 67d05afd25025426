"""ONNX files from elsewhere: adopted when they are what the spec says, refused in one line when not."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper
from small_networks import tables

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model import acceptance
from npc_edge.engine.model.bundle import load
from npc_edge.engine.types import Options
from npc_edge.export.onnx_bundle import adopt, bundle_of_onnx
from npc_edge.export.sign import public_bytes
from npc_edge.export.spec import make_spec
from npc_edge.export.to_onnx import run_onnx

SPEC = make_spec(tables(), "here")


def quiet(line: str) -> None:
    assert "\n" not in line


def save(folder: Path, change: Callable[[Any], None] = lambda model: None) -> Path:
    model = tiny_bundle.npc()
    change(model)
    onnx.save(model, str(folder / "n.onnx"))
    return folder / "n.onnx"


def renamed(model: Any) -> None:
    """The input has another name and free axes; an output the spec does not name is there."""
    for node in model.graph.node:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "x"
    value = model.graph.input[0]
    value.name = "x"
    for axis, dim in enumerate(value.type.tensor_type.shape.dim):
        if axis != 1:
            dim.dim_param = f"n{axis}"
    model.graph.output.append(helper.make_tensor_value_info("mean", TensorProto.FLOAT, None))


REFERENCE = Options(backend="onnxruntime", threads=1)


def test_a_file_becomes_a_bundle(tmp_path: Path) -> None:
    key = Ed25519PrivateKey.generate()
    made = bundle_of_onnx(save(tmp_path, renamed), SPEC, tmp_path / "b", key, quiet)
    bundle = load(made.root, [public_bytes(key)])
    assert made.parity is None
    assert bundle.manifest.networks[0].artefacts[0].parity == ()
    assert [result.status for result in acceptance.verify(bundle, REFERENCE)] == ["passed"]
    assert 'Its input "x" is now named "image".' in made.notes
    assert any("left out: mean" in note for note in made.notes)
    assert "there was no PyTorch network" in (made.root / "model_card.md").read_text()
    path = bundle.artefact("npc", "fp32")
    graph = onnx.load(str(path)).graph
    dims = [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["batch", 2, *tiny_bundle.WINDOW]
    image = np.random.default_rng(0).random((2, 2, *tiny_bundle.WINDOW), dtype=np.float32)
    found = run_onnx(path, {"image": image})
    np.testing.assert_allclose(found["tumour"][:, 0], image[:, 0] - 0.5, atol=1e-6)


def big(model: Any) -> None:
    """A weight large enough to lie outside."""
    model.graph.initializer.append(
        onnx.numpy_helper.from_array(np.zeros((1, 2, *tiny_bundle.WINDOW), np.float32), "shift")
    )
    model.graph.node.insert(0, helper.make_node("Add", ["image", "shift"], ["moved"]))
    for node in list(model.graph.node)[1:]:
        for place, name in enumerate(node.input):
            if name == "image":
                node.input[place] = "moved"


def outside(folder: Path, location: str = "weights.bin") -> Path:
    model = tiny_bundle.npc()
    big(model)
    onnx.save(
        model, str(folder / "n.onnx"), save_as_external_data=True, location="weights.bin", size_threshold=1024
    )
    if location != "weights.bin":
        held = onnx.load(str(folder / "n.onnx"), load_external_data=False)
        for tensor in held.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = location
        (folder / "n.onnx").write_bytes(held.SerializeToString())
    return folder / "n.onnx"


def test_data_beside_the_file_is_taken_in(tmp_path: Path) -> None:
    model, notes = adopt(outside(tmp_path), SPEC)
    assert notes == ("Its data (weights.bin) is now inside the file.",)
    assert all(not tensor.external_data for tensor in model.graph.initializer)
    onnx.checker.check_model(model)


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "missing.bin", "a\\..\\..\\b"])
def test_data_from_elsewhere_is_refused(tmp_path: Path, location: str) -> None:
    with pytest.raises(BundleError, match="is not a file beside it"):
        adopt(outside(tmp_path, location), SPEC)


def set_opset(version: int) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.opset_import[0].version = version

    return change


def set_input(
    kind: int = TensorProto.FLOAT, shape: tuple[int, ...] = (1, 2, 8, 12, 10)
) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("image", kind, shape))

    return change


def add_input(model: Any) -> None:
    model.graph.input.append(helper.make_tensor_value_info("prompt", TensorProto.FLOAT, (1,)))


def foreign(model: Any) -> None:
    model.graph.node[0].domain = "com.example"


def no_detection(model: Any) -> None:
    del model.graph.output[2]


def half_output(model: Any) -> None:
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT16


def taken(model: Any) -> None:
    renamed(model)
    model.graph.node[0].output[0] = "image"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_opset(9), "is of opset 9; 13 to"),
        (set_opset(99), "is of opset 99"),
        (set_input(TensorProto.FLOAT16), "takes float16 input, not float32"),
        (set_input(shape=(1, 3, 8, 12, 10)), r"takes input \(1, 3, 8, 12, 10\), the spec makes it"),
        (set_input(shape=(1, 2, 8, 12)), "takes input"),
        (set_input(shape=(2, 2, 8, 12, 10)), "takes input"),
        (add_input, "has 2 inputs, not the one image"),
        (foreign, "uses operators of com.example"),
        (no_detection, "has no output detection, but tumour, anatomy"),
        (half_output, "output tumour of n.onnx is not float32"),
        (taken, 'uses the name "image" for something else'),
    ],
)
def test_another_network_is_refused_by_name(tmp_path: Path, change: Callable[[Any], None], said: str) -> None:
    with pytest.raises(BundleError, match=said) as caught:
        bundle_of_onnx(save(tmp_path, change), SPEC, tmp_path / "b", None, quiet)
    assert "\n" not in caught.value.one_line()
    assert [path.name for path in tmp_path.iterdir()] == ["n.onnx"]


def test_what_onnx_runtime_cannot_run_is_one_line(tmp_path: Path) -> None:
    def mismatch(model: Any) -> None:
        scale = next(t for t in model.graph.initializer if t.name == "scale")
        scale.dims[2] = 3
        del scale.float_data[:]
        scale.float_data.extend([0.0] * 9)

    with pytest.raises((BundleError,)) as caught:
        bundle_of_onnx(save(tmp_path, mismatch), SPEC, tmp_path / "b", None, quiet)
    assert "\n" not in caught.value.one_line()
    assert not (tmp_path / "b").exists()


def test_what_is_no_onnx_file(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        adopt(tmp_path / "nowhere.onnx", SPEC)
    for content in (b"", b"PK\x03\x04 not a network", bytes(range(200))):
        (tmp_path / "n.onnx").write_bytes(content)
        with pytest.raises(BundleError):
            adopt(tmp_path / "n.onnx", SPEC)
