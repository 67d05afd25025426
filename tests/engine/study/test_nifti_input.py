"""NIfTI volumes arrive in LPS with slices ascending along row x column, whatever way they were stored."""

from __future__ import annotations

import itertools
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.study.limits import ReadLimits
from npc_edge.engine.study.nifti_input import read_nifti

SHAPE = (9, 10, 11)  # x, y, z


@pytest.mark.parametrize("signs", list(itertools.product((1, -1), repeat=3)))
def test_every_voxel_stays_where_it_was(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    """Written by nibabel in RAS with any axis flipped."""
    data = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
    affine = np.diag([0.5 * signs[0], 0.6 * signs[1], 3.0 * signs[2], 1.0])
    affine[:3, 3] = (3.0, -7.0, 11.0)
    nibabel.save(nibabel.Nifti1Image(data, affine), tmp_path / "x.nii.gz")
    volume = read_nifti({"t1": tmp_path / "x.nii.gz"})["t1"]
    assert np.linalg.det(volume.geometry.affine[:3, :3]) > 0
    assert volume.geometry.spacing == pytest.approx((0.5, 0.6, 3.0))
    stored = volume.stored
    assert stored is not None
    assert stored.spacing == tuple(float(np.float32(s)) for s in (3.0, 0.6, 0.5))
    lies = volume.voxels[::-1] if stored.turned else volume.voxels
    np.testing.assert_array_equal(lies, data.T)
    for x, y, z in ((0, 0, 0), (8, 9, 10), (2, 5, 7)):
        right, anterior, superior = (affine @ (x, y, z, 1))[:3]
        i, j, k = np.rint(volume.geometry.to_index([[-right, -anterior, superior]])[0]).astype(int)
        assert volume.voxels[k, j, i] == data[x, y, z]


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        read_nifti({"t1": tmp_path / "x.nii.gz"})


def test_bytes_that_are_no_nifti(tmp_path: Path) -> None:
    (tmp_path / "x.nii.gz").write_bytes(b"hello")
    with pytest.raises(Refusal) as refused:
        read_nifti({"t1": tmp_path / "x.nii.gz"})
    assert refused.value.code == "UNREADABLE"


@pytest.mark.parametrize(
    ("code", "voxels"),
    [
        ("UNREADABLE", np.zeros((4, 5, 6, 7), np.float32)),
        ("TOO_FEW_SLICES", np.zeros((1, 5, 6), np.float32)),
        ("TOO_LARGE", np.zeros((40, 50, 60), np.float32)),
    ],
)
def test_what_is_no_volume(tmp_path: Path, code: str, voxels: np.ndarray) -> None:  # type: ignore[type-arg]
    sitk.WriteImage(sitk.GetImageFromArray(voxels, isVector=False), str(tmp_path / "x.nii"))
    with pytest.raises(Refusal) as refused:
        read_nifti({"t1": tmp_path / "x.nii"}, ReadLimits(max_voxels=10_000))
    assert refused.value.code == code
