"""A spec says everything or says what is missing, in one line."""

import copy
import re
from pathlib import Path
from typing import Any

import pytest
from small_networks import SPEC, tables

from npc_edge.engine.errors import UsageError
from npc_edge.engine.model.manifest import Manifest, Parity
from npc_edge.export.spec import load_spec, make_spec, manifest_of

DOCS = Path(__file__).resolve().parents[2] / "docs" / "export.md"


def test_the_example_in_the_docs_is_a_spec(tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```$", DOCS.read_text(encoding="utf-8"), flags=re.M | re.S)
    assert len(blocks) == 1
    (tmp_path / "spec.toml").write_text(blocks[0])
    spec = load_spec(tmp_path / "spec.toml")
    files = {spec.artefact: "0" * 64}
    manifest = Manifest.model_validate({**manifest_of(spec, [], {"torch": "2"}), "files": files})
    assert manifest.networks[0].window == spec.network.window
    assert manifest.detection is not None


def test_a_manifest_says_what_the_spec_says(tmp_path: Path) -> None:
    (tmp_path / "spec.toml").write_text(SPEC)
    spec = load_spec(tmp_path / "spec.toml")
    assert spec == make_spec(tables(), "here")
    parity = Parity(backend="onnxruntime", precision="fp32", isa="avx2", max_relative_error=1e-6)
    described = manifest_of(spec, [parity], {"torch": "2.13"})
    manifest = Manifest.model_validate({**described, "files": {"artefacts/npc.fp32.onnx": "0" * 64}})
    network = manifest.networks[0]
    assert (network.spacing, network.inputs, network.region) == ((4.0, 2.0, 2.0), ("t1", "t2"), "whole")
    assert network.artefacts[0].parity == (parity,)
    assert manifest.detection == spec.detection
    assert manifest.provenance.tools == {"torch": "2.13"}
    assert spec.input_shape == (1, 2, 8, 12, 10)


CALIBRATOR = {"method": "temperature", "temperature": 2.0, "cases": 9, "prevalence": 0.5, "population": "x"}


def test_a_calibrator_belongs_to_the_artefact() -> None:
    spec = make_spec(tables(calibrator=CALIBRATOR), "here")
    assert list(manifest_of(spec, [], {})["calibrators"]) == ["artefacts/npc.fp32.onnx"]


def test_a_calibrator_carries_its_tables() -> None:
    steps = {"scores": [0.0], "lower": [0.1, 0.4], "upper": [0.5, 0.9]}
    counts = {"T1": 12, "T2": 100, "T3": 100, "T4": 100}
    tables_ = {
        "venn_abers": {"cases": 200, "prevalence": 0.5, **steps},
        "sets": {"ajcc8": {"level": 0.9, "cases": counts}},
    }
    spec = make_spec(tables(calibrator={**CALIBRATOR, **tables_}), "here")
    files = {spec.artefact: "0" * 64}
    manifest = Manifest.model_validate({**manifest_of(spec, [], {}), "files": files})
    assert manifest.calibrators[spec.artefact] == spec.calibrator
    assert manifest.calibrators[spec.artefact].sets["ajcc8"].thresholds is None
    wrong = {**CALIBRATOR, "sets": {"ajcc8": {"level": 0.9, "cases": counts, "thresholds": counts}}}
    with pytest.raises(UsageError, match=r"calibrator\.sets\.ajcc8"):
        make_spec(tables(calibrator=wrong), "here")


def changed(path: str, value: Any) -> dict[str, Any]:
    """The spec with one key, a.b.c, set, or with None left out."""
    spec = copy.deepcopy(tables())
    *folders, last = path.split(".")
    place = spec
    for folder in folders:
        place = place[folder]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return spec


LABELS = [
    {"code": 1, "name": name, "structure": "clivus", "side": "midline", "colour": [1, 2, 3]} for name in "ab"
]


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("network.spacing", None, "network.spacing is missing"),
        ("licence", None, "licence is missing"),
        ("provenance.training_data", None, "provenance.training_data is missing"),
        ("network.spacign", [1, 1, 1], "network.spacign is not a key of a spec"),
        ("surprise", 1, "surprise is not a key of a spec"),
        ("evidence", "hearsay", "evidence: Input should be"),
        ("network.window", [8, 12, 0], "network.window.2: "),
        ("network.region", "around:locator.heatmap", "network.region: "),
        ("network.artefacts", [{"precision": "fp32", "file": "a"}], "network.artefacts"),
        ("network.inputs", ["t1", "adc"], "no sequence is named adc"),
        ("network.inputs", ["t1", "t1"], "every channel's sequence once"),
        ("network.outputs", [], "network.outputs"),
        ("reference_sequence", "adc", "no sequence is named adc"),
        ("sequences", [{"name": "t1", "roles": ["T1"]}] * 2, "two have one name"),
        ("labels", LABELS, "two have one code"),
        ("tumour", None, "tumour.threshold is missing"),
        ("detection", None, "detection: "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(path: str, value: Any, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_spec(changed(path, value), "spec.toml")
    assert said in caught.value.one_line()
    assert caught.value.message.startswith("spec.toml: ")
    assert "\n" not in caught.value.one_line()


def test_a_file_that_is_no_spec_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        load_spec(tmp_path / "nowhere.toml")
    (tmp_path / "bad.toml").write_text("name = ")
    with pytest.raises(UsageError, match=r"bad\.toml is not TOML"):
        load_spec(tmp_path / "bad.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="is not TOML"):
        load_spec(tmp_path / "binary.toml")


@pytest.mark.parametrize(
    ("name", "shape", "said"),
    [
        ("tumour", (1, 1, 8, 12, 10), ""),
        ("tumour", (1, 2, 8, 12, 10), "kind tumour has (1, 1, 8, 12, 10)"),
        ("tumour", (1, 1, 8, 12), "has shape (1, 1, 8, 12)"),
        ("anatomy", (1, 3, 4, 6, 5), "(1, K, 8, 12, 10)"),
        ("anatomy", (1, 2, 8, 12, 10), "none for label code 2"),
        ("detection", (1, 2), "kind detection has (1, 1)"),
    ],
)
def test_outputs_have_the_shape_of_their_kind(name: str, shape: tuple[int, ...], said: str) -> None:
    spec = make_spec(tables(labels=[{**LABELS[0], "code": 2}]), "here")
    shapes = {"tumour": (1, 1, 8, 12, 10), "anatomy": (1, 3, 8, 12, 10), "detection": (1, 1), name: shape}
    wrong = spec.wrong_output(shapes)
    assert (wrong == "") == (said == "")
    assert said in wrong
