"""The operations on a device give what the processor's give, and keep to its memory."""

from __future__ import annotations

import gc
from pathlib import Path
from threading import Event

import fake_tensorrt as fake
import host_device
import numpy as np
import pytest
import tiny_qdq
from grids import CASES
from host_device import OnDevice, Watched

from npc_edge.engine.device_voxels import DeviceVoxels
from npc_edge.engine.errors import BackendError, Cancelled, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.prepare import prepare
from npc_edge.engine.model.runner import FakeRunner
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.tensorrt import Engine, TensorRtRunner
from npc_edge.engine.model.runners.tensorrt_build import TensorRt
from npc_edge.engine.model.sliding_window import infer
from npc_edge.engine.types import ModelInput, Volume, Watch
from npc_edge.engine.voxels import HOST, Tiles
from npc_edge.kernels.cuda.arguments import FOUND
from npc_edge.kernels.guarded import Guarded

WINDOW = (4, 6, 8)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_device.library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def launcher(library: Path) -> Watched:
    return Watched(library)


def network(**changes: object) -> NetworkSpec:
    base: dict[str, object] = {
        "name": "n",
        "region": "whole",
        "inputs": ("t1", "t2"),
        "spacing": (3.0, 1.2, 1.1),
        "window": WINDOW,
        "normalisation": {"method": "percentile", "lower": 1.0, "upper": 99.0},
        "outputs": [{"name": "map", "kind": "segmentation"}, {"name": "score", "kind": "detection"}],
        "artefacts": [{"precision": "fp32", "file": "n.onnx"}],
    }
    return NetworkSpec.model_validate(base | changes)


def volumes(name: str) -> dict[str, Volume]:
    rng = np.random.default_rng(3)
    affine, shape = CASES[name]
    return {
        sequence: Volume(rng.gamma(2.0, 100.0, shape).astype(np.float32), Geometry(shape, affine))
        for sequence in ("t1", "t2")
    }


@pytest.mark.parametrize("name", ["aligned", "reversed", "sagittal", "tilted", "one slice"])
@pytest.mark.parametrize("resampling", ["linear", "linear-unsmoothed", "bspline"])
def test_the_input_is_the_processor_s(launcher: Watched, name: str, resampling: str) -> None:
    given, spec = volumes(name), network(resampling=resampling)
    wanted = prepare(given, spec, None, "t1").array
    guarded = Guarded(launcher)
    voxels = DeviceVoxels(guarded)
    with voxels.holding(given.values()):
        got = voxels.host(prepare(given, spec, None, "t1", voxels).array)
    guarded.check_guards()
    # Grids that drift by 1e-4 voxels are aligned for the processor; the rest is docs/kernels.md.
    np.testing.assert_allclose(got, wanted, atol=1e-4 if resampling == "bspline" else 3e-5, rtol=0)
    np.testing.assert_array_equal(got == 0, wanted == 0)


@pytest.mark.parametrize("method", ["zscore", "zscore-nonzero"])
def test_so_are_other_normalisations(launcher: Watched, method: str) -> None:
    given, spec = volumes("tilted"), network(normalisation={"method": method})
    voxels = DeviceVoxels(launcher)
    got = voxels.host(prepare(given, spec, None, "t1", voxels).array)
    np.testing.assert_allclose(got, prepare(given, spec, None, "t1").array, atol=3e-5, rtol=0)


def test_a_volume_goes_up_once_and_only_a_verdict_comes_home(launcher: Watched) -> None:
    given, voxels = volumes("tilted"), DeviceVoxels(launcher)
    with voxels.holding(given.values()):
        before = list(launcher.up)
        for spec in (network(), network(window=(6, 6, 8))):
            prepare(given, spec, None, "t1", voxels)
        slices = [shape for shape, _ in launcher.up if shape[1:] == given["t1"].voxels.shape[1:]]
        assert len(slices) == 2 * given["t1"].voxels.shape[0]
        assert set(slices) == {(1, *given["t1"].voxels.shape[1:])}
        assert [shape for shape, _ in before if shape in slices] == slices, "all went up at the beginning"
    assert {kind for _, kind in launcher.home} == {FOUND}


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("place", [(3, 20, 20), (6, 40, 38)], ids=["seen", "beyond the grid"])
def test_a_voxel_that_is_not_finite_is_refused(launcher: Watched, value: float, place: object) -> None:
    given, voxels = volumes("tilted"), DeviceVoxels(launcher)
    given["t2"].voxels[place] = value  # type: ignore[index]
    centre = given["t1"].geometry.centre
    for operations in (HOST, voxels):
        with operations.holding(given.values()), pytest.raises(Refusal, match="sequence t2") as caught:
            prepare(given, network(region="around:a.b"), centre, "t1", operations)
        assert caught.value.code == "UNREADABLE"
        del caught
    gc.collect()
    assert launcher.held_bytes == 0


