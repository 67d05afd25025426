"""Cohorts: cases with their truth on disk, for the gate and for acceptance on a site's machine.

Two layouts are known: phantoms (`study/` and `truth/` in every case's folder), and one folder a patient with
a series in each of `T1WI`, `T2WI`, `CE-T1WI` and masks `ROI-T1.nii`, `ROI-T2.nii`, `ROI-CE-T1.nii`, as the
public set of Li et al., Sci Data 2025;12:1450 (doi 10.1038/s41597-025-05815-x) has it: 277 patients with NPC,
no controls. Names of files say nothing: slices are sorted by position, masks placed by their affines.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.conformal import CATEGORIES
from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.nifti_input import read_nifti
from npc_edge.engine.study.read import Reader
from npc_edge.engine.study.select import MISSING, judge, select
from npc_edge.engine.types import Volume, Watch
from npc_edge.kernels import cpu

_SERIES = {"T1WI": ("T1",), "T2WI": ("T2", "T2FS"), "CE-T1WI": ("T1C",)}
"""Folder of a series → the roles it can play; whether the T2 is fat suppressed its name does not say."""
EDITIONS = ("ajcc8", "ajcc9")
_MASKS = {"T1WI": "ROI-T1", "T2WI": "ROI-T2", "CE-T1WI": "ROI-CE-T1"}


@dataclass(frozen=True)
class Case:
    """One case on disk. npc: whether a tumour is there, None where nobody says. series: folder of each role's
    series; empty for a phantom, whose study is chosen from as any other. categories: edition → true T
    category, empty where nobody says."""

    name: str
    folder: Path
    npc: bool | None
    series: Mapping[str, Path]
    mask: Path | None
    categories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class LoadedCase:
    """volumes by the bundle's sequence names; truth (Z, Y, X) bool on the reference sequence's grid, None
    without a mask; notes: what was odd about the files."""

    case: Case
    volumes: Mapping[str, Volume]
    truth: NDArray[np.bool_] | None
    notes: tuple[str, ...]


def find_cases(root: Path, reference_role: str = "T1") -> tuple[Case, ...]:
    """The cases below a folder, by name; reference_role: whose mask is the truth. UsageError for none."""
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", "name a folder of cases")
    found = tuple(_walk(root, reference_role, 0))
    if not found:
        raise UsageError(
            f"{root} holds no cases",
            "wanted are phantoms (npc-edge phantom), or patients' folders with T1WI, T2WI and ROI-T1.nii",
        )
    return found


def load_case(case: Case, manifest: Manifest, reader: Reader, watch: Watch | None = None) -> LoadedCase:
    """Read what the bundle wants of a case. Raises Refusal as the rooms of `study` do."""
    volumes = _chosen(case, manifest, reader, watch) if not case.series else {}
    for spec in manifest.sequences if case.series else ():
        folder = next((case.series[role] for role in spec.roles if role in case.series), None)
        if folder is None:
            raise Refusal(
                MISSING[spec.roles[0]], f"{case.name} has no series for {spec.name} ({', '.join(spec.roles)})"
            )
        volumes[spec.name] = _only_series(case, folder, reader, watch)
    reference = volumes[manifest.reference_sequence].geometry
    if case.mask is None:
        return LoadedCase(case, volumes, None, ())
    truth, notes = _truth(case.mask, reference)
    return LoadedCase(case, volumes, truth, notes)


def _walk(folder: Path, role: str, depth: int) -> Iterator[Case]:
    if (folder / "study").is_dir() and (folder / "truth" / "truth.json").is_file():
        yield _phantom(folder)
        return
    children = sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    names = {p.name: p for p in children}
    series = {role: names[name] for name, roles in _SERIES.items() if name in names for role in roles}
    if series:
        stem = next((_MASKS[name] for name, roles in _SERIES.items() if role in roles), "ROI-T1")
        masks = [folder / f"{stem}{end}" for end in (".nii", ".nii.gz")]
        mask = next((path for path in masks if path.is_file()), None)
        yield Case(folder.name, folder, None if mask is None else True, series, mask)
        return
    for child in children:
        # What a Mac's archiver leaves behind mirrors the whole tree with files that are no images.
        if depth < 5 and child.name != "__MACOSX" and not child.name.startswith("."):
            yield from _walk(child, role, depth + 1)


def _phantom(folder: Path) -> Case:
    try:
        facts = json.loads((folder / "truth" / "truth.json").read_text(encoding="utf-8"))
        npc = bool(facts["npc"])
        known = {edition: facts[edition] for edition in EDITIONS if facts.get(edition) in CATEGORIES}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{folder / 'truth' / 'truth.json'} is no truth of a phantom") from error
    return Case(folder.name, folder, npc, {}, folder / "truth" / "tumour.nii.gz", known)


def _chosen(case: Case, manifest: Manifest, reader: Reader, watch: Watch | None) -> dict[str, Volume]:
    study = reader.read(case.folder / "study", watch)
    selection = select(study, manifest.sequences, manifest.reference_sequence)
    return {
        name: assemble(study.series[index], index, reader, selection.verdicts[index].fat_suppression, watch)
        for name, index in selection.chosen.items()
    }


def _only_series(case: Case, folder: Path, reader: Reader, watch: Watch | None) -> Volume:
    """The folder says what the series is; of several stacks in it the one with most images."""
    study = reader.read(folder, watch)
    if not study.series:
        raise Refusal("NO_MR", f"{case.name}/{folder.name} holds no MR images")
    index = max(range(len(study.series)), key=lambda i: len(study.series[i].frames))
    return assemble(study.series[index], index, reader, judge(study)[index].fat_suppression, watch)


def _truth(path: Path, reference: Geometry) -> tuple[NDArray[np.bool_], tuple[str, ...]]:
    """A mask on the reference grid, by its own affine: values are rounded first, then above 0 is tumour."""
    mask = read_nifti({"mask": path})["mask"]
    binary = (np.rint(mask.voxels) > 0).astype(np.float32)
    if mask.geometry.same_grid(reference, 0.1):
        return binary > 0, ()
    moved = cpu.resample(
        binary,
        mask.geometry.affine,
        reference.affine,
        reference.shape,
        anti_alias=False,
        interpolation="linear",
    )
    notes = []
    if mask.geometry.shape != reference.shape:
        notes.append(f"{path.name} has {mask.geometry.shape} voxels, the series {reference.shape}")
    before = float(binary.sum()) * mask.geometry.voxel_mm3
    after = float((moved >= 0.5).sum()) * reference.voxel_mm3
    if abs(after - before) > 0.1 * max(before, 1.0):
        notes.append(
            f"{path.name} holds {before / 1e3:.1f} ml, {after / 1e3:.1f} ml of them on the series' grid"
        )
    return moved >= 0.5, tuple(notes)
