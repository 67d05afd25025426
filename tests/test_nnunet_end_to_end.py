"""An nnU-Net's bundle on a DICOM study, to every file, with neither PyTorch nor nnU-Net: two labels by
thresholds on the first channel."""

import json
from pathlib import Path

import onnx
import pydicom
from cli import run
from onnx import TensorProto, helper

from npc_edge.export.pack import pack

WINDOW = (8, 64, 64)


def bundle(root: Path) -> Path:
    """GTVp: z-score of T1 above 1; GTVn: below -5, which is never."""
    weights = helper.make_tensor("w", TensorProto.FLOAT, (3, 2, 1, 1, 1), [0.0, 0.0, 1.0, 0.0, -1.0, 0.0])
    bias = helper.make_tensor("b", TensorProto.FLOAT, (3,), [0.0, -1.0, -5.0])
    graph = helper.make_graph(
        [helper.make_node("Conv", ["image", "w", "b"], ["segmentation"])],
        "thresholds",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 2, *WINDOW))],
        [helper.make_tensor_value_info("segmentation", TensorProto.FLOAT, (1, 3, *WINDOW))],
        [weights, bias],
    )
    (root / "artefacts").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, str(root / "artefacts" / "fold_0.fp32.onnx"))
    cubic = {"order": 3}
    scheme = {
        "data": cubic,
        "logits": {"order": 1},
        "channels": [{"scheme": "ZScoreNormalization"}] * 2,
    }
    network = {
        "name": "fold_0",
        "region": "whole",
        "inputs": ["t1", "t2"],
        "spacing": [6.0, 2.2, 2.2],
        "window": WINDOW,
        "nnunet": scheme,
        "outputs": [{"name": "segmentation", "kind": "segmentation"}],
        "artefacts": [{"precision": "fp32", "file": "artefacts/fold_0.fp32.onnx"}],
    }
    label = {"side": "midline", "colour": (200, 10, 10)}
    manifest = {
        "name": "thresholds",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "evidence": "synthetic",
        "task": "segmentation",
        "sequences": [{"name": "t1", "roles": ["T1"]}, {"name": "t2", "roles": ["T2", "T2FS"]}],
        "reference_sequence": "t1",
        "networks": [network],
        "labels": [
            {**label, "code": 1, "name": "GTVp", "structure": "tumour"},
            {**label, "code": 2, "name": "GTVn", "structure": "gtvn"},
        ],
        "tumour": {"rule": "argmax", "threshold": 0.5},
        "staging": {"rules": "1", "thresholds": []},
        "provenance": {"training_data": "none", "commit": "", "recipe": "tests", "tools": {}},
    }
    pack(root, manifest, None)
    return root


def test_every_file_is_written_and_none_says_more_than_the_mask(tmp_path: Path) -> None:
    made = run("phantom", tmp_path / "p", "--stage", "T2", "--seed", 3, "--matrix", 96, "--slices", 12)
    assert made.returncode == 0, made.stderr
    out, state = tmp_path / "out", ["--state", tmp_path / "state"]
    ran = run(
        "run",
        tmp_path / "p" / "study",
        "--out",
        out,
        "--bundle",
        bundle(tmp_path / "b"),
        "--allow-unsigned",
        *state,
    )
    assert (ran.returncode, ran.stderr) == (0, "")
    names = {path.name for path in out.iterdir()}
    assert {"seg.dcm", "sr.dcm", "rtstruct.dcm", "tumour.nii.gz", "structures.nii.gz"} < names
    held = json.loads((out / "result.json").read_text())
    assert held["detection"] is None
    assert held["tumour"]["volume_ml"] > 10
    assert (held["staging"]["ajcc8"], held["staging"]["ajcc9"]) == (None, None)
    assert len(held["staging"]["not_assessable"]) > 10
    text = str(pydicom.dcmread(out / "sr.dcm"))
    assert "T category" not in text
    assert "predicts no anatomy" in (out / "report.html").read_text()
