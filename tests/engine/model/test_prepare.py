"""The network's input: which grid, which channel where, what lies outside the volume."""

import numpy as np
import pytest

from npc_edge.engine.errors import Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.prepare import grid, prepare
from npc_edge.engine.types import Volume
from npc_edge.kernels import reference
from npc_edge.kernels.intensity import normalise


def spec(**changes: object) -> NetworkSpec:
    base = {
        "name": "n",
        "region": "whole",
        "inputs": ("t1", "t2"),
        "spacing": (4.0, 2.0, 1.0),
        "window": (8, 12, 20),
        "normalisation": {"method": "percentile", "lower": 1.0, "upper": 99.0},
        "outputs": [{"name": "tumour", "kind": "tumour"}],
        "artefacts": [{"precision": "fp32", "file": "n.onnx"}],
    }
    return NetworkSpec.model_validate({**base, **changes})


def volume(shape: tuple[int, int, int], spacing: tuple[float, float, float], seed: int = 0) -> Volume:
    voxels = np.random.default_rng(seed).uniform(10, 300, shape).astype(np.float32)
    return Volume(voxels, Geometry.from_parts(shape, spacing, (-11.0, 7.0, 3.0), frame_of_reference="1.2.3"))


def test_around_a_point_the_window_is_centred_on_it() -> None:
    target = grid(volume((5, 9, 9), (1, 1, 1)).geometry, spec(), np.array([5.0, -6.0, 7.0]))
    assert target.shape == (8, 12, 20)
    assert target.spacing == (1.0, 2.0, 4.0)
    np.testing.assert_allclose(target.centre, [5, -6, 7])
    np.testing.assert_array_equal(target.direction, np.eye(3))
    assert target.frame_of_reference == "1.2.3"


def test_a_whole_grid_is_one_window_about_a_volume_that_fits() -> None:
    reference_grid = volume((16, 24, 20), (1, 1, 1)).geometry
    target = grid(reference_grid, spec(), None)
    assert target.shape == (8, 12, 20)
    np.testing.assert_allclose(target.centre, reference_grid.centre)


@pytest.mark.parametrize("resampling", ["linear", "linear-unsmoothed", "bspline"])
def test_only_linear_resampling_smooths(resampling: str) -> None:
    fine = volume((32, 24, 20), (1.0, 1.0, 1.0))
    network = spec(inputs=("t1",), resampling=resampling)
    made = prepare({"t1": fine}, network, None, "t1")
    values = reference.resample(
        fine.voxels,
        fine.geometry.affine,
        made.geometry.affine,
        made.geometry.shape,
        anti_alias=resampling == "linear",
        interpolation="bspline" if resampling == "bspline" else "linear",
    )
    expected = normalise(values.astype(np.float32), "percentile", 1.0, 99.0)
    np.testing.assert_allclose(made.array[0, 0], expected, atol=1e-4)


def test_a_whole_grid_grows_to_cover_a_larger_volume() -> None:
    reference_grid = volume((20, 30, 41), (3, 2, 2)).geometry
    target = grid(reference_grid, spec(), None)
    # 40 mm at 4 mm, 60 mm at 2 mm, 123 mm at 1 mm; half a voxel may stick out on each side.
    assert target.shape == (9, 29, 122)
    low, high = target.corners().min(axis=0), target.corners().max(axis=0)
    spacing = np.array(target.spacing)
    assert (reference_grid.corners().min(axis=0) >= low - spacing / 2 - 1e-6).all()
    assert (reference_grid.corners().max(axis=0) <= high + spacing / 2 + 1e-6).all()


def test_a_tilted_volume_is_covered_too() -> None:
    angle = np.radians(20)
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    tilted = Geometry.from_parts((20, 30, 41), (2, 2, 3), (5, 6, 7), turn)
    target = grid(tilted, spec(), None)
    inside = target.to_index(tilted.corners())
    assert (inside >= -1.001).all()
    assert (inside <= np.array(target.shape[::-1]) + 0.001).all()


def test_channels_are_resampled_and_normalised_in_the_networks_order() -> None:
    volumes = {"t1": volume((9, 30, 33), (0.8, 0.9, 4.4), 1), "t2": volume((11, 21, 23), (1.1, 1.2, 3.3), 2)}
    network = spec(inputs=("t2", "t1"))
    made = prepare(volumes, network, np.array([-8.0, 18.0, 28.0]), "t1")
    assert made.array.shape == (1, 2, 8, 12, 20)
    assert made.array.dtype == np.float32
    for channel, name in enumerate(("t2", "t1")):
        source = volumes[name]
        there = made.geometry
        values = reference.resample(source.voxels, source.geometry.affine, there.affine, there.shape)
        z, y, x = np.meshgrid(*[np.arange(n) for n in there.shape], indexing="ij")
        points = np.stack([x, y, z], axis=-1).reshape(-1, 3)
        index = source.geometry.to_index(there.to_world(points))[:, ::-1].reshape(*there.shape, 3)
        inside = ((index >= -0.5) & (index <= np.array(source.geometry.shape) - 0.5)).all(axis=-1)
        assert 0 < inside.sum() < inside.size
        expected = normalise(values, "percentile", 1, 99, 0.1, inside)
        np.testing.assert_allclose(made.array[0, channel], expected, atol=1e-4)
        assert np.abs(made.array[0, channel][~inside]).max() == 0


def test_splines_do_not_smooth() -> None:
    fine = volume((16, 60, 60), (0.4, 0.5, 2.0))
    centre = fine.geometry.centre
    made = prepare({"t1": fine}, spec(inputs=("t1",), resampling="bspline"), centre, "t1")
    there = made.geometry
    values = reference.resample(
        fine.voxels,
        fine.geometry.affine,
        there.affine,
        there.shape,
        anti_alias=False,
        interpolation="bspline",
    )
    np.testing.assert_allclose(made.array[0, 0], normalise(values, "percentile", 1, 99), atol=1e-4)


def test_a_volume_elsewhere_is_all_zero() -> None:
    made = prepare({"t1": volume((9, 9, 9), (1, 1, 1))}, spec(inputs=("t1",)), np.full(3, 900.0), "t1")
    assert np.abs(made.array).max() == 0


def test_values_that_are_not_finite_are_refused() -> None:
    bad = volume((9, 9, 9), (1, 1, 1))
    bad.voxels[4, 4, 4] = np.nan
    with pytest.raises(Refusal) as caught:
        prepare({"t1": bad}, spec(inputs=("t1",)), None, "t1")
    assert caught.value.code == "UNREADABLE"


def test_a_field_of_view_beyond_all_measure_is_refused() -> None:
    vast = Volume(
        np.ones((2, 2, 2), dtype=np.float32), Geometry.from_parts((2, 2, 2), (900, 900, 900), (0, 0, 0))
    )
    with pytest.raises(Refusal) as caught:
        prepare({"t1": vast}, spec(inputs=("t1",), spacing=(1.0, 1.0, 1.0)), None, "t1")
    assert caught.value.code == "TOO_LARGE"
