"""The monitor's load bench, at its smallest: real runs are recorded, synthetic ones read back."""

import json
from pathlib import Path

import pytest

from npc_edge.bench.__main__ import main
from npc_edge.bench.monitor_load import fill
from npc_edge.calibration.record import CaseRecord
from npc_edge.calibration.store import Store


def test_filling_varies_what_it_is_given(tmp_path: Path) -> None:
    model = CaseRecord(
        *("c", "a", 10_000_000, "1", "b", "", "", "", "", "result"), features={"t1.median": 100.0}, score=1.0
    )
    fill(tmp_path / "many.sqlite", [model], 60)
    with Store.open(tmp_path / "many.sqlite") as store:
        found = list(store.records())
    assert len({record.case_key for record in found}) == 60
    assert len({record.score for record in found}) == 60
    assert [record.at for record in found] == [10_000_000 - 600_000 * n for n in range(60, 0, -1)]
    assert all(80 < record.features["t1.median"] < 120 for record in found)


@pytest.mark.slow
def test_a_few_runs_go_through_the_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--runs", "4", "--phantoms", "2", "--rows", "500", "--out", str(tmp_path / "load.json")]
    assert main(["monitor-load", *small, "--state", str(tmp_path / "state")]) == 0
    report = json.loads((tmp_path / "load.json").read_text())
    assert report["recording"]["runs"] == 4
    assert report["recording"]["outcomes"]["refused"] == 1
    assert report["reading"]["records"] == 500
    assert "cpu_ms" in capsys.readouterr().out
