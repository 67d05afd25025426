"""Cohorts as they come: phantoms, and a copy of the public data set's layout with all that is odd in it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import public_layout
import pytest
import SimpleITK as sitk
import tiny_bundle

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.engine.cohort import find_cases, load_case
from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.study.read import Reader

SMALL = {"matrix": 96, "slices": 12, "vendor": "ge"}
MANIFEST = Manifest.model_validate(
    tiny_bundle.manifest(
        files={f"artefacts/{name}.fp32.onnx": "0" * 64 for name in ("npc", "locator")},
    )
)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cohort")
    for number in (2, 3):
        spec = PhantomSpec("T2", seed=40 + number, with_contrast=True, **SMALL)  # type: ignore[arg-type]
        public_layout.write_patient(spec, root, number, tmp_path_factory.mktemp("scratch"))
    return root


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    with Reader() as opened:
        yield opened


def test_patients_are_found_and_what_the_archiver_left_is_not(cohort: Path) -> None:
    cases = find_cases(cohort)
    assert [c.name for c in cases] == ["002", "003"]
    assert set(cases[0].series) == {"T1", "T2", "T2FS", "T1C"}
    assert all(c.npc is True and c.mask is not None and c.mask.name == "ROI-T1.nii" for c in cases)
    assert find_cases(cohort, "T2")[0].mask is None
    assert cases[0].categories == {}  # nobody says


def test_the_mask_lies_where_the_tumour_is(cohort: Path, reader: Reader, tmp_path: Path) -> None:
    """Against the truth the phantom was built with: neither order of slices nor of axes matters."""
    spec = PhantomSpec("T2", seed=42, with_contrast=True, **SMALL)  # type: ignore[arg-type]
    truth = sitk.ReadImage(str(write_phantom(spec, tmp_path / "again") / "truth" / "tumour.nii.gz"))
    loaded = load_case(find_cases(cohort)[0], MANIFEST, reader)
    assert loaded.notes == ()
    assert loaded.truth is not None
    assert set(loaded.volumes) == {"t1", "t2"}
    index = np.argwhere(loaded.truth)[:, ::-1]
    world = loaded.volumes["t1"].geometry.to_world(index)
    voxels = sitk.GetArrayFromImage(truth)
    places = [truth.TransformPhysicalPointToIndex(point) for point in world.tolist()]
    assert all(voxels[z, y, x] == 1 for x, y, z in places)
    assert len(places) == int(voxels.sum())


def test_a_mask_of_another_shape_is_placed_and_said(cohort: Path, reader: Reader) -> None:
    loaded = load_case(find_cases(cohort)[1], MANIFEST, reader)
    assert loaded.truth is not None
    assert loaded.truth.shape == loaded.volumes["t1"].geometry.shape
    assert loaded.truth.any()
    assert any("(11, 96, 96)" in note and "(12, 96, 96)" in note for note in loaded.notes)


def test_phantoms_are_a_cohort_and_the_healthy_have_no_tumour(tmp_path: Path, reader: Reader) -> None:
    for stage in ("T1", "none"):
        write_phantom(PhantomSpec(stage, seed=9, **SMALL), tmp_path / f"case-{stage}")  # type: ignore[arg-type]
    cases = find_cases(tmp_path)
    assert [(c.name, c.npc) for c in cases] == [("case-T1", True), ("case-none", False)]
    sick, healthy = (load_case(c, MANIFEST, reader) for c in cases)
    assert sick.truth is not None
    assert sick.truth.any()
    assert healthy.truth is not None
    assert not healthy.truth.any()


def test_what_is_no_cohort_or_lacks_a_series_is_said(tmp_path: Path, reader: Reader, cohort: Path) -> None:
    with pytest.raises(UsageError, match="no folder"):
        find_cases(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="no cases"):
        find_cases(tmp_path / "empty")
    patient = find_cases(cohort)[0].folder
    shutil.copytree(patient / "T1WI", tmp_path / "half" / "001" / "T1WI")
    with pytest.raises(Refusal, match="t2"):
        load_case(find_cases(tmp_path / "half")[0], MANIFEST, reader)
