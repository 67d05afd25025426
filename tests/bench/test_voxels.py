"""The comparison of the two paths on a processor: both do the same work, and every operation is in it."""

from pathlib import Path

import numpy as np
import pytest
from outside import tool

from npc_edge.bench import voxels
from npc_edge.kernels.cuda import host
from npc_edge.kernels.cuda.operations import Operations


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Operations:
    tool("g++")
    library: Path = host.build(tmp_path_factory.mktemp("kernels"), ("-O1",))
    return Operations(host.HostLauncher(library))


def test_every_pair_runs_and_is_compared(operations: Operations) -> None:
    study = voxels.Study(source=(8, 40, 40), window=(4, 16, 16), classes=3)
    pairs = voxels.pairs(operations, study)
    rows = {name: voxels.compare(pair, runs=2) for name, pair in pairs.items()}
    assert len(rows) == 11
    for row in rows.values():
        for spent in row.values():
            assert spent["ships_ms"] > 0
            assert spent["compiled_ms"] > 0
            assert spent["ratio_range"][0] <= spent["ratio"] <= spent["ratio_range"][1]
    machine = {"processor": "a", "cores": 1}
    shown = voxels.table({"machine": machine, "threads": 1, "runs": 2, "load": 0.5, "operations": rows})
    assert "| percentiles |" in shown


def test_both_of_a_pair_give_the_same(operations: Operations) -> None:
    study = voxels.Study(source=(8, 40, 40), window=(4, 16, 16), classes=3)
    pairs = voxels.pairs(operations, study)
    ships, compiled = pairs["labels of 3 classes"]
    labels = operations.launcher.copy_out(compiled())
    assert (labels == ships()).mean() > 0.999  # float32 decides ties its own way on either side
    ships, compiled = pairs["gather 9 windows"]
    np.testing.assert_array_equal(operations.launcher.copy_out(compiled()), ships())
