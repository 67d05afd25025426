"""The steps of each artefact go into the manifest, and nothing else of it changes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tiny_bundle

from npc_edge.bench.demo import intervals
from npc_edge.calibration.venn_abers import fit_venn_abers
from npc_edge.engine.model.bundle import load
from npc_edge.export.pack import pack

FP32 = "artefacts/npc.fp32.onnx"
KNOWN = {"method": "none", "temperature": 1.0, "cases": 9, "prevalence": 0.5, "population": "tests"}


def test_steps_join_the_calibrators_that_are_there(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    pack(root, tiny_bundle.manifest(calibrators={FP32: KNOWN}), None)
    before = load(root, allow_unsigned=True).manifest
    random = np.random.default_rng(1)
    scored = [(float(random.normal(1.0 if npc else -1.0)), npc) for npc in [True, False] * 60]
    intervals.add(root, {FP32: scored, "artefacts/npc.fp16.onnx": scored})
    after = load(root, allow_unsigned=True).manifest
    table, fitted = after.calibrators[FP32].venn_abers, fit_venn_abers(*zip(*scored, strict=True))
    assert table is not None
    assert (table.scores, table.lower, table.upper) == (fitted.scores, fitted.lower, fitted.upper)
    plain = {FP32: after.calibrators[FP32].model_copy(update={"venn_abers": None})}
    assert after.model_copy(update={"calibrators": plain}) == before