def seeing(inputs):  # type: ignore[no-untyped-def]
    """A network whose answer depends on where its window lies."""
    image = inputs["image"]
    slope = np.linspace(0, 1, WINDOW[2], dtype=np.float32)
    maps = np.concatenate([image[:, :1] + slope, image[:, 1:2] * 3, 1 - image[:, :1]], axis=1)
    return {"map": maps, "score": image[:, 0].max(axis=(1, 2, 3))[:, None]}


@pytest.mark.parametrize("shape", [WINDOW, (5, 6, 8), (4, 15, 9), (17, 13, 21)])
@pytest.mark.parametrize(("overlap", "at_once"), [(0.5, 1), (0.5, 5), (0.7, 4), (0.0, 2)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_windows_blend_as_on_the_processor(
    launcher: Watched, shape: tuple[int, int, int], overlap: float, at_once: int, dtype: type
) -> None:
    spec = network(overlap=overlap)
    array = np.random.default_rng(1).random((1, 2, *shape), dtype=np.float32)
    geometry = Geometry.from_parts(shape, (1, 1, 1), (0, 0, 0))
    wanted = infer(FakeRunner(seeing), ModelInput(array, geometry), spec, Watch(), at_once=at_once).outputs
    guarded = Guarded(launcher)
    voxels, runner, told = DeviceVoxels(guarded), OnDevice(guarded, seeing, dtype), []
    image = guarded.empty(array.shape, np.float32)
    guarded.copy_in(image, array)
    seen = infer(
        runner,
        ModelInput(image, geometry),
        spec,
        Watch(),
        lambda done, total: told.append((done, total)),
        at_once,
        voxels,
    ).outputs
    count = len(Tiles.over(shape, spec).corners)
    assert told == [(n, count) for n in range(1, count + 1)]
    assert sum(runner.seen) == count
    guarded.check_guards()
    assert isinstance(seen["score"], np.ndarray)
    tolerance = 3e-6 if dtype is np.float32 else 2e-3  # half an ulp of float16 at 4
    np.testing.assert_allclose(seen["score"], wanted["score"], atol=tolerance)
    np.testing.assert_allclose(voxels.host(seen["map"]), wanted["map"], atol=tolerance)


def test_tensorrt_s_runner_and_the_operations_share_memory_and_stream(library: Path) -> None:
    """Its half-precision maps of 27 windows, blended: twice the image, as its fake engine computes."""

    class Shared(Watched):
        handle = 77  # what the fake engine wants to be queued on

    launcher = Shared(library)
    window, shape = fake.SHAPE[2:], (5, 7, 9)
    outputs = [{"name": "map", "kind": "segmentation"}]
    spec = network(window=window, outputs=outputs)
    array = np.random.default_rng(1).random((1, 2, *shape), dtype=np.float32)
    image = launcher.empty(array.shape, np.float32)
    launcher.copy_in(image, array)
    given = ModelInput(image, Geometry.from_parts(shape, (1, 1, 1), (0, 0, 0)))
    gpu = Gpu(0, "sm86", "a card", "13.0", 8000.0, launcher=launcher)
    engine, trt = Engine(lambda: b"a plan", "n", "fp16"), TensorRt(fake.module(True), "tensorrt-rtx", "9")
    voxels = DeviceVoxels(launcher)
    with TensorRtRunner(engine, trt, gpu) as runner:
        found = infer(runner, given, spec, Watch(), voxels=voxels).outputs["map"]
    assert len(Tiles.over(shape, spec).corners) == 27
    gc.collect()
    assert launcher.held_bytes == image.nbytes + found.nbytes, "the runner gave its buffers back"
    np.testing.assert_allclose(voxels.host(found), 2 * array, atol=1e-3)  # half an ulp of float16 below 2


def test_no_more_windows_are_kept_than_a_slice_needs() -> None:
    tiles = Tiles.over((40, 12, 16), network())
    assert tiles.layer == 3 * 3
    assert 2 <= tiles.deep <= 3
    assert Tiles.over((40, 12, 16), network(overlap=0.0)).deep == 1
    assert Tiles.over(WINDOW, network()).deep == 1
    for low in range(40):
        cover = [k for k, start in enumerate(tiles.starts[0]) if start <= low < start + WINDOW[0]]
        assert max(cover) - min(cover) < tiles.deep


GRID = Geometry.centred((1.0, -2.0, 3.0), (2.0, 2.0, 3.0), (7, 12, 14))
TILTED = Geometry((9, 30, 28), np.array(CASES["tilted"][0]))


@pytest.mark.parametrize("target", [GRID, TILTED], ids=["the same grid", "another"])
def test_labels_and_probabilities_are_the_processor_s(launcher: Watched, target: Geometry) -> None:
    rng = np.random.default_rng(8)
    logits = rng.normal(size=(1, 5, *GRID.shape)).astype(np.float32) * 4
    logits[0, :, 2] = np.rint(logits[0, :, 2])  # ties
    voxels = DeviceVoxels(launcher)
    up = launcher.empty(logits.shape, np.float32)
    launcher.copy_in(up, logits)
    labels = HOST.labels(logits, GRID, target), voxels.labels(up, GRID, target)
    assert (labels[0] != labels[1]).sum() <= (0 if target is GRID else 2), "ties between voxels at most"
    for code in (0, 3):
        one = HOST.margin(logits, code), voxels.margin(up, code)
        np.testing.assert_allclose(voxels.host(one[1]), one[0], atol=2e-5)
        likely = HOST.probability(one[0], GRID, target), voxels.probability(one[1], GRID, target)
        np.testing.assert_allclose(likely[1], likely[0], atol=3e-6)
    assert voxels.finite(up)
    assert voxels.finite(np.zeros(2))
    launcher.copy_in(up, np.where(logits == logits.max(), np.float32(np.nan), logits))
    assert not voxels.finite(up)


def test_a_run_can_be_cancelled_between_windows_and_leaves_no_memory(launcher: Watched) -> None:
    cancel, calls = Event(), []

    def stopping(inputs):  # type: ignore[no-untyped-def]
        calls.append(1)
        if len(calls) == 3:
            cancel.set()
        return seeing(inputs)

    given, voxels, spec = volumes("aligned"), DeviceVoxels(launcher), network()
    runner = OnDevice(launcher, stopping)
    with voxels.holding(given.values()):
        made = prepare(given, spec, None, "t1", voxels)
        assert len(Tiles.over(made.geometry.shape, spec).corners) > 5
        assert launcher.held_bytes > 0
        with pytest.raises(Cancelled):
            infer(runner, made, spec, Watch(cancel=cancel), voxels=voxels)
    assert len(calls) == 3
    del made, runner
    gc.collect()
    assert launcher.held_bytes == 0


def test_what_a_device_refuses_is_one_line(library: Path) -> None:
    voxels = DeviceVoxels(Watched(library, memory_mb=0.01))
    assert voxels.free_mb() == pytest.approx(0.01)
    with (
        pytest.raises(BackendError, match=r"no memory for .* are free") as caught,
        voxels.holding(volumes("aligned").values()),
    ):
        pass
    assert caught.value.hint == "run it with --device cpu"


def test_arrays_stay_on_their_side(launcher: Watched) -> None:
    voxels, array = DeviceVoxels(launcher), tiny_qdq.image()
    up = launcher.empty(array.shape, np.float32)
    with pytest.raises(BackendError, match="array on the host was given to a device"):
        voxels.host(array)
    with pytest.raises(BackendError, match="array on a device was given to the processor"):
        HOST.host(up)
    with pytest.raises(BackendError, match="fake takes no arrays on a device"):
        voxels.run(FakeRunner(seeing), up)
    assert (HOST.describe(), voxels.describe()) == ("cpu", "cpu (processor, 1 threads)")
