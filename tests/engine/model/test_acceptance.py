"""Golden cases and measures: they pass what is right and, above all, fail what is wrong."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import tiny_bundle
import tiny_qdq
from signed import Signed

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model import acceptance, metrics
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.runners import instruction_set, open_runner
from npc_edge.engine.model.runners.pairs import CPU_PAIRS
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack

REFERENCE = Options(backend="onnxruntime", threads=1)
_HAS_BF16 = instruction_set() in ("amx_int8", "avx512_bf16")


@pytest.fixture
def with_golden(signed: Signed) -> Signed:
    image = acceptance.storable(
        np.random.default_rng(7).random((1, 2, *tiny_bundle.WINDOW), dtype=np.float32)
    )
    with open_runner(signed.load(), "npc", Options(threads=1)) as runner:
        outputs = runner.infer({"image": image})
    acceptance.save_golden(signed.root / "golden" / "npc.a.npz", {"image": image}, outputs)
    pack(signed.root, tiny_bundle.manifest(), signed.key)
    return signed


def test_a_sound_artefact_passes_and_one_without_cases_is_untested(with_golden: Signed) -> None:
    locator, npc = acceptance.verify(with_golden.load(), REFERENCE)
    assert (npc.status, len(npc.cases), npc.cases[0].case) == ("passed", 1, "a")
    assert npc.cases[0].max_relative_error == 0
    assert npc.cases[0].dice == 1
    assert npc
    assert locator.status == "untested"


def test_a_changed_weight_fails(with_golden: Signed, repack: Callable[..., Bundle]) -> None:
    model = tiny_bundle.npc()
    scale = next(t for t in model.graph.initializer if t.name == "scale")
    scale.float_data[2] = 2.01
    onnx.save(model, str(with_golden.root / "artefacts" / "npc.fp32.onnx"))
    result = acceptance.verify(repack(), REFERENCE)[1]
    assert result.status == "failed"
    assert not result
    assert "a" in result.why
    # 0.01 of 2.01, over a range of 2.
    assert result.cases[0].max_relative_error == pytest.approx(0.005, rel=0.02)


def test_every_artefact_is_tried_on_every_backend_in_every_precision(tmp_path: Path) -> None:
    kinds = ("fp32", "fp16", "int8-u8s8", "int8-s8s8")
    rows = {"int8-u8s8": [("openvino", "int8-u8s8", instruction_set())]}
    root = tiny_qdq.write_parts(tmp_path / "bundle", kinds)
    pack(root, tiny_qdq.manifest(kinds, rows), None)
    results = acceptance.verify(load(root, allow_unsigned=True), Options(threads=1))
    assert [(r.precision, r.pair, r.allowed) for r in results] == [
        ("fp32", "openvino bf16", False),
        ("fp32", "openvino fp32", False),
        ("fp32", "onnxruntime fp32", True),
        ("fp16", "openvino fp32", False),
        ("fp16", "onnxruntime fp16", False),
        ("int8-u8s8", "openvino int8-bf16", False),
        ("int8-u8s8", "openvino int8-u8s8", True),
        ("int8-u8s8", "onnxruntime int8-u8s8", False),
        ("int8-s8s8", "tensorrt int8-s8s8", False),
    ]
    in_bf16 = [r for r in results if r.pair.endswith("bf16")]
    assert {r.status for r in in_bf16} == {"passed" if _HAS_BF16 else "skipped"}
    assert [r.status for r in results if r not in in_bf16] == ["passed"] * 6 + ["skipped"]
    assert "no CPU" in results[-1].why
    errors = {r.pair: r.cases[0].max_relative_error for r in results if r.cases}
    assert errors["onnxruntime fp32"] == 0 < errors["openvino fp32"] < 1e-4 < errors["openvino int8-u8s8"]
    only = acceptance.verify(load(root, allow_unsigned=True), Options(backend="openvino", threads=1))
    assert {r.backend for r in only} == {"openvino", "tensorrt"}


def test_a_fault_in_one_artefact_fails_its_pairs_alone(tmp_path: Path) -> None:
    kinds = ("fp32", "int8-u8s8")
    root = tiny_qdq.write_parts(tmp_path / "bundle", kinds)
    # Signed activations read as unsigned ones: what a runtime that mistakes signs makes of a sound file.
    model = tiny_qdq.network("u8s8")
    zero = next(t for t in model.graph.initializer if t.name == "second_zero")
    zero.CopyFrom(onnx.numpy_helper.from_array(np.uint8(128), "second_zero"))
    onnx.save(model, str(root / "artefacts" / "npc.int8-u8s8.onnx"))
    pack(root, tiny_qdq.manifest(kinds), None)
    results = acceptance.verify(load(root, allow_unsigned=True), Options(threads=1))
    failed = {(r.precision, r.pair) for r in results if not r}
    pairs = ["openvino int8-u8s8", "onnxruntime int8-u8s8", *["openvino int8-bf16"] * _HAS_BF16]
    assert failed == {("int8-u8s8", pair) for pair in pairs}
    assert not any(r.allowed for r in results if not r)


def test_an_int8_artefact_that_runs_in_fp32_is_no_int8(tmp_path: Path) -> None:
    kinds = ("fp32", "int8-u8s8")
    root = tiny_qdq.write_parts(tmp_path / "bundle", kinds)
    onnx.save(tiny_qdq.network("fp32"), str(root / "artefacts" / "npc.int8-u8s8.onnx"))
    pack(root, tiny_qdq.manifest(kinds), None)
    results = acceptance.verify(load(root, allow_unsigned=True), Options(backend="openvino", threads=1))
    found = {r.execution: (r.status, r.why) for r in results if r.precision == "int8-u8s8"}
    assert found["int8-u8s8"] == ("skipped", "openvino runs it in fp32")
    if _HAS_BF16:
        assert found["int8-bf16"] == ("skipped", "openvino runs it in bf16")


def test_every_precision_a_pair_can_run_in_has_a_tolerance() -> None:
    for pair in CPU_PAIRS:
        assert (pair.precision if pair.artefact == "fp32" else pair.artefact) in acceptance.TOLERANCES
    loosest = [acceptance.TOLERANCES[p].relative_error for p in ("fp32", "fp16", "bf16", "int8-u8s8")]
    assert loosest == sorted(loosest)


def test_a_golden_case_holds_its_input_without_loss(tmp_path: Path) -> None:
    image = acceptance.storable(np.random.default_rng(0).random((1, 2, 4, 5, 6), dtype=np.float32))
    outputs = {
        "map": np.random.default_rng(1).normal(size=(1, 25, 16, 60, 60)).astype(np.float32),
        "score": np.array([[1.5]], dtype=np.float32),
    }
    acceptance.save_golden(tmp_path / "n.with.dots.case.npz", {"image": image}, outputs)
    case = acceptance.load_golden(tmp_path / "n.with.dots.case.npz")
    assert case.name == "case"
    np.testing.assert_array_equal(case.inputs["image"], image)
    np.testing.assert_array_equal(case.labels["map"], outputs["map"][0].argmax(axis=0))
    assert 10_000 < case.samples["map"].size < 80_000
    tolerance = acceptance.TOLERANCES["fp32"]
    assert acceptance.compare(case, outputs, tolerance)
    for wrong in (
        {"score": outputs["score"]},
        {**outputs, "score": np.array([[np.nan]], dtype=np.float32)},
        {**outputs, "score": np.array([[1.6]], dtype=np.float32)},
        {**outputs, "map": outputs["map"][:, :, :-1]},
        {**outputs, "map": outputs["map"][0]},
        {**outputs, "map": outputs["map"][:, ::-1]},
    ):
        assert not acceptance.compare(case, wrong, tolerance)
    flipped = outputs["map"].copy()
    flipped[0, :, 1, 1, 1] = np.roll(flipped[0, :, 1, 1, 1], 1)  # a voxel the sample does not hold
    result = acceptance.compare(case, {**outputs, "map": flipped}, tolerance)
    assert result.max_relative_error == 0
    assert result.dice < 1


@pytest.mark.parametrize("value", [np.nan, 9.0])
def test_an_input_that_is_not_normalised_is_no_golden_case(value: float) -> None:
    with pytest.raises(ValueError, match="normalised"):
        acceptance.storable(np.array([0.0, value], dtype=np.float32))


def test_a_file_that_is_no_golden_case_is_a_bundle_error(tmp_path: Path) -> None:
    (tmp_path / "n.a.npz").write_bytes(b"PK\3\4 nonsense")
    np.savez(tmp_path / "n.b.npz", **{"input.image": np.ones(3)})
    np.savez(tmp_path / "n.c.npz", other=np.ones(3))
    np.savez(tmp_path / "n.d.npz", **{"input.image": np.array([{}], dtype=object)})
    for name in ("a", "b", "c", "d"):
        with pytest.raises(BundleError, match="golden"):
            acceptance.load_golden(tmp_path / f"n.{name}.npz")


def test_nan_is_never_within_tolerance() -> None:
    assert metrics.relative_error([1.0, np.nan], [1.0, 2.0]) == np.inf
    assert metrics.relative_error([1.0, 2.0], [1.0]) == np.inf
    assert metrics.relative_error([1.0, 2.5], [1.0, 2.0]) == pytest.approx(0.25)


def test_dice_of_labels_counts_every_label_once() -> None:
    expected = np.array([0, 1, 1, 1, 1, 2], dtype=np.uint8)
    assert metrics.mean_dice(expected, expected) == 1
    found = np.array([0, 1, 1, 1, 1, 0], dtype=np.uint8)
    assert metrics.mean_dice(found, expected) == pytest.approx(0.5)
    assert metrics.mean_dice(np.zeros(3, np.uint8), np.zeros(3, np.uint8)) == 1


def test_surface_distances_of_boxes_are_known() -> None:
    a, b = np.zeros((9, 20, 20), dtype=bool), np.zeros((9, 20, 20), dtype=bool)
    a[2:5, 5:12, 5:12] = True
    b[2:5, 5:12, 8:15] = True  # three voxels of 2 mm to one side
    same = metrics.overlap(a, a, (2.0, 1.0, 3.0))
    assert (same.dice, same.hd95_mm, same.assd_mm) == (1, 0, 0)
    moved = metrics.overlap(a, b, (2.0, 1.0, 3.0))
    assert moved.dice == pytest.approx(2 * 4 / (7 + 7))
    assert moved.hd95_mm == pytest.approx(6.0)
    assert 0 < moved.assd_mm < 6


def test_surface_distances_agree_with_brute_force() -> None:
    rng = np.random.default_rng(3)
    spacing = (0.5, 0.7, 3.0)
    a, b = (rng.random((5, 9, 8)) > 0.6 for _ in range(2))

    def surface(mask: np.ndarray) -> np.ndarray:
        padded = np.pad(mask, 1)
        points = []
        for z, y, x in np.argwhere(mask):
            block = [(0, 1, 1), (2, 1, 1), (1, 0, 1), (1, 2, 1), (1, 1, 0), (1, 1, 2)]
            if not all(padded[z + i, y + j, x + k] for i, j, k in block):
                points.append((x * spacing[0], y * spacing[1], z * spacing[2]))
        return np.array(points)

    first, second = surface(a), surface(b)
    distances = np.linalg.norm(first[:, None] - second[None], axis=2)
    there, back = distances.min(axis=1), distances.min(axis=0)
    found = metrics.overlap(a, b, spacing)
    assert found.hd95_mm == pytest.approx(max(np.percentile(there, 95), np.percentile(back, 95)), rel=1e-5)
    assert found.assd_mm == pytest.approx(np.concatenate([there, back]).mean(), rel=1e-5)


def test_an_empty_mask_agrees_only_with_an_empty_one() -> None:
    empty, full = np.zeros((2, 2, 2), dtype=bool), np.ones((2, 2, 2), dtype=bool)
    assert metrics.overlap(empty, empty, (1, 1, 1)) == metrics.Overlap(1.0, 0.0, 0.0)
    assert metrics.overlap(empty, full, (1, 1, 1)) == metrics.Overlap(0.0, np.inf, np.inf)
    with pytest.raises(ValueError, match="shape"):
        metrics.overlap(empty, full[:1], (1, 1, 1))
