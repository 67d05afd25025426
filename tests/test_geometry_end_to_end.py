"""One tumour, many ways of writing it: where it is must not depend on how the study was stored.

And what is written must lie where other programs see it: dcm2niix on the source, highdicom on seg.dcm.
"""

import hashlib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import highdicom as hd
import nibabel
import numpy as np
import outside
import pytest
from numpy.typing import NDArray

from npc_edge.bench.measures import dice
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.bench.truth import mask_on
from npc_edge.engine import Options, RunResult, Session

SPEC = PhantomSpec("T2", seed=31, vendor="philips", fat_sat=False, matrix=224, slices=26)
"""Philips: its slope differs from slice to slice, so a mask that survives shows the rescale was right."""
AXIAL = {"axial": SPEC, "reversed": replace(SPEC, reversed=True), "enhanced": replace(SPEC, enhanced=True)}


@dataclass(frozen=True)
class Ran:
    """A phantom, what came of it, and where its files lie."""

    phantom: Path
    out: Path
    result: RunResult

    @property
    def mask(self) -> NDArray[np.uint8]:
        """(Z, Y, X) uint8 on the source grid."""
        assert self.result.findings is not None, self.result.document.reasons
        return self.result.findings.segmentation.tumour


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    with Session(None, Options(state=tmp_path_factory.mktemp("state"), threads=1)) as opened:
        yield opened


@pytest.fixture(scope="module")
def ran(session: Session, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ran]:
    """The phantom in every way of writing it, each run once."""
    folder = tmp_path_factory.mktemp("geometry")
    done = {}
    for name, spec in {**AXIAL, "oblique": replace(SPEC, oblique=True)}.items():
        phantom = write_phantom(spec, folder / name)
        done[name] = Ran(
            phantom, folder / f"{name}-out", session.run(phantom / "study", folder / f"{name}-out")
        )
    return done


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, with the hash of what is in it."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_the_tumour_is_found_and_lies_on_one_side(ran: dict[str, Ran]) -> None:
    """What makes the tests below able to fail: a tumour well off the midline, found."""
    axial = ran["axial"]
    findings = axial.result.findings
    assert findings is not None
    truth = mask_on(axial.phantom / "truth" / "tumour.nii.gz", findings.segmentation.geometry)
    middle = centroid(truth, findings.segmentation.geometry.affine)
    head = np.array(facts(axial.phantom)["nasopharynx_lps_mm"])
    assert abs(middle[0] - head[0]) > 3.0
    assert dice(axial.mask, truth) > 0.5


def facts(phantom: Path) -> dict[str, list[float]]:
    import json

    return dict(json.loads((phantom / "truth" / "truth.json").read_text()))


def centroid(mask: NDArray[np.uint8], affine: NDArray[np.float64]) -> NDArray[np.float64]:
    """(3,) LPS mm."""
    z, y, x = np.argwhere(mask).mean(axis=0)
    return np.asarray(affine @ (x, y, z, 1.0))[:3]


@pytest.mark.parametrize("name", ["reversed", "enhanced"])
def test_the_same_mask_voxel_for_voxel(ran: dict[str, Ran], name: str) -> None:
    one, other = ran["axial"], ran[name]
    assert one.result.findings is not None
    assert other.result.findings is not None
    assert one.result.findings.segmentation.geometry.same_grid(other.result.findings.segmentation.geometry)
    np.testing.assert_array_equal(one.mask, other.mask)


def test_oblique_same_side_same_place_same_shape(ran: dict[str, Ran]) -> None:
    axial, oblique = ran["axial"].result.document.tumour, ran["oblique"].result.document.tumour
    assert axial is not None
    assert oblique is not None
    one, other = np.array(axial.centroid_lps_mm), np.array(oblique.centroid_lps_mm)
    midline = facts(ran["axial"].phantom)["nasopharynx_lps_mm"][0]
    assert np.sign(one[0] - midline) == np.sign(other[0] - midline)
    assert np.linalg.norm(one - other) < 2.0
    findings = ran["axial"].result.findings
    assert findings is not None
    brought = mask_on(ran["oblique"].out / "tumour.nii.gz", findings.segmentation.geometry)
    assert dice(ran["axial"].mask, brought) >= 0.85


