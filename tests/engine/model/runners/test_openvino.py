"""OpenVINO: it says what ONNX Runtime says, in the precision asked for, the same bits every time."""

from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import pytest
import tiny_bundle
import tiny_qdq

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.runner import Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner
from npc_edge.engine.model.runners.openvino import OpenVinoRunner, load_openvino
from npc_edge.engine.model.runners.openvino_graph import fix_batch, resize_by_planes

KINDS: list[tuple[Literal["fp32", "u8s8"], str, float]] = [
    ("fp32", "fp32", 1e-5),
    ("u8s8", "int8-u8s8", 1e-2),  # where a value falls between two steps, the runtimes may round it apart
]


def written(folder: Path, kind: Literal["fp32", "u8s8", "s8s8"] = "fp32", batch: int | str = "batch") -> Path:
    path = folder / f"tiny.{kind}.{batch}.onnx"
    onnx.save(tiny_qdq.network(kind, batch), str(path))
    return path


def reference(path: Path, image: np.ndarray) -> Arrays:
    with OnnxRuntimeRunner(path, threads=1, precision="fp32") as runner:
        return runner.infer({"image": image})


@pytest.mark.parametrize(("kind", "precision", "tolerance"), KINDS)
def test_it_says_what_onnx_runtime_says(
    tmp_path: Path, kind: Literal["fp32", "u8s8"], precision: str, tolerance: float
) -> None:
    path, image = written(tmp_path, kind), tiny_qdq.image()
    expected = reference(path, image)
    with OpenVinoRunner(path, threads=1, precision=precision) as runner:
        found = runner.infer({"image": image})
        info = runner.describe()
    assert list(found) == list(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        assert found[name].shape == values.shape
        assert np.abs(found[name] - values).max() <= tolerance * np.ptp(expected["map"])
    assert (info.backend, info.device, info.precision) == ("openvino", "cpu", precision)
    assert (info.artefact, info.threads, info.isa) == (path.name, 1, instruction_set())
    assert info.version.startswith("20")
    assert "-" not in info.version


def test_precision_is_what_it_is_told_whatever_the_cpu_prefers(tmp_path: Path) -> None:
    """On a CPU with bf16, OpenVINO left alone runs fp32 networks in it: fp32 must not."""
    path, image = written(tmp_path), tiny_qdq.image()
    expected = reference(path, image)["map"]
    with OpenVinoRunner(path, threads=1, precision="fp32") as runner:
        exact = np.abs(runner.infer({"image": image})["map"] - expected).max()
    assert exact < 1e-5 * np.ptp(expected)
    try:
        with OpenVinoRunner(path, threads=1, precision="bf16") as runner:
            short = np.abs(runner.infer({"image": image})["map"] - expected).max()
            assert runner.describe().precision == "bf16"
    except BackendError:
        assert "bf16" not in instruction_set()
        pytest.skip("this CPU has no bf16")
    assert 1e-4 * np.ptp(expected) < short < 5e-2 * np.ptp(expected)


def test_an_int8_file_without_an_int8_layer_is_said_to_run_in_fp32(tmp_path: Path) -> None:
    with OpenVinoRunner(written(tmp_path), threads=1, precision="int8-u8s8") as runner:
        assert runner.describe().precision == "fp32"


@pytest.mark.parametrize("precision", ["fp16", "int8-s8s8", "fp64"])
def test_precisions_it_does_not_run_are_a_backend_error(tmp_path: Path, precision: str) -> None:
    with pytest.raises(BackendError, match=precision):
        OpenVinoRunner(written(tmp_path), threads=1, precision=precision).__enter__()


@pytest.mark.parametrize(("kind", "precision", "tolerance"), KINDS)
def test_twenty_runs_are_bit_identical_and_so_is_another_runner(
    tmp_path: Path, kind: Literal["fp32", "u8s8"], precision: str, tolerance: float
) -> None:
    path, image = written(tmp_path, kind), tiny_qdq.image()
    firsts = []
    for _ in range(2):
        with OpenVinoRunner(path, threads=2, precision=precision) as runner:
            first = runner.infer({"image": image})
            kept = {name: values.copy() for name, values in first.items()}
            runner.infer({"image": 1 - image})
            assert all(np.array_equal(kept[name], first[name]) for name in first), "outputs are copies"
            for _ in range(19):
                again = runner.infer({"image": image})
                assert all(np.array_equal(first[name], again[name]) for name in first)
            firsts.append(first)
    assert all(np.array_equal(firsts[0][name], firsts[1][name]) for name in firsts[0])


def test_a_free_batch_axis_takes_any_number_one_by_one(tmp_path: Path) -> None:
    images = tiny_qdq.image(batch=3)
    with OpenVinoRunner(written(tmp_path), threads=1, precision="fp32") as runner:
        together = runner.infer({"image": images})
        alone = [runner.infer({"image": images[i : i + 1]}) for i in range(3)]
        with pytest.raises(BundleError, match="batch"):
            runner.infer({"image": images[:0]})
    assert together["map"].shape == (3, 3, *tiny_qdq.SHAPE[1:])
    for name in ("map", "score"):
        np.testing.assert_array_equal(together[name], np.concatenate([item[name] for item in alone]))
    with OpenVinoRunner(written(tmp_path, batch=1), threads=1, precision="fp32") as runner:
        np.testing.assert_array_equal(runner.infer({"image": images[:1]})["map"], alone[0]["map"])
        with pytest.raises(BundleError):
            runner.infer({"image": images})


def test_free_axes_that_are_no_batch_stay_free(tmp_path: Path) -> None:
    make = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["image"], ["out"])],
        "g",
        [make("image", 1, ["n", 1, "y"])],
        [make("out", 1, None)],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "free.onnx"))
    with OpenVinoRunner(tmp_path / "free.onnx", threads=1, precision="fp32") as runner:
        for shape in ((2, 1, 5), (1, 1, 3)):
            assert runner.infer({"image": np.ones(shape, np.float32)})["out"].shape == shape


