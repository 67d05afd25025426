"""Runners: what really runs, what is refused, and that the same input gives the same bits."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_bundle
from signed import Signed

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import FakeRunner
from npc_edge.engine.model.runners import instruction_set, open_runner
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner, Provider, require
from npc_edge.engine.types import Options

IMAGE = np.random.default_rng(0).random((1, 2, *tiny_bundle.WINDOW), dtype=np.float32)


def test_onnxruntime_runs_the_network_and_says_what_it_is(made: Signed) -> None:
    with open_runner(made.load(), "npc", Options(threads=1)) as runner:
        outputs = runner.infer({"image": IMAGE})
        info = runner.describe()
    np.testing.assert_array_equal(outputs["tumour"], IMAGE[:, :1] - np.float32(0.5))
    np.testing.assert_array_equal(outputs["anatomy"][0, 2], 2 * IMAGE[0, 1])
    np.testing.assert_allclose(outputs["detection"], IMAGE[:, :1].mean().reshape(1, 1), rtol=1e-5)
    assert (info.backend, info.device, info.precision) == ("onnxruntime", "cpu", "fp32")
    assert info.artefact == "artefacts/npc.fp32.onnx"
    assert info.threads == 1
    assert info.version
    assert info.isa == instruction_set()


def test_twenty_runs_are_bit_identical(made: Signed) -> None:
    with open_runner(made.load(), "npc", Options(threads=2)) as runner:
        first = runner.infer({"image": IMAGE})
        for _ in range(19):
            again = runner.infer({"image": IMAGE})
            assert all(np.array_equal(first[name], again[name]) for name in first)


@pytest.mark.parametrize(
    "options",
    [
        Options(backend="openvino"),
        Options(backend="tensorrt"),
        Options(device="cuda:0"),
        Options(precision="bf16"),
        Options(precision="int8"),
        Options(precision="fp16"),
    ],
    ids=str,
)
def test_what_is_not_there_is_an_error_and_never_a_fallback(made: Signed, options: Options) -> None:
    with pytest.raises(BackendError) as caught:
        open_runner(made.load(), "npc", options)
    assert caught.value.exit_code == 5
    assert caught.value.hint


def test_int8_on_a_cpu_means_unsigned_activations(signed: Signed, repack: Callable[..., Bundle]) -> None:
    networks = tiny_bundle.manifest()["networks"]
    row = {"backend": "onnxruntime", "isa": instruction_set(), "max_relative_error": 0.0}
    for precision in ("int8-u8s8", "int8-s8s8"):
        file = f"artefacts/npc.{precision}.onnx"
        onnx.save(tiny_bundle.npc(), str(signed.root / file))
        parity = [{**row, "precision": precision}]
        networks[1]["artefacts"].append({"precision": precision, "file": file, "parity": parity})
    with open_runner(repack(networks=networks), "npc", Options(precision="int8")) as runner:
        assert runner.describe().precision == "int8-u8s8"


@pytest.mark.parametrize(
    "inputs",
    [{}, {"picture": IMAGE}, {"image": IMAGE[:, :1]}, {"image": IMAGE[0]}, {"image": IMAGE, "more": IMAGE}],
    ids=range(5),
)
def test_inputs_the_network_does_not_take_are_a_bundle_error(made: Signed, inputs: dict) -> None:
    with open_runner(made.load(), "npc", Options(threads=1)) as runner, pytest.raises(BundleError):
        runner.infer(inputs)


@pytest.mark.parametrize("content", [b"", b"not a model", bytes(1000)], ids=range(3))
def test_a_file_that_is_no_network_is_a_bundle_error(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.onnx"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"cannot load bad\.onnx"):
        OnnxRuntimeRunner(path, threads=1, precision="fp32").__enter__()
    assert capfd.readouterr() == ("", "")


def test_a_network_that_fails_while_running_is_a_backend_error(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    helper = onnx.helper
    value = helper.make_tensor_value_info
    node = helper.make_node("Reshape", ["image", "shape"], ["out"])
    graph = helper.make_graph(
        [node], "g", [value("image", 1, ["n"]), value("shape", 1, [1])], [value("out", 1, None)]
    )
    graph.node.insert(0, helper.make_node("Cast", ["shape"], ["whole"], to=onnx.TensorProto.INT64))
    graph.node[1].input[1] = "whole"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(tmp_path / "reshape.onnx"))
    ones = np.ones(6, dtype=np.float32)
    with OnnxRuntimeRunner(tmp_path / "reshape.onnx", threads=1, precision="fp32") as runner:
        assert runner.infer({"image": ones, "shape": np.array([6], dtype=np.float32)})["out"].shape == (6,)
        with pytest.raises(BackendError, match="failed on"):
            runner.infer({"image": ones, "shape": np.array([5], dtype=np.float32)})
    assert capfd.readouterr() == ("", "")


def test_a_closed_runner_says_so(made: Signed) -> None:
    with open_runner(made.load(), "npc", Options(threads=1)) as runner:
        pass
    with pytest.raises(BackendError, match="not open"):
        runner.infer({"image": IMAGE})


def test_the_fake_runner_is_a_runner() -> None:
    with FakeRunner(lambda inputs: {"double": 2 * inputs["image"]}, "mine") as runner:
        np.testing.assert_array_equal(runner.infer({"image": IMAGE})["double"], 2 * IMAGE)
        assert runner.describe().artefact == "mine"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("processor : 0\nflags\t\t: fpu avx avx2 avx512f avx512_vnni\n", "avx512_vnni"),
        ("flags : avx2 avx512f avx512_vnni avx512_bf16 amx_int8\n", "amx_int8"),
        ("flags : avx avx2\n", "avx2"),
        ("Features : fp asimd asimddp\n", "neon_dotprod"),
    ],
)
def test_the_instruction_set_is_the_widest_named(tmp_path: Path, text: str, expected: str) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert instruction_set(tmp_path / "cpuinfo") == expected


def test_a_machine_that_says_nothing_is_named_by_its_architecture(tmp_path: Path) -> None:
    import platform

    assert instruction_set(tmp_path / "absent") == platform.machine()


def test_a_provider_is_asked_for_with_everything_that_changes_a_number() -> None:
    assert Provider().asked() == [("CPUExecutionProvider", {})]
    ((name, options),) = Provider("onnxruntime-cuda", 2).asked()
    assert (name, options["device_id"], options["use_tf32"]) == ("CUDAExecutionProvider", "2", "0")
    first, second = Provider("onnxruntime-tensorrt", 1, Path("kept")).asked()
    assert first[0] == "TensorrtExecutionProvider"
    assert (first[1]["trt_fp16_enable"], first[1]["trt_engine_cache_path"]) == ("0", "kept")
    assert second[0] == "CUDAExecutionProvider"
    assert all("CPU" not in name for name, _ in (first, second)), "nothing may end on the CPU in silence"
    assert (Provider("onnxruntime-cuda", 2).device, Provider().device) == ("cuda:2", "cpu")


def test_a_provider_that_is_not_there_is_never_the_cpu_instead(made: Signed) -> None:
    """This build of ONNX Runtime has none for a GPU: the real thing, refused."""
    onnxruntime = pytest.importorskip("onnxruntime")
    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this build has it")
    path = made.load().artefact("npc", "fp32")
    with pytest.raises(BackendError, match="no CUDAExecutionProvider here") as caught:
        OnnxRuntimeRunner(
            path, threads=1, precision="fp32", provider=Provider("onnxruntime-cuda")
        ).__enter__()
    assert caught.value.exit_code == 5
    with pytest.raises(BackendError, match="only CPUExecutionProvider"):
        require("CUDAExecutionProvider", ["CPUExecutionProvider"])
