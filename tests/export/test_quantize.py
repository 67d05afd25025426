"""Lower precision joins a bundle only through the gate; what does not pass leaves the bundle as it was."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Self

import cli
import onnx
import openvino_run
import public_layout
import pytest
import quantizable
import tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx_nets import unet

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.engine.cohort import find_cases
from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.acceptance import verify
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.manifest import Artefact
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.parity import Limits
from npc_edge.engine.model.runner import FakeRunner
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.pairs import REFERENCE
from npc_edge.engine.site import Candidate, accept, hold
from npc_edge.engine.types import Options
from npc_edge.export import graph
from npc_edge.export.gate import Asked, explained, gate
from npc_edge.export.observe import observe
from npc_edge.export.pack import pack
from npc_edge.export.qdq import activations, quantize
from npc_edge.export.quantize import Lowered, Order, _network, lower
from npc_edge.export.record import record
from npc_edge.export.sign import public_bytes

KEY = Ed25519PrivateKey.generate()
KEYS = [public_bytes(KEY)]
LOOSE = Limits(delta_dice=0.05, dice=0.9, delta_probability=0.05)
_HAS_BF16 = instruction_set() in ("amx_int8", "avx512_bf16")
"""Two small cases of a network that was never trained: a few voxels count."""


def quiet(_: str) -> None:
    return None


def digest(root: Path) -> dict[str, str]:
    return {
        p.relative_to(root).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in root.rglob("*")
        if p.is_file()
    }


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantizable.write_cohort(tmp_path_factory.mktemp("cases"))


def packed(folder: Path) -> Path:
    root = quantizable.write_parts(folder / "bundle")
    pack(root, quantizable.manifest(), KEY)
    return root


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, cases: Path) -> tuple[Path, Lowered]:
    root = packed(tmp_path_factory.mktemp("int8"))
    return root, lower(root, Order("int8", cases, LOOSE, calibration=2, threads=1), KEY, KEYS, quiet)


def test_int8_joins_in_both_flavours_signed_and_with_what_was_measured(int8: tuple[Path, Lowered]) -> None:
    root, lowered = int8
    bundle = load(root, KEYS)
    assert bundle.trusted
    network = bundle.network("npc")
    held = {a.precision: a for a in network.artefacts}
    assert set(held) == {"fp32", "int8-u8s8", "int8-s8s8"}
    rows = {(p.backend, p.precision) for p in held["int8-u8s8"].parity}
    assert rows - {("openvino", "int8-bf16")} == {("onnxruntime", "int8-u8s8"), ("openvino", "int8-u8s8")}
    assert (("openvino", "int8-bf16") in rows) == _HAS_BF16
    assert {(p.backend, p.precision) for p in held["int8-s8s8"].parity} == {("onnxruntime", "int8-s8s8")}
    for artefact in (held["int8-u8s8"], held["int8-s8s8"]):
        assert all(0 < row.max_relative_error < 0.5 and row.cases == 2 for row in artefact.parity)
        assert (root / artefact.file).stat().st_size < 0.6 * (root / held["fp32"].file).stat().st_size
        assert bundle.manifest.calibrators[artefact.file].temperature == 2.0  # too few cases to refit
        assert "too few" in bundle.manifest.calibrators[artefact.file].population
        table = bundle.manifest.calibrators[artefact.file].venn_abers
        assert table is not None
        assert (table.cases, table.lower) == (0, ())  # both cases made the file
    original = bundle.manifest.calibrators[held["fp32"].file].venn_abers
    assert original is not None
    assert (original.cases, original.prevalence, original.lower) == (2, 0.5, ())
    assert set(lowered.added) == {held["int8-u8s8"].file, held["int8-s8s8"].file}
    assert lowered.passes
    assert sorted(p.name for p in root.parent.iterdir()) == ["bundle"]


def test_the_report_shows_every_pair_and_the_golden_cases_hold(int8: tuple[Path, Lowered]) -> None:
    root, lowered = int8
    report = (root / "parity" / "int8.html").read_text(encoding="utf-8")
    assert "parity/int8.html" in load(root, KEYS).manifest.files
    assert report.count("within the gate") == len(lowered.pairs) == 3 + _HAS_BF16
    assert report.count("<svg") >= 3 * len(lowered.pairs)
    assert "http" not in report
    card = (root / "model_card.md").read_text(encoding="utf-8")
    assert card.startswith("# tiny\n")
    assert card.count("| npc.int8-") == len(lowered.pairs)
    results = {(r.precision, r.backend): r.status for r in verify(load(root, KEYS), Options(threads=1))}
    assert "failed" not in results.values()


def test_fp32_on_another_backend_gets_its_row_and_no_new_file(tmp_path: Path, cases: Path) -> None:
    root = packed(tmp_path)
    lowered = lower(root, Order("fp32", cases, threads=1), KEY, KEYS, quiet)
    bundle = load(root, KEYS)
    (artefact,) = bundle.network("npc").artefacts
    assert ("openvino", "fp32") in {(p.backend, p.precision) for p in artefact.parity}
    assert {t.artefact for t in lowered.pairs} == {quantizable.FP32}


def test_an_engine_of_a_file_that_is_made_anew_goes_with_it(tmp_path: Path, cases: Path) -> None:
    root = packed(tmp_path)
    order = Order("fp16", cases, LOOSE, threads=1)
    lower(root, order, KEY, KEYS, quiet)
    manifest = load(root, KEYS).manifest.model_dump(mode="json", exclude={"files"})
    spec = {"runtime": "tensorrt-rtx", "runtime_version": "1.7", "compute_capability": "sm86"}
    names = [f"artefacts/npc.{p}.sm86.tensorrt-rtx-1.7.engine" for p in ("fp16", "fp32")]
    for name in names:
        (root / name).write_bytes(b"an engine")
        engine = {"precision": name.split(".")[1], "file": name, "format": "engine", "engine": spec}
        manifest["networks"][0]["artefacts"].append(engine)
    pack(root, manifest, KEY)
    said: list[str] = []
    lower(root, order, KEY, KEYS, said.append)
    bundle = load(root, KEYS)
    assert [a.file for a in bundle.network("npc").artefacts if a.format == "engine"] == names[1:]
    assert not (root / names[0]).exists()
    assert said[-1] == f"{names[0]}: left out, it was built from the file that is now another"


def test_a_locator_may_run_on_other_backends_too(tmp_path: Path, cases: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "located")
    pack(root, tiny_bundle.manifest(), KEY)
    lower(root, Order("fp32", cases, LOOSE, threads=1), KEY, KEYS, quiet)
    (artefact,) = load(root, KEYS).network("locator").artefacts
    row = next(p for p in artefact.parity if (p.backend, p.precision) == ("openvino", "fp32"))
    assert row.cases == 2
    before = load(root, KEYS).network("locator")
    with pytest.raises(BundleError):  # it holds no layer that int8 is for: the locator is not tried
        lower(root, Order("int8", cases, LOOSE, threads=1), KEY, KEYS, quiet)
    assert load(root, KEYS).network("locator") == before


class Refuses(FakeRunner):
    """A backend that has no such operator."""

    def __enter__(self) -> Self:
        raise BundleError("a backend cannot load it: no operator Frobnicate")


def test_a_backend_that_refuses_the_network_is_said_and_the_others_are_judged(
    tmp_path: Path, cases: Path
) -> None:
    bundle = load(packed(tmp_path), KEYS)
    refused = Candidate("npc there", "npc", Refuses(dict))
    sound = Candidate("npc here", "npc", open_pair(bundle, "npc", REFERENCE, 1))
    said: list[str] = []
    trial = hold(bundle, (refused, sound), find_cases(cases)[:1], 1, said.append)
    assert list(trial.cases) == ["npc here"]
    assert said[0] == "npc there: not tried, a backend cannot load it: no operator Frobnicate"
    with pytest.raises(BundleError, match="no operator Frobnicate"):
        hold(bundle, (refused,), find_cases(cases)[:1], 1, said.append)


def test_fp16_joins_with_its_islands(tmp_path: Path, cases: Path) -> None:
    root = packed(tmp_path)
    said: list[str] = []
    lower(root, Order("fp16", cases, LOOSE, threads=1), KEY, KEYS, said.append)
    bundle = load(root, KEYS)
    held = bundle.find("npc", "fp16")
    assert held is not None
    kinds = {t.data_type for t in onnx.load(str(bundle.file(held.file))).graph.initializer}
    assert onnx.TensorProto.FLOAT16 in kinds
    assert any("stay in fp32" in line for line in said)


def test_what_fails_the_gate_is_not_in_the_bundle_and_the_bundle_is_as_it_was(
    tmp_path: Path, cases: Path
) -> None:
    root = packed(tmp_path)
    before = digest(root)
    impossible = Order("fp16", cases, replace(LOOSE, delta_dice=-1.0), threads=1)
    with pytest.raises(BundleError, match="within the gate: mean Dice falls"):
        lower(root, impossible, KEY, KEYS, quiet)
    assert digest(root) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


FULL = """
import resource, sys
from pathlib import Path
from npc_edge.engine.errors import OutputError
from npc_edge.export.quantize import Order, lower
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    lower(Path(sys.argv[1]), Order("fp16", Path(sys.argv[2])), None, [], print)
except OutputError as error:
    print("refused:", error.one_line())
