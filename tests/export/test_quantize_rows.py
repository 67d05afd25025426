"""`quantize --only-rows`: files that are in a bundle are held to the gate; nothing is added but rows."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import quantizable
import tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.manifest import Parity
from npc_edge.engine.model.parity import Limits
from npc_edge.engine.model.runners import instruction_set
from npc_edge.export.pack import pack
from npc_edge.export.quantize import Order, lower
from npc_edge.export.sign import public_bytes

KEY = Ed25519PrivateKey.generate()
KEYS = [public_bytes(KEY)]
LOOSE = Limits(delta_dice=0.05, dice=0.9, delta_probability=0.05)
"""Two small cases of a network that was never trained: a few voxels count."""


def quiet(_: str) -> None:
    return None


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quantizable.write_cohort(tmp_path_factory.mktemp("cases"))


@pytest.fixture(scope="module")
def int8(tmp_path_factory: pytest.TempPathFactory, cases: Path) -> Path:
    root = quantizable.write_parts(tmp_path_factory.mktemp("int8") / "bundle")
    pack(root, quantizable.manifest(), KEY)
    lower(root, Order("int8", cases, LOOSE, calibration=2, threads=1), KEY, KEYS, quiet)
    return root


def rows_of(bundle: Bundle, precision: str) -> dict[tuple[str, str, str], Parity]:
    held = bundle.find("npc", precision)
    assert held is not None
    return {(row.backend, row.precision, row.isa): row for row in held.parity}


def without_rows(int8: Path, root: Path) -> Bundle:
    """The bundle with one row of its u8s8 file lost, and one there as another machine measured it."""
    shutil.copytree(int8, root)
    manifest = load(root, KEYS).manifest.model_dump(mode="json", exclude={"files"})
    (held,) = [a for a in manifest["networks"][0]["artefacts"] if a["precision"] == "int8-u8s8"]
    first, _, *rest = held["parity"]
    held["parity"] = [{**first, "isa": "another"}, *rest]
    pack(root, manifest, KEY)
    return load(root, KEYS)


def test_only_what_has_no_row_of_this_machine_is_measured_and_nothing_else_changes(
    int8: Path, tmp_path: Path, cases: Path
) -> None:
    root = tmp_path / "bundle"
    before = without_rows(int8, root)
    lowered = lower(root, Order("int8", cases, LOOSE, threads=1, only_rows=True), KEY, KEYS, quiet)
    after, whole = load(root, KEYS), rows_of(load(int8, KEYS), "int8-u8s8")
    had = rows_of(before, "int8-u8s8")
    wanted = {(backend, ran) for backend, ran, isa in whole.keys() - had.keys()}
    assert {(pair.backend, pair.precision) for pair in lowered.pairs} == wanted
    assert len(wanted) == 2
    assert lowered.added == ("artefacts/npc.int8-u8s8.onnx",)
    found = rows_of(after, "int8-u8s8")
    assert found.keys() == had.keys() | whole.keys()
    assert {key: found[key] for key in had} == had
    for key, row in whole.items():
        assert row.cases == found[key].cases
        assert found[key].max_relative_error == pytest.approx(row.max_relative_error, rel=1e-3)
    assert rows_of(after, "int8-s8s8") == rows_of(before, "int8-s8s8")
    assert after.manifest.calibrators == before.manifest.calibrators
    changed = dict(set(after.manifest.files.items()) ^ set(before.manifest.files.items()))
    assert set(changed) == {"model_card.md", f"parity/int8.{instruction_set()}.html"}


def test_a_pair_that_fails_gets_no_row_and_with_none_at_all_the_bundle_is_as_it_was(
    int8: Path, tmp_path: Path, cases: Path
) -> None:
    root = tmp_path / "bundle"
    before = without_rows(int8, root)
    impossible = Order("int8", cases, replace(LOOSE, delta_dice=-1.0), threads=1, only_rows=True)
    with pytest.raises(BundleError, match="no int8 artefact is within the gate: mean Dice falls"):
        lower(root, impossible, KEY, KEYS, quiet)
    assert load(root, KEYS).manifest_sha256 == before.manifest_sha256


def test_where_every_row_is_there_or_no_file_nothing_is_measured(
    int8: Path, tmp_path: Path, cases: Path
) -> None:
    for precision in ("int8", "fp16"):
        with pytest.raises(BundleError, match=f"no {precision} file of tiny 1 waits for a row"):
            lower(int8, Order(precision, cases, LOOSE, threads=1, only_rows=True), KEY, KEYS, quiet)


def test_a_locator_gets_its_rows_beside_a_network_that_has_them(tmp_path: Path, cases: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "located")
    pack(root, tiny_bundle.manifest(), KEY)
    lower(root, Order("fp32", cases, LOOSE, threads=1), KEY, KEYS, quiet)
    manifest = load(root, KEYS).manifest.model_dump(mode="json", exclude={"files"})
    manifest["networks"][0]["artefacts"][0]["parity"] = []
    pack(root, manifest, KEY)
    before = load(root, KEYS)
    lowered = lower(root, Order("fp32", cases, LOOSE, threads=1, only_rows=True), KEY, KEYS, quiet)
    after = load(root, KEYS)
    assert {pair.network for pair in lowered.pairs} == {"locator"}
    (artefact,) = after.network("locator").artefacts
    assert ("openvino", "fp32") in {(row.backend, row.precision) for row in artefact.parity}
    assert after.network("npc") == before.network("npc")
