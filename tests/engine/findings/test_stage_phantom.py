"""The rules on truth masks against the truth by construction: two independent ways to one category."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pytest

from npc_edge.bench.phantom import truth
from npc_edge.bench.phantom.acquire import integrate_slices, nearest_labels
from npc_edge.bench.phantom.anatomy import REGION, build_anatomy
from npc_edge.bench.phantom.signal import SequenceParameters, render, tissue_signals
from npc_edge.bench.phantom.structures import PAIRED, Structure
from npc_edge.bench.phantom.tumour import grow_tumour
from npc_edge.engine.findings.segment import tumour_mask
from npc_edge.engine.findings.sides import find_midline, split_sides
from npc_edge.engine.findings.stage import stage
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.types import Options, Segmentation, Volume

SLICE_MM = 5.0
GRID = Geometry.centred((0.0, 0.0, -8.0), (0.9, 0.9, SLICE_MM), (25, 170, 170))
LABELS = [
    {
        "code": int(s),
        "name": s.name.lower(),
        "structure": s.name.lower(),
        "side": "paired" if s in PAIRED else "midline",
        "colour": (1, 1, 1),
    }
    for s in Structure
    if s
]


@lru_cache(maxsize=2)
def person(seed):
    return build_anatomy(seed, REGION, healthy=False)


def phantom(stage_name, seed):
    """A region phantom: truth categories, its criteria, T1 and T2 without noise, and truth masks."""
    anatomy = person(seed)
    tumour = grow_tumour(anatomy, stage_name, seed, SLICE_MM)
    head = Geometry.from_parts(REGION.shape, REGION.spacing, REGION.origin)
    rng = np.random.default_rng(seed)
    volumes = {}
    for name, params in (
        ("t1", SequenceParameters("T1", 12, 550)),
        ("t2", SequenceParameters("T2", 90, 4000)),
    ):
        signal = render(anatomy.tissue, tissue_signals(params)[0], tumour.fraction)
        voxels = integrate_slices(signal, head, GRID, SLICE_MM)
        voxels *= 1 + 0.05 * rng.standard_normal(voxels.shape)
        volumes[name] = Volume(voxels.astype(np.float32), GRID)
    inside = (integrate_slices(tumour.fraction, head, GRID, SLICE_MM) >= 0.5).astype(np.float32)
    structures = nearest_labels(anatomy.structure, head, GRID)
    return anatomy, tumour, volumes, inside, structures


@pytest.mark.parametrize("seed", [3, 24])
@pytest.mark.parametrize("stage_name", ["T1", "T2", "T3", "T4"])
def test_truth_masks_give_the_true_category(cases, stage_name, seed):
    anatomy, tumour, volumes, inside, structures = phantom(stage_name, seed)
    bundle = cases.manifest(labels=LABELS)
    sided = split_sides(structures, GRID, bundle.labels, find_midline(structures, GRID, bundle.labels))
    found = tumour_mask(inside, GRID, 0.5, 0.0)
    seen = np.ones(GRID.shape, dtype=bool)
    segmentation = Segmentation(
        found.mask, inside, sided, seen, GRID, {}, found.volume_ml, found.centroid_lps_mm, found.components
    )
    staging = stage(segmentation, volumes, bundle, None, Options(cranial_nerves="none"))
    assert (staging.ajcc8.t, staging.ajcc9.t) == truth.categories(anatomy, tumour)
    fired = {e.structure.replace("antero", ""): e for e in staging.evidence if e.status == "unequivocal"}
    for name, side in tumour.trigger:
        if name != "nasopharynx":
            assert fired[name].side == side
