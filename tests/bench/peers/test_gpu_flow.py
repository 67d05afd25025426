"""From upload to labels on the kernels' bodies compiled by g++: ours and MONAI's agree with the reference."""

import numpy as np
import pytest
from outside import tool

from npc_edge.bench.gpu_place import Place, Row
from npc_edge.bench.gpu_rounds import Way
from npc_edge.bench.peers import gpu_flow

pytest.importorskip("monai")


@pytest.mark.filterwarnings("ignore")  # of MONAI, about readers that are not installed
def test_both_chains_find_the_same_labels_from_one_study() -> None:
    tool("g++")
    told: list[Row] = []
    gpu_flow.rows(Place(None, small=True), lambda line: None, told.append)
    rows = {row["way"]: row for row in told[-1]["ways"]}
    assert {"kernels + onnxruntime fp32", "MONAI + torch autocast channels_last_3d"} < set(rows)
    for name, row in rows.items():
        assert "ms" in row, f"{name}: {row}"
        assert list(row["stages_ms"]) == ["upload", "prepare", "network", "labels", "home"]
        assert 0.98 <= row["structures_equal"] <= 1
    assert rows["kernels + onnxruntime fp32"]["structures_equal"] > 0.999
    assert rows["kernels + onnxruntime fp32"]["times"]["of"].startswith("MONAI + ")


def test_other_labels_are_wrong() -> None:
    study = gpu_flow.make_study((34, 48, 48))
    assert study.expected["tumour"].any()
    assert len(np.unique(study.expected["structures"])) > 5
    whole = {name: np.zeros((34, 48, 48), np.uint8) for name in study.expected}
    for name, slices in study.expected.items():
        whole[name][list(study.slices)] = slices
    assert gpu_flow.judge(study, Way(lambda: None, lambda: whole)).wrong == ""
    moved = {name: np.roll(array, 3, axis=2) for name, array in whole.items()}
    assert "too few" in gpu_flow.judge(study, Way(lambda: None, lambda: moved)).wrong
    empty = {**whole, "tumour": np.zeros_like(whole["tumour"])}
    assert "tumour Dice 0.000" in gpu_flow.judge(study, Way(lambda: None, lambda: empty)).wrong
