"""The network step of the GPU suite, all of it but the device: on the processor, with a tiny network."""

from pathlib import Path

import numpy as np
import pytest

from npc_edge.bench.gpu_place import Place, Row
from npc_edge.bench.gpu_rounds import Way
from npc_edge.bench.peers.gpu_network import demo, judge_by, larger


def by_name(told: list[Row]) -> dict[str, Row]:
    return {row["way"]: row for row in told[-1]["ways"]}


@pytest.mark.filterwarnings("ignore")  # of PyTorch's exporter and compiler, about themselves
def test_every_way_there_is_is_right_and_timed(tmp_path: Path) -> None:
    told: list[Row] = []
    larger(Place(None, small=True), lambda line: None, told.append, tmp_path)
    rows = by_name(told)
    timed = {name for name, row in rows.items() if "ms" in row}
    assert {"torch fp32 eager", "torch autocast eager", "onnxruntime fp32"} < timed
    assert "torch fp32 channels_last_3d compiled" in timed
    assert "cuda:0 is not in this machine" in rows["tensorrt-rtx fp32"]["not_run"]
    assert rows["onnxruntime fp32"]["max_relative_error"] < 1e-4
    assert rows["onnxruntime fp32"]["times"]["pairs"] == 3
    assert told[-1]["gflop"] > 0
    assert told[-1]["window"] == [1, 2, 16, 16, 16]


@pytest.mark.filterwarnings("ignore")
def test_the_demos_network_is_run_from_the_bundles_files() -> None:
    told: list[Row] = []
    demo(Place(None, small=True, until=0.0), lambda line: None, told.append)
    assert told[-1]["name"].endswith(", locator")
    assert {row["not_run"] for row in told[-1]["ways"]} == {"the time for this step was over"}
    assert "onnxruntime fp32" in by_name(told)


def test_a_way_is_judged_by_its_own_precision() -> None:
    expected = {"map": np.ones((2, 2), np.float32)}

    def way(off: float, precision: str) -> Way:
        return Way(lambda: None, lambda: {"map": expected["map"] + np.float32(off)}, precision)

    judge = judge_by(expected)
    assert judge(way(1e-4, "fp32")).wrong == ""
    assert judge(way(1e-2, "fp16")).wrong == ""
    assert "differs by 0.01 of the range, 0.001 is allowed" in judge(way(1e-2, "fp32")).wrong
    assert judge(way(float("nan"), "fp16")).wrong != ""
