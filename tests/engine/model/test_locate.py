"""Locating: a head can lie anywhere in the field of view, and the point must come out in its place."""

import numpy as np
import pytest
import tiny_bundle
from signed import Signed

from npc_edge.engine.errors import BackendError
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.locate import locate, peak
from npc_edge.engine.model.manifest import Manifest, NetworkSpec
from npc_edge.engine.model.runner import FakeRunner
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.types import Options, Volume, Watch

NETWORK: NetworkSpec = Manifest.model_validate(
    {
        **tiny_bundle.manifest(),
        "files": dict.fromkeys(["artefacts/locator.fp32.onnx", "artefacts/npc.fp32.onnx"], "0" * 64),
    }
).networks[0]


def head(point: tuple[float, float, float], geometry: Geometry) -> dict[str, Volume]:
    """T1 of noise, T2 with a bright blob (sigma 10 mm) about a point."""
    rng = np.random.default_rng(0)
    noise = rng.uniform(10, 30, geometry.shape).astype(np.float32)
    z, y, x = np.meshgrid(*[np.arange(n) for n in geometry.shape], indexing="ij")
    world = geometry.to_world(np.stack([x, y, z], axis=-1).reshape(-1, 3))
    distance2 = ((world - np.array(point)) ** 2).sum(axis=1).reshape(geometry.shape)
    blob = 600 * np.exp(-distance2 / (2 * 10**2))
    return {
        "t1": Volume(noise, geometry),
        "t2": Volume((noise + blob).astype(np.float32), geometry),
    }


def turned(degrees: float) -> np.ndarray:
    a = np.radians(degrees)
    return np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])


@pytest.mark.parametrize("degrees", [0, 15])
@pytest.mark.parametrize("offset", [(0, 0, 0), (20, -18, 9), (-22, 25, -12)])
def test_the_point_is_found_through_the_real_runner(
    made: Signed, degrees: float, offset: tuple[float, float, float]
) -> None:
    geometry = Geometry.from_parts((22, 44, 42), (2, 2, 3), (-31, 12, -200), turned(degrees))
    point = tuple(geometry.centre + np.array(offset))
    with open_runner(made.load(), "locator", Options(threads=1)) as runner:
        region = locate(head(point, geometry), NETWORK, runner, Watch(), "t1")
    # This network points at one voxel of 12 mm: the nearest.
    assert np.abs(region.centre - point).max() < 6.1
    assert region.confidence > 0.8


def test_a_field_of_view_larger_than_the_window_is_searched_in_windows(made: Signed) -> None:
    geometry = Geometry.from_parts((40, 60, 60), (4, 4, 4), (-120, -120, -80))
    for point in ((-95.0, -90.0, -50.0), (90.0, 85.0, 50.0)):
        with open_runner(made.load(), "locator", Options(threads=1)) as runner:
            region = locate(head(point, geometry), NETWORK, runner, Watch(), "t1")
        assert np.abs(region.centre - point).max() < 6.1


def test_the_mode_is_refined_below_a_voxel() -> None:
    z, y, x = np.meshgrid(*[np.arange(n) for n in (9, 11, 13)], indexing="ij")
    distance2 = ((z - 4.3) * 8) ** 2 + ((y - 5.6) * 8) ** 2 + ((x - 7.2) * 8) ** 2
    index, confidence = peak((-distance2 / (2 * 5.0**2)).astype(np.float32), (8, 8, 8))
    assert np.abs(index - [4.3, 5.6, 7.2]).max() < 0.12
    assert confidence > 0.9


def test_confidence_is_the_share_near_the_mode() -> None:
    logits = np.full((9, 9, 40), -100, dtype=np.float32)
    logits[4, 4, 5] = np.log(0.7)
    logits[4, 4, 35] = np.log(0.3)
    index, confidence = peak(logits, (8, 8, 8))
    assert index.tolist() == pytest.approx([4, 4, 5])
    assert confidence == pytest.approx(0.7, abs=1e-6)
    _, unsure = peak(np.zeros((20, 20, 20), dtype=np.float32), (8, 8, 8))
    assert unsure < 0.01


def test_a_heatmap_that_is_not_finite_has_no_mode() -> None:
    bad = np.full((1, 1, *tiny_bundle.LOCATOR_WINDOW), np.nan, dtype=np.float32)
    volumes = head((0, 0, 0), Geometry.centred((0, 0, 0), (4, 4, 4), (12, 12, 12)))
    with pytest.raises(BackendError, match="finite"):
        locate(volumes, NETWORK, FakeRunner(lambda _: {"heatmap": bad}), Watch(), "t1")
