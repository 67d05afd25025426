import numpy as np
import pytest

from npc_edge.bench.phantom.acquire import (
    Imperfections,
    acquire,
    acquired_grid,
    add_rician,
    bias_field,
    integrate_slices,
    nearest_labels,
    slice_profile,
    suppression_failure,
    texture,
    through_kspace,
)
from npc_edge.bench.phantom.protocol import rotation
from npc_edge.engine.geometry import Geometry

HEAD = Geometry.centred([0, 0, 0], (1, 1, 1.5), (60, 96, 90))
PERFECT = Imperfections(noise=0, bias=0, motion=0, ringing=0)


def centroid(volume: np.ndarray, geometry: Geometry) -> np.ndarray:
    z, y, x = np.indices(volume.shape)
    index = np.stack([x, y, z], axis=-1).reshape(-1, 3)
    weights = np.where(volume > 0.05 * volume.max(), volume, 0).ravel()
    return np.average(geometry.to_world(index), axis=0, weights=weights)


def ball(centre: tuple[float, float, float], radius: float) -> np.ndarray:
    z, y, x = np.indices(HEAD.shape)
    world = HEAD.to_world(np.stack([x, y, z], axis=-1).reshape(-1, 3))
    return (np.linalg.norm(world - centre, axis=1) < radius).reshape(HEAD.shape).astype(np.float32)


@pytest.mark.parametrize("resolution", [0.7, 1.3])
def test_a_ball_is_found_where_it_lies_through_an_oblique_zero_filled_series(resolution: float) -> None:
    centre = (12.0, -9.0, 6.0)
    affine = np.eye(4)
    affine[:3, :3] = rotation(15, -6, 4) * [0.6, 0.6, 4.0]
    affine[:3, 3] = np.array([2, 1, 0]) - affine[:3, :3] @ [64, 64, 9]
    target = Geometry((19, 128, 128), affine)
    image = acquire(ball(centre, 12), HEAD, target, 3.5, resolution, np.random.default_rng(0), PERFECT)
    assert image.shape == target.shape
    assert np.linalg.norm(centroid(image, target) - centre) < 0.35
    volume = float(image.sum()) * target.voxel_mm3
    assert volume == pytest.approx(float(ball(centre, 12).sum()) * HEAD.voxel_mm3, rel=0.03)


def test_intensities_survive_a_perfect_scanner() -> None:
    target = Geometry.centred([0, 0, 0], (0.5, 0.5, 4), (5, 128, 128))
    flat = np.full(HEAD.shape, 3.0, dtype=np.float32)
    image = acquire(flat, HEAD, target, 4, 1.0, np.random.default_rng(0), PERFECT)
    np.testing.assert_allclose(image[1:4, 20:-20, 20:-20], 3.0, rtol=1e-3)


def test_a_slice_is_as_thick_as_it_says_whatever_the_spacing() -> None:
    offsets, weights = np.array(slice_profile(4.0)).T
    assert weights.sum() == pytest.approx(1)
    assert np.ptp(offsets) > 4
    inside = np.abs(offsets) < 2
    assert weights[inside].sum() > 0.85
    # an edge that fills half of a slice gives half of the signal, and a gap's content none
    edge = np.zeros(HEAD.shape, dtype=np.float32)
    edge[30:] = 1.0
    step_mm = float(HEAD.to_world([[0, 0, 29.5]])[0, 2])
    for spacing in (4.0, 6.0):
        target = Geometry.centred([0, 0, step_mm], (1, 1, spacing), (3, 40, 40))
        below, at, above = integrate_slices(edge, HEAD, target, 4.0)[:, 20, 20]
        assert at == pytest.approx(0.5, abs=0.02)
        assert below < 0.05
        assert above > 0.95


def test_labels_are_not_blended() -> None:
    labels = np.zeros(HEAD.shape, dtype=np.uint8)
    labels[:, :, 45:] = 20
    target = Geometry.centred([0, 0, 0], (0.6, 0.6, 5), (6, 100, 100))
    seen = nearest_labels(labels, HEAD, target)
    assert seen.dtype == np.uint8
    assert set(np.unique(seen)) == {0, 20}


def test_noise_is_rician() -> None:
    rng = np.random.default_rng(3)
    background = add_rician(np.zeros((40, 100, 100), dtype=np.float32), 2.0, rng)
    assert background.mean() == pytest.approx(2.0 * np.sqrt(np.pi / 2), rel=0.01)
    bright = add_rician(np.full((40, 100, 100), 100, dtype=np.float32), 2.0, rng)
    assert bright.std() == pytest.approx(2.0, rel=0.02)


def test_motion_ghosts_run_along_the_phase_direction_alone() -> None:
    volume = np.zeros((1, 96, 96), dtype=np.float32)
    volume[:, 40:56, 40:56] = 1
    for axis in (0, 1):
        flaws = Imperfections(noise=0, bias=0, ringing=0, phase_axis=axis)
        still = through_kspace(volume, (96, 96), np.random.default_rng(1), flaws=flaws)
        moved = through_kspace(volume, (96, 96), np.random.default_rng(1), flaws=flaws, motion_px=1.5)
        change = np.abs(moved - still)[0]
        along = change[:30, 40:56] if axis == 0 else change[40:56, :30]
        across = change[40:56, :30] if axis == 0 else change[:30, 40:56]
        assert along.mean() > 10 * across.mean()


def test_zero_filling_keeps_values_and_shape() -> None:
    rng = np.random.default_rng(0)
    smooth = bias_field((2, 48, 40), rng, 0.3)
    larger = through_kspace(smooth, (96, 120), rng, flaws=Imperfections(noise=0, bias=0, ringing=1))
    assert larger.shape == (2, 96, 120)
    np.testing.assert_allclose(larger[:, 16:-16:2, 15:-15:3], smooth[:, 8:-8, 5:-5], rtol=0.03)


def test_fields_are_smooth_seeded_and_in_range() -> None:
    shape = (12, 60, 50)
    bias = bias_field(shape, np.random.default_rng(5), 0.3)
    np.testing.assert_array_equal(bias, bias_field(shape, np.random.default_rng(5), 0.3))
    assert bias.min() > 0.2
    assert bias.max() / bias.min() > 1.2
    assert np.abs(np.diff(bias, axis=1)).max() < 0.1
    failures = [suppression_failure(shape, np.random.default_rng(seed)) for seed in range(20)]
    assert any(failure.any() for failure in failures)
    assert all(failure.min() >= 0 and failure.max() <= 1 for failure in failures)
    grain = texture(HEAD, np.random.default_rng(0), 0.05)
    assert grain.shape == HEAD.shape
    assert grain.mean() == pytest.approx(1, abs=0.01)
    assert 0.02 < grain.std() < 0.08


def test_the_acquired_grid_covers_the_same_field_of_view() -> None:
    target = Geometry.centred([1, 2, 3], (0.45, 0.45, 4), (6, 512, 512))
    coarse = acquired_grid(target, 0.8)
    assert coarse.shape == (6, 288, 288)
    np.testing.assert_allclose(coarse.origin, target.origin)
    np.testing.assert_allclose(np.array(coarse.spacing[:2]) * 288, 0.45 * 512)
