"""Writes a phantom study with its truth: OUT/study/ (DICOM) and OUT/truth/ (JSON and NIfTI).

Truth comes from the construction of head and tumour, never from the engine's rules.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray

from npc_edge.bench.phantom import defects, truth
from npc_edge.bench.phantom.acquire import integrate_slices, nearest_labels, to_sitk
from npc_edge.bench.phantom.anatomy import WHOLE_HEAD, Anatomy, build_anatomy
from npc_edge.bench.phantom.dicom import Identity, write_series
from npc_edge.bench.phantom.enhanced import write_enhanced_series
from npc_edge.bench.phantom.examine import Head, examine
from npc_edge.bench.phantom.protocol import PhantomSpec, Protocol, draw_protocol
from npc_edge.bench.phantom.structures import Structure
from npc_edge.bench.phantom.tumour import Tumour, grow_tumour
from npc_edge.engine.errors import OutputError, UsageError
from npc_edge.engine.geometry import Geometry

__all__ = ["PhantomSpec", "write_phantom"]


def write_phantom(spec: PhantomSpec, out: Path) -> Path:
    """Write a phantom into `out`, all or nothing; returns it.

    UsageError: an unknown defect, or an `out` that is not empty. OutputError: it cannot be written.
    """
    defect = defects.find(spec.defect) if spec.defect else None
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{out} is not an empty folder", "choose a new one")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        staged = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    try:
        _write(spec, staged)
        if defect is not None:
            defect.damage(staged / "study", np.random.default_rng([spec.seed, 99]))
        if out.exists():
            out.rmdir()
        staged.chmod(0o755)
        staged.replace(out)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror}") from error
    finally:
        shutil.rmtree(staged, ignore_errors=True)
    return out


def _write(spec: PhantomSpec, folder: Path) -> None:
    protocol = draw_protocol(spec)
    t1 = protocol.plan("T1")
    assert t1.geometry is not None
    anatomy = build_anatomy(spec.seed, WHOLE_HEAD, healthy=spec.stage == "none")
    tumour = _tumour(spec, anatomy, t1.geometry.spacing[2])
    grid = anatomy.grid
    placed = Geometry.from_parts(grid.shape, grid.spacing, grid.origin)
    head = Head(
        anatomy.tissue,
        None if tumour is None else tumour.fraction,
        Geometry(grid.shape, protocol.head @ placed.affine),
    )
    identity = Identity(spec)
    for acquired in examine(spec, protocol, head):
        writer = write_enhanced_series if spec.enhanced else write_series
        writer(folder / "study", identity, protocol, acquired)
    _write_truth(spec, folder / "truth", (protocol, head), anatomy, tumour)


def _tumour(spec: PhantomSpec, anatomy: Anatomy, slice_mm: float) -> Tumour | None:
    if spec.stage == "none":
        return None
    try:
        return grow_tumour(anatomy, spec.stage, spec.seed, slice_mm)
    except ValueError as error:
        raise UsageError(f"no {spec.stage} tumour fits the head of seed {spec.seed}: {error}") from error


def _write_truth(
    spec: PhantomSpec, folder: Path, scene: tuple[Protocol, Head], anatomy: Anatomy, tumour: Tumour | None
) -> None:
    """truth.json, tumour.nii.gz and structures.nii.gz; volumes on the T1 grid, slices ascending."""
    protocol, head = scene
    plan = protocol.plan("T1")
    assert plan.geometry is not None
    folder.mkdir(parents=True)
    mask = np.zeros(plan.geometry.shape, dtype=np.uint8)
    if head.fraction is not None:
        mask = tumour_mask(head.fraction, head.geometry, plan.geometry, plan.thickness_mm)
    structures = nearest_labels(anatomy.structure, head.geometry, plan.geometry)
    for name, voxels in (("tumour", mask), ("structures", structures)):
        image: Any = to_sitk(voxels, plan.geometry)
        sitk.WriteImage(image, str(folder / f"{name}.nii.gz"), useCompression=True, compressionLevel=1)
    t8, t9 = truth.categories(anatomy, tumour) if tumour is not None else (None, None)
    millilitres = 0.0
    if head.fraction is not None:
        millilitres = float(head.fraction.sum(dtype=np.float64)) * head.geometry.voxel_mm3 / 1000
    facts = {
        "npc": tumour is not None,
        "ajcc8": t8,
        "ajcc9": t9,
        "tumour_volume_ml": round(millilitres, 4),
        "tumour_mask_ml": round(float(mask.sum()) * plan.geometry.voxel_mm3 / 1000, 4),
        "seed": spec.seed,
        "spec": asdict(spec),
        "wall_mm": anatomy.wall_mm,
        "findings": anatomy.findings,
        "criteria": [asdict(c) for c in truth.criteria(anatomy, tumour)] if tumour is not None else [],
        "trigger": None if tumour is None else tumour.trigger,
        "labels": {
            "tumour.nii.gz": {"1": "tumour"},
            "structures.nii.gz": {str(int(s)): s.name.lower() for s in Structure if s},
        },
        "nasopharynx_lps_mm": [round(float(v), 3) for v in protocol.head[:3, 3]],
        "series": [
            {
                "role": p.role,
                "description": p.description,
                "fat_suppression": p.parameters.fat_suppression,
            }
            for p in protocol.series
        ],
    }
    (folder / "truth.json").write_text(json.dumps(facts, indent=1, default=_plain) + "\n", encoding="utf-8")


def tumour_mask(
    fraction: NDArray[np.float32], head: Geometry, target: Geometry, thickness_mm: float
) -> NDArray[np.uint8]:
    """(Z, Y, X) uint8 on `target`: 1 where the tumour fills at least half of a voxel's slice profile."""
    return (integrate_slices(fraction, head, target, thickness_mm) >= 0.5).astype(np.uint8)


def _plain(value: object) -> object:
    """Numbers, sets and enumerations of the anatomy as JSON has them."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (set, frozenset, tuple)):
        return sorted(str(v) for v in value)
    return str(value)
