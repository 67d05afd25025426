"""verify, schema and keygen as a person calls them."""

import json
import shutil
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest
import tiny_bundle
from cli import run

from npc_edge.engine.model import acceptance
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack
from npc_edge.export.sign import public_bytes, read_key


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """maker.key, a state directory that trusts it, and a signed bundle with a golden case."""
    folder = tmp_path_factory.mktemp("site")
    made = run("keygen", folder / "maker")
    assert made.returncode == 0, made.stderr
    (folder / "state" / "keys").mkdir(parents=True)
    shutil.copy(folder / "maker.pub", folder / "state" / "keys")
    root = tiny_bundle.write_parts(folder / "bundle")
    key = read_key(folder / "maker.key")
    pack(root, tiny_bundle.manifest(), key)
    image = acceptance.storable(
        np.random.default_rng(0).random((1, 2, *tiny_bundle.WINDOW), dtype=np.float32)
    )
    with open_runner(load(root, [public_bytes(key)]), "npc", Options()) as runner:
        outputs = runner.infer({"image": image})
    acceptance.save_golden(root / "golden" / "npc.a.npz", {"image": image}, outputs)
    networks = tiny_bundle.manifest()["networks"]
    networks[1]["artefacts"][0]["parity"] = [
        {
            "backend": "onnxruntime",
            "precision": "fp32",
            "isa": "avx2",
            "max_relative_error": 1.5e-6,
            "dice": 1.0,
        }
    ]
    pack(root, tiny_bundle.manifest(networks=networks), key)
    return folder


def test_a_sound_bundle_is_verified(site: Path) -> None:
    ran = run("verify", site / "bundle", "--state", site / "state", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    report = json.loads(ran.stdout)
    assert report["trusted"] is True
    assert report["passed"] is True
    ran_here = [a for a in report["artefacts"] if a["status"] != "skipped"]
    assert {(a["network"], a["status"]) for a in ran_here} == {("locator", "untested"), ("npc", "passed")}
    for network in ("locator", "npc"):
        pairs = [f"{a['backend']} {a['execution']}" for a in report["artefacts"] if a["network"] == network]
        assert pairs == ["openvino bf16", "openvino fp32", "onnxruntime fp32"]
    assert [a["allowed"] for a in report["artefacts"]] == [False, False, True] * 2
    assert report["parity"][0]["isa"] == "avx2"
    assert {"date", "npc-edge", "onnxruntime", "openvino", "processor", "gpu"} == set(report["where"])
    told = run("verify", site / "bundle", "--state", site / "state")
    assert told.returncode == 0
    for word in ("tiny 1", "signed by a trusted key", "passed", "1.5e-06", "never chosen", " UTC; npc-edge "):
        assert word in told.stdout


def test_a_stranger_s_bundle_is_refused_in_one_line(site: Path, tmp_path: Path) -> None:
    ran = run("verify", site / "bundle", "--state", tmp_path / "state")
    assert ran.returncode == 4
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1
    assert "trusted key" in ran.stderr
    allowed = run("verify", site / "bundle", "--state", tmp_path / "state", "--allow-unsigned")
    assert allowed.returncode == 0
    assert "NOT signed" in allowed.stdout


def test_an_artefact_that_answers_otherwise_is_exit_4(site: Path, tmp_path: Path) -> None:
    root = tmp_path / "bundle"
    shutil.copytree(site / "bundle", root)
    model = tiny_bundle.npc()
    next(t for t in model.graph.initializer if t.name == "half").float_data[0] = 0.7
    onnx.save(model, str(root / "artefacts" / "npc.fp32.onnx"))
    pack(root, tiny_bundle.manifest(), read_key(site / "maker.key"))
    ran = run("verify", root, "--state", site / "state", "--json")
    assert ran.returncode == 4
    assert "golden" in ran.stderr
    report = json.loads(ran.stdout)
    assert report["passed"] is False
    failed = [(a["network"], a["backend"]) for a in report["artefacts"] if a["status"] == "failed"]
    assert ("npc", "onnxruntime") in failed
    assert "onnxruntime fp32" in ran.stderr, "the line names the pair that would have run"


def test_doctor_says_what_runs_here_and_why_the_rest_does_not() -> None:
    ran = run("doctor", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    checks = {check["what"]: check for check in json.loads(ran.stdout)["checks"]}
    assert checks["openvino"]["ok"] is True
    assert checks["openvino"]["detail"][:2] == "20"
    for what in ("gpu", "tensorrt-rtx", "tensorrt"):
        assert checks[what]["detail"]
        assert "\n" not in checks[what]["detail"]
    if not checks["tensorrt"]["ok"]:
        assert "install" in checks["tensorrt"]["detail"]


@pytest.mark.parametrize("which", ["manifest", "result"])
def test_the_schemas_are_schemas(site: Path, which: str) -> None:
    ran = run("schema", which)
    assert ran.returncode == 0
    schema = json.loads(ran.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    if which == "manifest":
        written = json.loads((site / "bundle" / "manifest.json").read_text())
        jsonschema.Draft202012Validator(schema).validate(written)
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.Draft202012Validator(schema).validate({**written, "surprise": 1})


def test_keygen_never_overwrites(site: Path) -> None:
    before = (site / "maker.key").read_bytes()
    ran = run("keygen", site / "maker.key")
    assert ran.returncode == 6
    assert "already" in ran.stderr
    assert (site / "maker.key").read_bytes() == before