@pytest.mark.parametrize("name", ["axial", "reversed", "oblique"])
def test_dcm2niix_sees_the_source_where_the_mask_lies(ran: dict[str, Ran], name: str, tmp_path: Path) -> None:
    """The T1 as dcm2niix reads it and tumour.nii.gz span the same box and share their voxels."""
    converter = outside.tool("dcm2niix")
    t1 = next(path for path in (ran[name].phantom / "study").iterdir() if "T1" in described(path))
    subprocess.run(
        [converter, "-o", tmp_path, "-f", "t1", "-z", "n", "-b", "n", t1], check=True, capture_output=True
    )
    source = nibabel.load(next(tmp_path.glob("*.nii")))
    mask = nibabel.load(ran[name].out / "tumour.nii.gz")
    assert sorted(source.shape) == sorted(mask.shape)
    tumour = np.argwhere(np.asarray(mask.dataobj) > 0)
    world = nibabel.affines.apply_affine(mask.affine, tumour)
    there = nibabel.affines.apply_affine(np.linalg.inv(source.affine), world)
    np.testing.assert_allclose(there, np.rint(there), atol=0.02)
    np.testing.assert_allclose(corners(source), corners(mask), atol=0.05)


def described(folder: Path) -> str:
    """SeriesDescription of the first file of a folder."""
    import pydicom

    first = next(path for path in sorted(folder.rglob("*")) if path.is_file())
    return str(pydicom.dcmread(first, stop_before_pixels=True).SeriesDescription)


def corners(image: nibabel.Nifti1Image) -> NDArray[np.float64]:
    """(8, 3) RAS mm, in a fixed order."""
    ends = np.array(np.meshgrid(*([0, n - 1] for n in image.shape))).reshape(3, -1).T
    found = nibabel.affines.apply_affine(image.affine, ends)
    return np.asarray(found[np.lexsort(np.rint(found).T)])


@pytest.mark.parametrize("name", ["axial", "enhanced", "oblique"])
def test_highdicom_reads_the_same_tumour_from_seg_dcm(ran: dict[str, Ran], name: str) -> None:
    seg = hd.seg.segread(ran[name].out / "seg.dcm")
    labels = {n: seg.get_segment_description(n).SegmentLabel for n in seg.segment_numbers}
    numbers = [n for n, label in labels.items() if label.startswith("RESEARCH")]
    assert len(numbers) == 1, labels
    volume = seg.get_volume(segment_numbers=numbers, combine_segments=True)
    mask = nibabel.load(ran[name].out / "tumour.nii.gz")
    ras = nibabel.affines.apply_affine(mask.affine, np.argwhere(np.asarray(mask.dataobj) > 0))
    there = volume.map_reference_to_indices(ras * (-1, -1, 1))
    np.testing.assert_allclose(there, np.rint(there), atol=0.02)
    meant = np.zeros(volume.spatial_shape, dtype=bool)
    meant[tuple(np.rint(there).astype(int).T)] = True
    np.testing.assert_array_equal(volume.array > 0, meant)
    assert meant.any()


@pytest.mark.parametrize("name", list(AXIAL))
def test_the_study_is_never_changed(session: Session, tmp_path: Path, name: str) -> None:
    spec = replace(AXIAL[name], matrix=128)
    study = write_phantom(spec, tmp_path / "phantom") / "study"
    before = contents(study)
    session.run(study, tmp_path / "out")
    assert contents(study) == before


def bit_identical(ran: dict[str, Ran], session: Session, runs: int) -> None:
    reference = ran["axial"]
    for _ in range(runs):
        again = session.run(reference.phantom / "study")
        assert again.findings is not None
        np.testing.assert_array_equal(again.findings.segmentation.tumour, reference.mask)
        np.testing.assert_array_equal(
            again.findings.segmentation.structures, reference.result.findings.segmentation.structures
        )
        assert again.document.detection == reference.result.document.detection


def test_runs_are_bit_identical(ran: dict[str, Ran], session: Session) -> None:
    bit_identical(ran, session, 3)


@pytest.mark.slow
def test_twenty_runs_are_bit_identical(ran: dict[str, Ran], session: Session) -> None:
    bit_identical(ran, session, 20)