"""


def test_a_full_disk_leaves_the_bundle_as_it_was(tmp_path: Path, cases: Path) -> None:
    """A limit on the size of a file fails a write as a full disk does."""
    root = packed(tmp_path)
    before = digest(root)
    ran = subprocess.run(
        [sys.executable, "-c", FULL, root, cases], capture_output=True, text=True, check=False
    )
    assert ran.stdout == "refused: the bundle cannot be written: File too large\n", ran.stderr[-1000:]
    assert digest(root) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_signed_activations_on_openvino_are_refused(tmp_path: Path, cases: Path) -> None:
    """The known fault, planted: a runtime that is silently wrong on one flavour and right on the other."""
    root = quantizable.write_parts(tmp_path / "bundle", unet(quantizable.WINDOW, seed=2))
    pack(root, quantizable.manifest(), None)
    bundle, cohort = load(root, allow_unsigned=True), find_cases(cases)
    model = onnx.load(str(root / quantizable.FP32))
    inputs = record(bundle, cohort, 1, quiet)["npc"]
    ranges = observe(model, activations(model), inputs)
    asked = []
    for flavour, backend in (("s8s8", "openvino"), ("s8s8", "onnxruntime"), ("u8s8", "openvino")):
        path = tmp_path / f"npc.int8-{flavour}.onnx"
        onnx.save(quantize(model, ranges, f"int8-{flavour}"), str(path))  # type: ignore[arg-type]
        artefact = Artefact.model_validate({"precision": f"int8-{flavour}", "file": path.name})
        precision = "int8-u8s8" if backend == "openvino" else "int8-s8s8"
        asked.append(Asked("npc", artefact, path, backend, precision))
    (wrong, *right), _ = gate(bundle, asked, cohort, LOOSE, 1, quiet)
    assert not wrong.verdict
    assert "Dice" in wrong.verdict.why[0]
    assert all(one.verdict for one in right)
    planted = onnx.load(str(tmp_path / "npc.int8-s8s8.onnx"))
    named = explained(wrong, model, planted, inputs, 1).diverged
    assert named.startswith(f"{first_wrong(model, planted, inputs[0])} (Conv), by ")
    assert named.endswith(" of its range on openvino")
    assert explained(right[0], model, planted, inputs, 1).diverged == ""  # the file itself is right


def first_wrong(model: onnx.ModelProto, planted: onnx.ModelProto, inputs: graph.Arrays) -> str:
    """The first convolution, one after the other, whose output on OpenVINO is not the original's."""
    for node in graph.tidy(model).graph.node:
        name = node.output[0]
        if node.op_type != "Conv":
            continue
        expected = graph.run(graph.cut(model, [name]), inputs)[name]
        found = openvino_run.run(graph.cut(planted, [name]), inputs)[name]
        if relative_error(found, expected) > 0.1:
            return node.name
    raise AssertionError("OpenVINO is right about every convolution")


