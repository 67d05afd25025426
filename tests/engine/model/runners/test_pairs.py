"""What may run: the reference always, anything else only where it was measured."""

from pathlib import Path

import numpy as np
import pytest
import tiny_qdq
from parity_rows import ALL, EVERYTHING, SET, bundle, on

from npc_edge.engine.errors import BackendError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.runners import instruction_set, open_pair, open_runner
from npc_edge.engine.model.runners.pairs import (
    CPU_PAIRS,
    GPU_PAIRS,
    REFERENCE,
    Pair,
    allowed_pairs,
    asked_for,
    choose,
    gpu_pairs,
    missing_here,
    not_installed,
    unproven_pairs,
)
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack

INT8 = Pair("int8-u8s8", "openvino", "int8-u8s8")


def test_the_embedded_bundle_lets_both_of_its_networks_run_on_openvino() -> None:
    """The locator not in bf16, where its point jumps; int8 only on the instruction set it was measured on."""
    embedded, bf16, fp32 = load(None), Pair("fp32", "openvino", "bf16"), Pair("fp32", "openvino", "fp32")
    for isa in (SET, "avx2"):
        assert allowed_pairs(embedded, "locator", isa) == (fp32, REFERENCE)
    mixed = Pair("int8-u8s8", "openvino", "int8-bf16")
    assert allowed_pairs(embedded, "npc", SET)[:4] == (mixed, INT8, bf16, fp32)
    assert allowed_pairs(embedded, "npc", "avx2")[:3] == (bf16, fp32, REFERENCE)
    assert {mixed, INT8} < set(unproven_pairs(embedded, "npc", "amx_int8"))


def test_every_row_of_the_embedded_bundle_was_measured_on_whole_cases() -> None:
    networks = load(None).manifest.networks
    rows = [row for network in networks for artefact in network.artefacts for row in artefact.parity]
    assert all(row.cases is not None and row.cases >= 40 and row.category_changes == 0 for row in rows)
    assert all(row.dice is not None and row.dice > 0.99 for row in rows)
    assert len(rows) == 9


def test_without_a_parity_table_only_fp32_on_onnx_runtime_may_run(tmp_path: Path) -> None:
    made = bundle(tmp_path)
    assert allowed_pairs(made, "npc", SET, CPU_PAIRS) == (REFERENCE,)
    with open_runner(made, "npc", Options(threads=1)) as runner:
        assert (runner.describe().backend, runner.describe().precision) == ("onnxruntime", "fp32")


def test_the_first_that_the_table_allows_is_tried_first(tmp_path: Path) -> None:
    """Rows are taken away one by one, the fastest first: what is left is next."""
    rows = {kind: list(measured) for kind, measured in EVERYTHING.items()}
    root = tiny_qdq.write_parts(tmp_path / "bundle", ALL)
    taken = []
    for _ in CPU_PAIRS:
        pack(root, tiny_qdq.manifest(ALL, rows), None)
        found = choose(load(root, allow_unsigned=True), "npc", Options(), SET)
        taken.append(str(found))
        if found == REFERENCE:
            break
        rows[found.artefact].remove((found.backend, found.precision, SET))
    assert taken == [
        "openvino int8-u8s8",
        "openvino bf16",
        "openvino fp32",
        "onnxruntime int8-u8s8",
        "onnxruntime fp32",
    ]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (Options(precision="fp32"), "openvino fp32"),
        (Options(precision="bf16"), "openvino bf16"),
        (Options(precision="int8"), "openvino int8-u8s8"),
        (Options(precision="fp16"), "onnxruntime fp16"),
        (Options(backend="onnxruntime"), "onnxruntime int8-u8s8"),
        (Options(backend="onnxruntime", precision="fp32"), "onnxruntime fp32"),
        (Options(backend="openvino", precision="int8"), "openvino int8-u8s8"),
    ],
    ids=str,
)
def test_what_is_asked_for_is_what_runs(tmp_path: Path, options: Options, expected: str) -> None:
    assert str(choose(bundle(tmp_path, parity=EVERYTHING), "npc", options, SET)) == expected


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (Options(backend="openvino"), "no row for openvino"),
        (Options(precision="int8"), "no row for"),
        (Options(precision="bf16"), "no row for openvino bf16"),
        (Options(backend="onnxruntime", precision="bf16"), "does not execute in bf16"),
        (Options(backend="tensorrt"), "no row for tensorrt"),
        (Options(device="cuda:0"), "cuda:0"),
    ],
    ids=str,
)
def test_what_may_not_run_ends_in_a_line_that_says_what_may(
    tmp_path: Path, options: Options, why: str
) -> None:
    with pytest.raises(BackendError, match=why) as caught:
        open_runner(bundle(tmp_path), "npc", options)
    assert caught.value.exit_code == 5
    assert "\n" not in caught.value.one_line()
    assert "onnxruntime fp32" in caught.value.hint or options.device != "auto"


