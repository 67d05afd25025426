"""From folder to files through a session: one way, and what is asked of the others."""

from pathlib import Path

import pytest

from npc_edge.bench.gpu_place import Place
from npc_edge.bench.gpu_rounds import Plan, Row, measure
from npc_edge.bench.gpu_run import judge_by_first, ways
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom


def test_a_gpu_is_asked_for_by_name(tmp_path: Path) -> None:
    names = [attempt.name for attempt in ways(Place(0), tmp_path, tmp_path)]
    assert names[2:] == ["onnxruntime on the GPU", "tensorrt on the GPU", "auto on the GPU"]
    assert [attempt.peer for attempt in ways(Place(0), tmp_path, tmp_path)] == [True, True, *[False] * 3]
    assert len(list(ways(Place(None), tmp_path, tmp_path))) == 2


def test_a_study_runs_to_files_and_a_gpu_that_is_not_there_is_said(tmp_path: Path) -> None:
    spec = PhantomSpec("T3", seed=700_001, fat_sat=False, matrix=96, slices=24)
    study = write_phantom(spec, tmp_path / "phantom") / "study"
    held = list(ways(Place(99), study, tmp_path))
    asked = [held[0], held[2]]
    rows: list[Row] = measure(asked, judge_by_first(), Plan(rounds=1, warmups=0), lambda line: None)
    assert rows[0]["runs_as"] == "onnxruntime fp32 on cpu"
    assert rows[0]["stages_ms"]["infer"] > 0
    assert rows[0]["tumour_dice"] == 1
    assert "cuda:99 is not in this machine" in rows[1]["not_run"]
    assert not (tmp_path / "run-0" / "out").exists()


@pytest.mark.slow
def test_the_whole_step(tmp_path: Path) -> None:
    from npc_edge.bench.gpu_run import rows

    told: list[Row] = []
    rows(Place(None, small=True), lambda line: None, told.append, tmp_path)
    assert all("ms" in row for row in told[-1]["ways"])