def test_a_site_repeats_it_on_cases_of_its_own(int8: tuple[Path, Lowered], cases: Path) -> None:
    root, lowered = int8
    bundle = load(root, KEYS)
    site = accept(bundle, find_cases(cases), 1, quiet)
    tried = {(one.pair.artefact, one.pair.backend, one.pair.precision): one for one in site.pairs}
    for pair in lowered.pairs:
        if "u8s8" in pair.artefact:
            again = tried["int8-u8s8", pair.backend, pair.precision]
            assert again.allowed
            assert again.verdict.relative_error == pytest.approx(pair.verdict.relative_error, rel=1e-3)
    assert not tried["fp32", "openvino", "fp32"].allowed  # nobody measured it for this bundle
    assert site.refused == ()


def test_the_public_layout_is_a_cohort_for_both(
    int8: tuple[Path, Lowered], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Patients as the public data set has them, traps included: every third mask lacks a slice."""
    scratch = tmp_path_factory.mktemp("scratch")
    for number in (2, 3):
        spec = PhantomSpec("T2", seed=5 + number, vendor="ge", matrix=96, slices=16, with_contrast=True)
        public_layout.write_patient(spec, tmp_path / "public", number, scratch)
    root = packed(tmp_path)
    (pair,) = lower(root, Order("fp32", tmp_path / "public", threads=1), KEY, KEYS, quiet).pairs[:1]
    assert [one.case for one in pair.cases] == ["002", "003"]
    assert all(one.npc and one.dice_reference is not None for one in pair.cases)
    site = accept(load(int8[0], KEYS), find_cases(tmp_path / "public"), 1, quiet)
    assert site.refused == ()
    assert {one.verdict.cases for one in site.pairs} == {2}
    assert all(one.verdict.against_truth for one in site.pairs)
    assert any(note.startswith("003: ROI-T1.nii has") for note in site.notes)


def test_the_commands_say_what_is_missing_and_print_json(
    int8: tuple[Path, Lowered], cases: Path, tmp_path: Path
) -> None:
    root, _ = int8
    state = ["--state", str(tmp_path / "state")]
    order = ["quantize", str(root), "--precision", "int8", "--cases", str(cases)]
    ran = cli.run(*order, *state)
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "--key" in ran.stderr
    ran = cli.run(*order, *state, "--key", str(tmp_path / "no.key"))
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    (tmp_path / "empty").mkdir()
    ran = cli.run(*order[:-1], str(tmp_path / "empty"), *state, "--unsigned")
    assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)
    assert "no cases" in ran.stderr
    ran = cli.run("verify", str(root), *state, "--allow-unsigned", "--json", "--cases", str(cases))
    found = json.loads(ran.stdout)
    assert ran.returncode in (0, 4)
    assert len(found["cohort"]["pairs"]) >= 3
    assert {row["file"] for row in found["parity"]} >= {"artefacts/npc.int8-u8s8.onnx"}


def test_no_cases_no_bundle_no_key(tmp_path: Path, cases: Path) -> None:
    root = packed(tmp_path / "a")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no cases"):
        lower(root, Order("int8", tmp_path / "empty"), KEY, KEYS, quiet)
    with pytest.raises(BundleError, match="not signed by a trusted key"):
        lower(root, Order("int8", cases), KEY, [], quiet)
    with pytest.raises(BundleError):
        lower(tmp_path / "nowhere", Order("int8", cases), KEY, KEYS, quiet)


def test_what_was_refused_now_keeps_no_permission_of_before(int8: tuple[Path, Lowered]) -> None:
    """The file is made anew, one pair passes, another fails: its row measured on other bytes must go."""
    root, lowered = int8
    network = load(root, KEYS).network("npc")
    mine = [pair for pair in lowered.pairs if pair.artefact == "artefacts/npc.int8-u8s8.onnx"]
    assert len(mine) >= 2
    refused = dataclasses.replace(mine[0], verdict=dataclasses.replace(mine[0].verdict, why=("too far",)))
    anew = _network(network, [refused, *mine[1:]], (), True)
    (held,) = [a for a in anew.artefacts if a.file == refused.artefact]
    assert (refused.backend, refused.precision) not in {(p.backend, p.precision) for p in held.parity}
    assert len(held.parity) == len(mine) - 1
    original = next(a for a in network.artefacts if a.precision == "fp32")
    tried = dataclasses.replace(refused, artefact=original.file, backend="openvino", precision="bf16")
    once = _network(network, [dataclasses.replace(mine[0], **PAIR)], (), False)
    assert ("openvino", "bf16") in {(p.backend, p.precision) for p in once.artefacts[0].parity}
    again = _network(once, [tried], (), False).artefacts[0]
    assert ("openvino", "bf16") not in {(p.backend, p.precision) for p in again.parity}
    assert [p for p in again.parity if p.backend == "onnxruntime"] == list(original.parity)


PAIR = {"artefact": quantizable.FP32, "backend": "openvino", "precision": "bf16"}