@pytest.mark.skipif(bool(find_gpus().capabilities), reason="there is a GPU")
def test_what_a_gpu_is_wanted_for_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="NVIDIA driver"):
        open_runner(bundle(tmp_path, parity=EVERYTHING), "npc", Options(backend="tensorrt"))


def test_an_artefact_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="holds no int8-u8s8 artefact"):
        open_runner(bundle(tmp_path, ("fp32",)), "npc", Options(precision="int8"))


def test_signed_int8_runs_on_no_cpu_whatever_the_table_says(tmp_path: Path) -> None:
    made = bundle(tmp_path, ("fp32", "int8-s8s8"), EVERYTHING)
    assert {pair.artefact for pair in allowed_pairs(made, "npc", SET, CPU_PAIRS)} == {"fp32"}
    with pytest.raises(BackendError):
        choose(made, "npc", Options(precision="int8"), SET)


def test_floating_point_holds_on_another_instruction_set_and_int8_must_be_proven(tmp_path: Path) -> None:
    made = bundle(tmp_path, parity=on("avx512_vnni"))
    names = [str(pair) for pair in allowed_pairs(made, "npc", "avx2")]
    assert names == [
        "openvino bf16",
        "openvino fp32",
        "onnxruntime fp32",
        "openvino fp32 from the fp16 artefact",
        "onnxruntime fp16",
    ]
    assert [str(p) for p in unproven_pairs(made, "npc", "avx2")] == [
        "openvino int8-u8s8",
        "onnxruntime int8-u8s8",
    ]
    assert unproven_pairs(made, "npc", "avx512_vnni") == ()
    # bf16 is allowed, but an AVX2 machine has none.
    assert str(choose(made, "npc", Options(), "avx2")) == "openvino fp32"
    assert choose(made, "npc", Options(), "avx2", {INT8}) == INT8
    with pytest.raises(BackendError, match="another instruction set than avx2"):
        choose(made, "npc", Options(precision="int8"), "avx2")
    with pytest.raises(BackendError, match="no bf16"):
        choose(made, "npc", Options(precision="bf16"), "avx2")


def test_a_gpu_runs_what_was_measured_in_its_arithmetic_by_whatever_backend(tmp_path: Path) -> None:
    made = bundle(tmp_path, parity=EVERYTHING)
    names = [str(pair) for pair in gpu_pairs(made, "npc")]
    assert names[:3] == ["tensorrt int8-s8s8", "tensorrt fp16", "tensorrt fp32"]
    assert {pair.artefact for pair in gpu_pairs(made, "npc")} == {"int8-s8s8", "fp16", "fp32"}
    assert "onnxruntime-cuda fp16" in names
    only = bundle(tmp_path / "less", parity={"int8-s8s8": EVERYTHING["int8-s8s8"]})
    assert {pair.precision for pair in gpu_pairs(only, "npc")} == {"int8-s8s8"}
    assert gpu_pairs(bundle(tmp_path / "none"), "npc") == ()


def test_options_name_pairs_by_family_device_and_precision() -> None:
    rtx, cuda = Pair("fp16", "tensorrt-rtx", "fp16"), Pair("fp16", "onnxruntime-cuda", "fp16")
    assert (rtx.family, rtx.module, rtx.on_gpu) == ("tensorrt", "tensorrt_rtx", True)
    assert (cuda.family, cuda.module, REFERENCE.on_gpu) == ("onnxruntime", "onnxruntime", False)
    assert asked_for(rtx, Options(backend="tensorrt"))
    assert asked_for(cuda, Options(backend="onnxruntime", device="cuda:1", precision="fp16"))
    assert not asked_for(cuda, Options(device="cpu"))
    assert not asked_for(REFERENCE, Options(device="cuda:0"))
    signed = [p for p in GPU_PAIRS if asked_for(p, Options(precision="int8", device="cuda:0"))]
    assert {pair.precision for pair in signed} == {"int8-s8s8"}


def test_a_runtime_that_is_not_installed_says_how_to_get_it() -> None:
    assert "pip install abacus" in missing_here(Pair("fp32", "abacus", "fp32"), SET)
    assert missing_here(REFERENCE, SET) == ""
    assert not_installed(Pair("fp16", "abacus-2000", "fp16")) == not_installed(Pair("fp32", "abacus", "fp32"))


def test_a_backend_without_a_runner_never_becomes_another(tmp_path: Path) -> None:
    with pytest.raises(BackendError, match="needs a GPU"):
        open_pair(bundle(tmp_path, ("fp32",)), "npc", Pair("fp32", "tensorrt", "fp16"))


def test_openvino_is_opened_when_it_is_chosen(tmp_path: Path) -> None:
    rows = {"fp32": [("openvino", "fp32", instruction_set())]}
    with open_runner(bundle(tmp_path, ("fp32",), rows), "npc", Options(threads=1)) as runner:
        assert (runner.describe().backend, runner.describe().precision) == ("openvino", "fp32")
        assert runner.describe().artefact == "artefacts/npc.fp32.onnx"
        assert np.isfinite(runner.infer({"image": tiny_qdq.image()})["map"]).all()
