"""The comparison with nnU-Net's own predictor, with a tiny network: both sides run and write their labels."""

from pathlib import Path

import pytest

from npc_edge.bench import nnunet_peer

pytest.importorskip("nnunetv2")


@pytest.mark.slow
def test_both_sides_run_on_the_same_images(tmp_path: Path) -> None:
    found = nnunet_peer.measure(tmp_path, small=True, runs=1)
    golden = found["lower"]["golden"]
    assert all(row["precision"] == name for name, row in golden.items())
    assert golden["int8-u8s8"]["max_relative_error"] < 0.2
    assert found["engine"]["runs_of"][0]["precision"] in (*golden, "fp32")  # the fastest one here
    assert set(found["peak_mb"]) == {"engine_first", "engine", "nnunet"}
    assert found["times"]["median"] > 0
    assert found["same_tumour"] > 0.5
    assert "nnU-Net's predictor" in nnunet_peer.table(found)
