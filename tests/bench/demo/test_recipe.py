"""The recipe in small: cache, twenty steps of each network, calibration, a bundle the engine accepts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from npc_edge.bench.demo.recipe import main
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import verify
from npc_edge.engine.types import Options

SMALL = [
    "--steps",
    "20",
    "--width",
    "4",
    "--heads",
    "2",
    "--valid",
    "2",
    "--synthetic-only",
    "--jobs",
    "2",
    "--cases",
    "0",
]


@pytest.fixture(scope="module")
def cooked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("demo")
    main(["--out", str(out), *SMALL])
    return out


@pytest.mark.timeout(180)
def test_twenty_steps_make_a_bundle_the_engine_accepts(cooked: Path) -> None:
    bundle = bundles.load(cooked / "bundle", allow_unsigned=True)
    results = verify(bundle, Options(backend="onnxruntime"))
    assert [r.status for r in results] == ["passed", "passed"]
    assert bundle.manifest.evidence == "synthetic"
    assert "--synthetic-only" in bundle.manifest.provenance.recipe
    assert bundle.manifest.provenance.credits == ()
    (calibrator,) = bundle.manifest.calibrators.values()
    assert calibrator.venn_abers is not None
    assert (calibrator.venn_abers.cases, calibrator.venn_abers.lower) == (8, ())  # far too few
    size = sum(p.stat().st_size for p in (cooked / "bundle").rglob("*") if p.is_file())
    assert size < 12e6


def test_resuming_a_finished_run_trains_no_more(cooked: Path) -> None:
    before = json.loads((cooked / "measured.json").read_text())
    main(["--out", str(cooked), "--resume", *SMALL])
    after = json.loads((cooked / "measured.json").read_text())
    assert after["training"] == before["training"]
    assert after["training"]["npc"]["steps"] == 20
    assert after["detection"] == before["detection"]


def test_checkpoints_are_never_overwritten_unasked(cooked: Path) -> None:
    with pytest.raises(SystemExit):
        main(["--out", str(cooked), *SMALL])
