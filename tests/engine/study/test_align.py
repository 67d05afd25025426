"""Sequences that lie right stay; moved a little, they are brought back; too far, they are refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.study.align import align, block_means, overlap
from npc_edge.engine.types import QualityCheck, Volume

Floats = NDArray[np.float64]
GRID = Geometry.centred((0.0, 0.0, 0.0), (2.0, 2.0, 4.0), (28, 104, 96))


def turn(degrees: float, shift: tuple[float, float, float]) -> Floats:
    """A motion of the head: a nod about x, then a shift (LPS mm)."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    matrix = np.eye(4)
    matrix[1:3, 1:3] = [[c, -s], [s, c]]
    matrix[:3, 3] = shift
    return matrix


def head(contrast: dict[str, float], geometry: Geometry = GRID, noise: float = 0.02, seed: int = 1) -> Volume:
    """A lopsided head of ellipsoids seen on `geometry`, each tissue with the brightness `contrast` names."""
    z, y, x = geometry.shape
    index = np.stack(np.meshgrid(np.arange(x), np.arange(y), np.arange(z), indexing="ij"), axis=-1)
    world = geometry.to_world(index.reshape(-1, 3)).reshape(x, y, z, 3).transpose(2, 1, 0, 3)
    voxels = np.zeros(geometry.shape)
    for tissue, centre, radii in (
        ("fat", (0, 0, 0), (80, 95, 90)),
        ("muscle", (0, 2, 0), (72, 86, 84)),
        ("brain", (0, 15, 60), (62, 60, 45)),
        ("bone", (0, 10, -5), (14, 12, 25)),
        ("air", (4, -30, -8), (16, 22, 18)),
        ("fluid", (30, -35, 5), (13, 16, 15)),
        ("node", (-38, 30, -30), (9, 10, 14)),
    ):
        inside = (((world - centre) / radii) ** 2).sum(axis=-1) < 1
        voxels[inside] = contrast[tissue]
    voxels += noise * np.random.default_rng(seed).normal(size=voxels.shape)
    return Volume(voxels=np.abs(voxels).astype(np.float32) * 1000, geometry=geometry)


T1 = {"fat": 1.0, "muscle": 0.4, "brain": 0.5, "bone": 0.8, "air": 0.0, "fluid": 0.2, "node": 0.4}
T2 = {"fat": 0.8, "muscle": 0.25, "brain": 0.6, "bone": 0.5, "air": 0.0, "fluid": 1.0, "node": 0.7}
T2FS = {**T2, "fat": 0.1, "bone": 0.15}


def moved(volume: Volume, motion: Floats) -> Volume:
    """The same voxels with headers that place them wrongly by `motion`."""
    return replace(volume, geometry=replace(volume.geometry, affine=motion @ volume.geometry.affine))


def aligned(t2: Volume) -> tuple[Volume, QualityCheck]:
    out, checks = align({"t1": head(T1), "t2": t2}, "t1")
    assert [c.check for c in checks] == ["alignment"]
    assert np.array_equal(out["t1"].geometry.affine, GRID.affine)
    return out["t2"], checks[0]


def error_mm(found: Volume, true: Volume) -> float:
    return float(np.linalg.norm(found.geometry.corners() - true.geometry.corners(), axis=1).max())


@pytest.mark.parametrize("contrast", [T2, T2FS], ids=["T2", "T2FS"])
def test_what_lies_right_is_left_untouched(contrast: dict[str, float]) -> None:
    given = head(contrast, seed=2)
    found, check = aligned(given)
    assert found is given
    assert check.passed


def test_a_small_motion_is_left_untouched() -> None:
    given = moved(head(T2, seed=2), turn(0.2, (0.5, -0.4, 0.5)))
    assert aligned(given)[0] is given


@pytest.mark.parametrize("contrast", [T2, T2FS], ids=["T2", "T2FS"])
@pytest.mark.parametrize(
    ("degrees", "shift"), [(0.0, (9.0, -6.0, 4.0)), (4.0, (2.0, 3.0, -3.0)), (0.0, (0.0, 0.0, 5.0))]
)
def test_a_moderate_motion_is_corrected(
    contrast: dict[str, float], degrees: float, shift: tuple[float, float, float]
) -> None:
    true = head(contrast, seed=2)
    given = moved(true, turn(degrees, shift))
    before = given.geometry.affine.copy()
    found, check = aligned(given)
    assert error_mm(given, true) > 4.5
    assert error_mm(found, true) < 2.5
    assert "registered" in check.detail
    assert np.array_equal(given.geometry.affine, before)
    assert found.voxels is given.voxels


def test_another_plane_and_spacing() -> None:
    direction = np.array([[0, 0, -1.0], [1, 0, 0], [0, -1, 0]])
    coronal = Geometry.from_parts((40, 90, 110), (1.8, 1.9, 4.0), (0, 0, 0), direction)
    coronal = replace(coronal, affine=turn(0, tuple(-coronal.centre)) @ coronal.affine)
    found, check = aligned(head(T2, coronal, seed=2))
    assert error_mm(found, head(T2, coronal, seed=2)) < 2.5
    assert check.passed


@pytest.mark.parametrize(("degrees", "shift"), [(0.0, (0.0, 24.0, 0.0)), (14.0, (0.0, 0.0, 0.0))])
def test_a_large_motion_is_refused(degrees: float, shift: tuple[float, float, float]) -> None:
    with pytest.raises(Refusal) as refused:
        aligned(moved(head(T2, seed=2), turn(degrees, shift)))
    assert refused.value.code == "GEOMETRY_MISMATCH"


def test_no_overlap_is_refused() -> None:
    far = moved(head(T2, seed=2), turn(0, (0, 0, 400.0)))
    assert overlap(GRID, far.geometry) == 0
    with pytest.raises(Refusal) as refused:
        aligned(far)
    assert refused.value.code == "GEOMETRY_MISMATCH"


def test_the_same_bits_every_time() -> None:
    given = moved(head(T2, seed=2), turn(2.0, (3.0, 2.0, -2.0)))
    results = {aligned(given)[0].geometry.affine.tobytes() for _ in range(2)}
    assert len(results) == 1


def test_a_single_sequence_needs_no_check() -> None:
    out, checks = align({"t1": head(T1)}, "t1")
    assert list(out) == ["t1"]
    assert checks == ()


@pytest.mark.parametrize(
    "factors", [(1, 1, 1), (1, 4, 4), (1, 9, 9), (2, 7, 5), (3, 10, 12), (1, 16, 17), (2, 3, 31), (5, 1, 8)]
)
def test_block_means_are_numpys_to_the_bit(factors: tuple[int, int, int]) -> None:
    voxels = np.random.default_rng(2).normal(300, 200, (6, 50, 70)).astype(np.float32)
    z, y, x = (n // f for n, f in zip(voxels.shape, factors, strict=True))
    fz, fy, fx = factors
    blocks = voxels[: z * fz, : y * fy, : x * fx].reshape(z, fz, y, fy, x, fx)
    found = block_means(voxels, factors)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, blocks.mean(axis=(1, 3, 5)))