@pytest.mark.parametrize("inputs", [{}, {"picture": 0}, {"image": 1}, {"image": 0, "more": 0}], ids=str)
def test_inputs_the_network_does_not_take_are_a_bundle_error(tmp_path: Path, inputs: dict[str, int]) -> None:
    images = [tiny_qdq.image(), tiny_qdq.image()[:, :1]]
    with (
        OpenVinoRunner(written(tmp_path), threads=1, precision="fp32") as runner,
        pytest.raises(BundleError),
    ):
        runner.infer({name: images[which] for name, which in inputs.items()})


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)], ids=range(3))
def test_a_file_that_is_no_network_is_a_bundle_error(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot load bad\.onnx") as caught:
        OpenVinoRunner(path, threads=1, precision="fp32").__enter__()
    assert ".cpp" not in caught.value.message
    assert capfd.readouterr() == ("", "")


def test_an_operator_it_does_not_know_is_named(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make, helper = onnx.helper.make_tensor_value_info, onnx.helper
    graph = helper.make_graph(
        [helper.make_node("Frobnicate", ["image"], ["out"], domain="mine")],
        "g",
        [make("image", 1, [1, 2])],
        [make("out", 1, [1, 2])],
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("mine", 1)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), str(tmp_path / "odd.onnx"))
    with pytest.raises(BundleError, match="Frobnicate"):
        OpenVinoRunner(tmp_path / "odd.onnx", threads=1, precision="fp32").__enter__()
    assert capfd.readouterr() == ("", "")


def test_it_is_named_within_its_bundle_and_writes_nothing(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    before = sorted(tmp_path.rglob("*"))
    path = root / "artefacts" / "npc.fp32.onnx"
    image = np.random.default_rng(0).random((1, 2, *tiny_bundle.WINDOW), dtype=np.float32)
    with OpenVinoRunner(path, threads=1, precision="fp32", root=root) as runner:
        outputs = runner.infer({"image": image})
        assert runner.describe().artefact == "artefacts/npc.fp32.onnx"
    np.testing.assert_array_equal(outputs["tumour"], image[:, :1] - np.float32(0.5))
    assert sorted(tmp_path.rglob("*")) == before
    with pytest.raises(BackendError, match="not open"):
        runner.infer({"image": image})


def resized(folder: Path, scales: tuple[float, ...], then: str | None = None, mode: str = "linear") -> Path:
    """A convolution whose output is resized, and maybe read by another layer."""
    rng = np.random.default_rng(4)
    floats = {
        "weight": rng.normal(0, 0.2, (4, 2, 1, 3, 3)).astype(np.float32),
        "scales": np.array([1.0, 1.0, *scales], dtype=np.float32),
    }
    last = "map" if then is None else "inner"
    nodes = [
        onnx.helper.make_node("Conv", ["image", "weight"], ["made"], pads=[0, 1, 1, 0, 1, 1]),
        onnx.helper.make_node(
            "Resize", ["made", "", "scales"], [last], mode=mode, coordinate_transformation_mode="half_pixel"
        ),
    ]
    if then is not None:
        nodes.append(onnx.helper.make_node(then, ["inner"], ["map"]))
    shape = [round(n * s) for n, s in zip((4, 6, 6), scales, strict=True)]
    graph = onnx.helper.make_graph(
        nodes,
        "resized",
        [onnx.helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ("batch", 2, 4, 6, 6))],
        [onnx.helper.make_tensor_value_info("map", onnx.TensorProto.FLOAT, ("batch", 4, *shape))],
        [onnx.numpy_helper.from_array(array, name) for name, array in floats.items()],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path = folder / "resized.onnx"
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    ("scales", "then", "mode", "by_planes"),
    [
        ((1.0, 2.0, 2.0), None, "linear", 1),
        ((1.0, 1.5, 2.0), None, "linear", 0),  # no whole number of times
        ((2.0, 2.0, 2.0), None, "linear", 0),  # slices grow too
        ((1.0, 2.0, 2.0), "Relu", "linear", 0),  # another layer reads it
        ((1.0, 2.0, 2.0), None, "nearest", 0),
    ],
)
def test_an_output_that_grows_in_plane_is_resized_by_planes_and_stays_the_same(
    tmp_path: Path, scales: tuple[float, ...], then: str | None, mode: str, by_planes: int
) -> None:
    path = resized(tmp_path, scales, then, mode)
    openvino = load_openvino()
    reader = openvino.frontend.FrontEndManager().load_by_framework("onnx")
    model = reader.convert(reader.load(str(path)))
    assert fix_batch(model, {"image": [None, 2, 4, 6, 6]})
    assert resize_by_planes(openvino, model) == by_planes
    image = np.random.default_rng(5).random((2, 2, 4, 6, 6), dtype=np.float32)
    with OpenVinoRunner(path, threads=1, precision="fp32") as runner:
        found = runner.infer({"image": image})["map"]
    assert np.abs(found - reference(path, image)["map"]).max() < 1e-5


@pytest.mark.skipif(instruction_set() not in ("avx512_bf16", "amx_int8"), reason="no bf16 instructions")
def test_what_an_int8_file_leaves_in_floating_point_runs_in_bf16_when_asked(tmp_path: Path) -> None:
    path, image = written(tmp_path, "u8s8"), tiny_qdq.image()
    expected = reference(path, image)["map"]
    made = {}
    for precision in ("int8-u8s8", "int8-bf16"):
        with OpenVinoRunner(path, threads=1, precision=precision) as runner:
            made[precision] = runner.infer({"image": image})["map"]
            assert runner.describe().precision == precision
    assert np.abs(made["int8-bf16"] - expected).max() < 2e-2 * np.ptp(expected)
    assert not np.array_equal(made["int8-bf16"], made["int8-u8s8"])
