"""A study from files to findings with all voxels on a device: the same findings, and nothing left behind.

The device is the processor, running the kernels' bodies; the networks are ONNX Runtime's, on its arrays.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import host_device
import numpy as np
import pytest
import tiny_bundle
from host_device import OnDevice, Watched

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom
from npc_edge.engine import Options, Session, pipeline
from npc_edge.engine.clock import Clock
from npc_edge.engine.device_voxels import DeviceVoxels
from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.starting import Starting
from npc_edge.engine.session import RunResult
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Volume, Watch
from npc_edge.export.pack import pack
from npc_edge.kernels.launch import DeviceArray

STUDIES = {
    "straight": PhantomSpec(stage="T3", seed=41, vendor="siemens", matrix=144, slices=20),
    "oblique": PhantomSpec(stage="T2", seed=43, vendor="ge", matrix=144, slices=20, oblique=True),
}
EXACT = Options(backend="onnxruntime", precision="fp32", record=False)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_device.library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture(scope="module")
def state(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("state") / "s"


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("studies")
    return {name: write_phantom(spec, folder / name) / "study" for name, spec in STUDIES.items()}


@pytest.fixture(scope="module")
def launcher(library: Path) -> Watched:
    return Watched(library)


@pytest.fixture(scope="module")
def session(state: Path, launcher: Watched) -> Iterator[Session]:
    with Session(options=replace(EXACT, state=state), launcher=launcher) as opened:
        yield opened


@pytest.fixture(scope="module")
def both(session: Session, state: Path, studies: dict[str, Path], launcher: Watched) -> dict[str, Any]:
    """Every study on the device, one after the other, then on the processor; memory held in between."""
    found, held = {}, []
    for name, study in studies.items():
        found[name] = session.run(study)
        gc.collect()
        held.append(launcher.held_bytes)
    with Session(options=replace(EXACT, state=state)) as plain:
        wanted = {name: plain.run(study) for name, study in studies.items()}
    return {"found": found, "wanted": wanted, "held": held, "home": list(launcher.home)}


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_ends_in_the_same_findings(both: dict[str, Any], name: str) -> None:
    found: RunResult = both["found"][name]
    wanted: RunResult = both["wanted"][name]
    assert (found.outcome, wanted.outcome) == ("result", "result")
    assert found.findings is not None
    assert wanted.findings is not None
    here, there = found.findings.detection, wanted.findings.detection
    assert here is not None
    assert there is not None
    assert here.finding == there.finding == "suspicious"
    assert here.probability == pytest.approx(there.probability, abs=1e-4)
    assert found.findings.staging == wanted.findings.staging
    masks, others = found.findings.segmentation, wanted.findings.segmentation
    near = np.abs(others.tumour_probability - 0.6) < 1e-5  # the demo bundle's threshold
    assert not ((masks.tumour != others.tumour) & ~near).any()
    assert (masks.structures != others.structures).sum() <= 5, "where two logits lie within rounding"
    np.testing.assert_array_equal(masks.covered, others.covered)
    np.testing.assert_allclose(masks.tumour_probability, others.tumour_probability, atol=1e-4, rtol=0)


def test_what_ran_where_is_in_the_result_and_in_its_identity(both: dict[str, Any]) -> None:
    found, wanted = (both[kind]["straight"].document.runtime for kind in ("found", "wanted"))
    assert (found.voxels, wanted.voxels) == ("cpu (processor, 1 threads)", "cpu")
    assert found.fingerprint != wanted.fingerprint
    assert {name: plan.partition(" MB, ")[2] for name, plan in wanted.memory_plan.items()} == {
        "locator": "",
        "npc": "",
    }
    assert all("on the GPU" in plan for plan in found.memory_plan.values())


def test_only_labels_and_small_things_come_home(both: dict[str, Any]) -> None:
    """Of the network's 25 maps and of its input nothing; a study's two arrays on the source grid."""
    window = 32 * 144 * 144
    large = [(shape, kind) for shape, kind in both["home"] if np.prod(shape, dtype=int) > 32 * 40 * 40]
    assert [kind for _, kind in large] == [np.float32, np.uint8] * len(STUDIES)
    assert all(np.prod(shape) < window for shape, _ in large)


def test_memory_is_given_back_after_every_study(
    both: dict[str, Any], session: Session, studies: dict[str, Path], launcher: Watched
) -> None:
    assert both["held"] == [0] * len(STUDIES)
    late = session.run(studies["straight"], deadline_s=1e-6)
    assert [reason.code for reason in late.document.reasons] == ["DEADLINE"]
    gc.collect()
    assert launcher.held_bytes == 0


def test_a_network_by_itself_takes_arrays_and_leaves_them_there(session: Session, launcher: Watched) -> None:
    image = np.random.default_rng(0).random((1, 2, 32, 40, 40), dtype=np.float32)
    wanted = session.infer("locator", image)
    up = launcher.empty(image.shape, np.float32)
    launcher.copy_in(up, image)
    interface = {"shape": image.shape, "typestr": "<f4", "data": (up.pointer, False), "version": 3}
    for given in (up, SimpleNamespace(__cuda_array_interface__=interface)):
        found = session.infer("locator", given)
        assert set(found) == set(wanted) == {"heatmap"}
        for name, array in found.items():
            assert isinstance(array, DeviceArray)
            np.testing.assert_array_equal(launcher.copy_out(array), wanted[name])
    for network, wrong, why in (("other", image, "no network other"), ("npc", "image", "cannot be taken")):
        with pytest.raises(UsageError, match=why):
            session.infer(network, wrong)


# --- a small bundle of many windows, whose networks take several at once ---

SHAPE = (20, 40, 44)


@pytest.fixture(scope="module")
def windowed(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tiny_bundle.write_parts(tmp_path_factory.mktemp("windowed") / "bundle")
    made = tiny_bundle.manifest()
    pack(root, {**made, "networks": [{**made["networks"][1], "region": "whole"}]}, None)
    return load(root, allow_unsigned=True)


def npc(inputs):  # type: ignore[no-untyped-def]
    """What `tiny_bundle.npc` computes."""
    first, second = inputs["image"][:, :1], inputs["image"][:, 1:2]
    anatomy = second * np.arange(3, dtype=np.float32)[None, :, None, None, None]
    return {"tumour": first - 0.5, "anatomy": anatomy, "detection": first.mean(axis=(2, 3, 4))}


def findings_of(bundle: Bundle, launcher: Watched, runner: Runner) -> Any:
    rng = np.random.default_rng(5)
    grid = Geometry.centred((0, 0, 0), (1.7, 1.6, 3.9), SHAPE)
    volumes = {name: Volume(rng.gamma(2.0, 50.0, SHAPE).astype(np.float32), grid) for name in ("t1", "t2")}
    kit = pipeline.Kit(bundle, Reader(), {"npc": runner}, Options(), str, {"npc": DeviceVoxels(launcher)})
    return pipeline.answer(volumes, kit, Clock(Watch()))[1]


def answered(bundle: Bundle, launcher: Watched) -> tuple[list[int], Any]:
    """How many windows went through together, and the findings."""
    runner = OnDevice(launcher, npc, at_once=8)
    findings = findings_of(bundle, launcher, runner)
    return runner.seen, findings


def test_fewer_windows_go_together_before_memory_runs_out(windowed: Bundle, library: Path) -> None:
    plenty, findings = answered(windowed, Watched(library, memory_mb=1000))
    assert max(plenty) == 8
    few, others = answered(windowed, Watched(library, memory_mb=6))
    assert max(few) in (1, 2, 4)
    assert sum(few) == sum(plenty)
    np.testing.assert_array_equal(others.segmentation.tumour, findings.segmentation.tumour)
    assert findings.segmentation.tumour.any()
    with pytest.raises(Refusal) as caught:
        answered(windowed, Watched(library, memory_mb=1.5))
    assert caught.value.code == "TOO_LARGE"


def test_nothing_goes_up_while_a_runner_starts_on_the_same_stream(windowed: Bundle, library: Path) -> None:
    launcher = Watched(library)

    class Slow(OnDevice):
        def __enter__(self) -> Slow:
            time.sleep(0.3)
            self.before = len(launcher.up)
            return self

    runner = Slow(launcher, npc)
    with Starting() as starting:
        findings_of(windowed, launcher, starting.start(lambda: runner))
    assert runner.before == 0
    assert len(launcher.up) > 2 * SHAPE[0]
