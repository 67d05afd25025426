"""The peer does the engine's work: the same files, the same voxels read, nearly the same masks."""

from pathlib import Path

import numpy as np
import pytest
import torch

from npc_edge.bench.peers.given import Given, gather
from npc_edge.bench.peers.networks import Prepared, Variant, rebuild
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.bench.timing.measure import agreement
from npc_edge.engine.errors import UsageError
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.output.scribe import Scribe
from npc_edge.engine.session import Session
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Options, RunnerInfo, Watch

pytest.importorskip("monai")


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    spec = PhantomSpec("T3", seed=700_001, fat_sat=False, matrix=160, slices=24)
    return write_phantom(spec, tmp_path_factory.mktemp("peer") / "phantom") / "study"


@pytest.fixture(scope="module")
def given(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Given:
    return gather(study, bundles.load(None).manifest, tmp_path_factory.mktemp("given"))


@pytest.mark.filterwarnings("ignore")  # of MONAI, about readers that are not installed
def test_the_same_files_and_nearly_the_same_masks(study: Path, given: Given, tmp_path: Path) -> None:
    from npc_edge.bench.peers.monai_pipeline import MonaiPeer

    bundle = bundles.load(None)
    networks = {
        n.name: Prepared(rebuild(bundle, n.name), Variant("fp32", True)) for n in bundle.manifest.networks
    }
    info = RunnerInfo("torch", "cpu", "fp32", "artefacts/npc.fp32.onnx", torch.__version__)
    with Scribe() as scribe:
        ran = MonaiPeer(bundle, networks, info, lambda uid: "0", scribe=scribe).run(given, tmp_path / "peer")
        assert scribe.pid is not None, "the peer writes as the engine does"
    with Session(None, Options(state=tmp_path / "state")) as session:
        ours = session.run(study, tmp_path / "ours")
    found = agreement(tmp_path / "ours", tmp_path / "peer")
    assert found["same_files"]
    assert found["tumour_dice"] >= 0.98
    assert found["structures_equal"] >= 0.99
    assert set(ran.timings_ms) == set(ours.document.runtime.timings_ms)
    assert ran.timings_ms["infer"] > 0


@pytest.mark.filterwarnings("ignore")
def test_monai_reads_the_voxels_that_the_engine_reads(study: Path, given: Given) -> None:
    from npc_edge.bench.peers.monai_pipeline import MonaiPeer, _volume

    peer = MonaiPeer(bundles.load(None), {}, RunnerInfo("torch", "cpu", "fp32", "none", "0"), str)
    with Reader() as reader:
        held = reader.read(study)
        for name, known in given.volumes.items():
            assert known.series is not None
            ours = assemble(held.series[known.series], known.series, reader, "unknown", Watch())
            theirs = _volume(peer._load(str(given.folders[name])), known)
            np.testing.assert_array_equal(theirs.voxels, ours.voxels)


def test_a_zip_is_refused(tmp_path: Path) -> None:
    (tmp_path / "study.zip").touch()
    with pytest.raises(UsageError, match="is no folder"):
        gather(tmp_path / "study.zip", bundles.load(None).manifest, tmp_path / "given")
