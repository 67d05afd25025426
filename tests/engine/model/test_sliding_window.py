"""Windows: every voxel covered, what blends must blend, and the watch is asked."""

import time
from threading import Event

import numpy as np
import pytest

from npc_edge.engine.errors import BundleError, Cancelled, DeadlineExceeded
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.runner import FakeRunner
from npc_edge.engine.model.sliding_window import infer, windows
from npc_edge.engine.types import ModelInput, Watch

NETWORK = NetworkSpec.model_validate(
    {
        "name": "n",
        "region": "whole",
        "inputs": ("t1",),
        "spacing": (1.0, 1.0, 1.0),
        "window": (4, 6, 8),
        "normalisation": {"method": "zscore"},
        "outputs": [{"name": "map", "kind": "segmentation"}, {"name": "score", "kind": "detection"}],
        "artefacts": [{"precision": "fp32", "file": "n.onnx"}],
    }
)


def image(shape: tuple[int, int, int]) -> ModelInput:
    array = np.random.default_rng(0).random((1, 1, *shape), dtype=np.float32)
    return ModelInput(array, Geometry.from_parts(shape, (1, 1, 1), (0, 0, 0)))


def local(inputs):
    """A network that looks at one voxel at a time: windows cannot matter."""
    x = inputs["image"]
    return {"map": np.concatenate([x, 1 - x], axis=1), "score": x.max().reshape(1, 1)}


@pytest.mark.parametrize("shape", [(4, 6, 8), (5, 6, 8), (9, 13, 8), (4, 30, 31)])
def test_a_local_network_gives_the_same_in_any_windows(shape: tuple[int, int, int]) -> None:
    given = image(shape)
    seen: list[tuple[int, int]] = []
    made = infer(FakeRunner(local), given, NETWORK, Watch(), lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(made.outputs["map"][:, :1], given.array, atol=1e-6)
    np.testing.assert_allclose(made.outputs["map"][:, 1:], 1 - given.array, atol=1e-6)
    assert made.outputs["score"].item() == given.array.max()
    assert made.geometry is given.geometry
    total = len(list(windows(shape, NETWORK)))
    assert seen == [(n, total) for n in range(1, total + 1)]


def test_where_windows_disagree_the_nearer_one_weighs_more() -> None:
    calls: list[int] = []

    def numbered(inputs):
        calls.append(1)
        shape = inputs["image"].shape
        return {"map": np.full(shape, float(len(calls)), np.float32), "score": np.zeros((1, 1), np.float32)}

    made = infer(FakeRunner(numbered), image((4, 6, 12)), NETWORK, Watch())
    line = made.outputs["map"][0, 0, 2, 3]
    assert len(calls) == 2
    assert line[0] == pytest.approx(1)
    assert line[-1] == pytest.approx(2)
    assert line[5] == pytest.approx(3 - line[6])
    assert (np.diff(line) >= -1e-6).all()


def test_windows_overlap_as_asked_and_stay_inside() -> None:
    boxes = list(windows((4, 6, 25), NETWORK))
    starts = [box[2].start for box in boxes]
    assert starts[0] == 0
    assert boxes[-1][2].stop == 25
    assert max(np.diff(starts)) <= 4
    with pytest.raises(BundleError, match="smaller"):
        list(windows((3, 6, 8), NETWORK))


@pytest.mark.parametrize("shape", [(4, 6, 8), (4, 6, 20)])
def test_the_watch_is_asked_before_each_window(shape: tuple[int, int, int]) -> None:
    with pytest.raises(DeadlineExceeded):
        infer(FakeRunner(local), image(shape), NETWORK, Watch(deadline=time.monotonic() - 1))
    cancel = Event()

    def cancelling(inputs):
        assert not cancel.is_set()
        cancel.set()
        return local(inputs)

    if shape[2] > 8:
        with pytest.raises(Cancelled):
            infer(FakeRunner(cancelling), image(shape), NETWORK, Watch(cancel=cancel))


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"map": np.zeros((1, 2, 4, 6, 8), np.float32)},
        {"map": np.zeros((1, 2, 4, 6, 7), np.float32), "score": np.zeros((1, 1), np.float32)},
        {"map": np.zeros((1, 2, 4, 6, 8), np.float32), "score": np.zeros((1, 2), np.float32)},
        {"map": np.zeros((2, 2, 4, 6, 8), np.float32), "score": np.zeros((1, 1), np.float32)},
        {"map": np.zeros((1, 2), np.float32), "score": np.zeros((1, 1), np.float32)},
    ],
    ids=range(6),
)
def test_outputs_of_another_shape_are_a_bundle_error(outputs) -> None:
    with pytest.raises(BundleError, match="output"):
        infer(FakeRunner(lambda _: outputs), image((4, 6, 8)), NETWORK, Watch())


@pytest.mark.parametrize("at_once", [1, 2, 3, 100])
def test_windows_together_say_what_they_say_one_by_one(at_once: int) -> None:
    given, sizes = image((9, 13, 20)), []

    def together(inputs):
        x = inputs["image"]
        sizes.append(len(x))
        return {"map": np.concatenate([x, 1 - x], axis=1), "score": x.max(axis=(1, 2, 3, 4)).reshape(-1, 1)}

    alone = infer(FakeRunner(together), given, NETWORK, Watch())
    sizes.clear()
    seen: list[int] = []
    made = infer(
        FakeRunner(together), given, NETWORK, Watch(), lambda done, _: seen.append(done), at_once=at_once
    )
    for name, values in alone.outputs.items():
        np.testing.assert_array_equal(made.outputs[name], values)
    total = len(list(windows((9, 13, 20), NETWORK)))
    assert sum(sizes) == total
    assert max(sizes) == min(at_once, total)
    assert seen == list(range(1, total + 1))


def test_a_runner_that_drops_a_window_of_several_is_a_bundle_error() -> None:
    def first_only(inputs):
        return local({"image": inputs["image"][:1]})

    with pytest.raises(BundleError, match="shape"):
        infer(FakeRunner(first_only), image((4, 6, 20)), NETWORK, Watch(), at_once=2)
