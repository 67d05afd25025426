"""The TensorRT runner as far as it goes without a GPU: shapes, order and errors on a module of values, and
the real TensorRT-RTX up to the place where it wants a driver."""

from pathlib import Path
from threading import Event

import fake_tensorrt as fake
import names
import numpy as np
import pytest
import tiny_qdq

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.gpu import Gpus, find_gpus
from npc_edge.engine.model.acceptance import Trial
from npc_edge.engine.model.building import Builds
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.runners.devices import Gpu, gpu_for, vendor_engine
from npc_edge.engine.model.runners.engine_cache import EngineCache
from npc_edge.engine.model.runners.pairs import Pair
from npc_edge.engine.model.runners.site_engine import build_here, open_engine
from npc_edge.engine.model.runners.tensorrt import Engine, TensorRtRunner
from npc_edge.engine.model.runners.tensorrt_build import TensorRt, load_tensorrt
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack
from npc_edge.kernels.launch import DeviceArray

GPU = Gpu(1, "sm86", "a card", "13.0", 8000.0)
IMAGE = np.random.default_rng(0).random(fake.SHAPE, dtype=np.float32)
RTX = Pair("fp16", "tensorrt-rtx", "fp16")
NO_GPU = pytest.mark.skipif(bool(find_gpus().capabilities), reason="there is a GPU")


def runner(plan: bytes = b"a plan", rtx: bool = True, **kept: object) -> tuple[TensorRtRunner, list[str]]:
    """A runner over values, and what happens to its GPU."""
    log: list[str] = []

    def opened(number: int) -> fake.HostMemory:
        memory = fake.HostMemory(number)
        log.extend(memory.log)
        memory.log = log
        return memory

    trt = TensorRt(fake.module(rtx), "tensorrt-rtx" if rtx else "tensorrt", "9.9")
    engine = Engine(lambda: plan, "npc.engine", "fp16", **kept)  # type: ignore[arg-type]
    return TensorRtRunner(engine, trt, GPU, opened), log


class Kept:
    """A store of compiled kernels."""

    def __init__(self, held: bytes = b"") -> None:
        self.held = held

    def load(self) -> bytes:
        return self.held

    def save(self, blob: bytes) -> None:
        self.held = blob


@pytest.mark.parametrize("rtx", [True, False])
def test_inputs_go_up_and_outputs_come_home(rtx: bool) -> None:
    made, log = runner(rtx=rtx)
    with made:
        info = made.describe()
        for scale in (1, 3):
            outputs = made.infer({"image": scale * IMAGE})
            assert list(outputs) == ["map"]
            assert outputs["map"].dtype == np.float32
            np.testing.assert_array_equal(outputs["map"], (2 * scale * IMAGE).astype(np.float16))
    assert (info.backend, info.device, info.isa) == ("tensorrt-rtx" if rtx else "tensorrt", "cuda:1", "sm86")
    assert (info.precision, info.version, info.artefact) == ("fp16", "9.9", "npc.engine")
    run = ["upload", "download"]
    first = ["upload", "wait"] if rtx else ["upload", "wait", "capture"]  # RTX captures by itself
    assert log == ["open 1", *first, *run, *run, "wait"]


def test_what_is_on_the_gpu_stays_there() -> None:
    made, log = runner()
    with made:
        held = np.ascontiguousarray(IMAGE)
        lent = DeviceArray(held.ctypes.data, held.shape, held.dtype)
        left = made.infer_on_device({"image": lent})["map"]
        assert (left.shape, left.dtype) == (fake.SHAPE, np.float16)
        found = fake.view(left.pointer, fake.SHAPE, np.float16)
        np.testing.assert_array_equal(found, (2 * IMAGE).astype(np.float16))
        assert log == ["open 1", "upload", "wait", "copy"]
        for wrong in (
            {"picture": lent},
            {},
            {"image": DeviceArray(lent.pointer, (1, 2), lent.dtype)},
            {"image": DeviceArray(lent.pointer, lent.shape, np.dtype(np.float16))},
        ):
            with pytest.raises(BundleError):
                made.infer_on_device(wrong)


def test_compiled_kernels_are_kept_for_the_next_process() -> None:
    kept = Kept()
    made, _ = runner(kernels=kept)
    with made:
        assert kept.held == fake.KERNELS


@pytest.mark.parametrize(
    ("plan", "why"),
    [(b"bad", "it was built for another GPU"), (b"full", "no room"), (b"busy", "could not be queued")],
    ids=str,
)
def test_what_fails_on_a_gpu_is_one_line_and_gives_its_memory_back(plan: bytes, why: str) -> None:
    made, log = runner(plan)
    with pytest.raises(BackendError, match=why) as caught, made:
        pass
    assert "\n" not in caught.value.one_line()
    assert log[-1] == "wait"


@pytest.mark.parametrize("inputs", [{}, {"image": IMAGE[:, :1]}, {"picture": IMAGE}], ids=range(3))
def test_inputs_the_engine_does_not_take_are_a_bundle_error(inputs: dict[str, np.ndarray]) -> None:
    made, _ = runner()
    with made, pytest.raises(BundleError):
        made.infer(inputs)


def test_a_closed_runner_says_so() -> None:
    made, _ = runner()
    with made:
        pass
    with pytest.raises(BackendError, match="not open"):
        made.infer({"image": IMAGE})


@NO_GPU
def test_without_a_gpu_it_is_one_clear_line() -> None:
    trt = TensorRt(fake.module(rtx=True), "tensorrt-rtx", "9.9")
    with pytest.raises(BackendError, match="there is no GPU cuda:0 here") as caught:
        TensorRtRunner(Engine(lambda: b"a plan", "n", "fp16"), trt, Gpu(0, "sm86", "", "")).__enter__()
    assert (caught.value.exit_code, caught.value.hint) == (5, "use --device cpu")


def test_devices_are_those_of_the_driver() -> None:
    two = Gpus(("sm86", "sm120"), "", ("one", "other"), (8e3, 9e3), "13.0")
    first, second = gpu_for(Options(), None, two), gpu_for(Options(device="cuda:1"), None, two)
    assert first is not None
    assert second is not None
    assert (first.device, first.capability, second.device, second.machine) == (
        *("cuda:0", "sm86", "cuda:1"),
        "other, CUDA 13.0",
    )
    assert gpu_for(Options(device="cpu"), None, two) is None
    none = Gpus((), "no driver")
    assert gpu_for(Options(), None, none) is None
    for device, gpus, why in (
        ("cuda:0", none, "no driver"),
        ("cuda:2", two, "2 of them"),
        ("gpu", two, "gpu"),
    ):
        with pytest.raises(BackendError, match=why) as caught:
            gpu_for(Options(device=device), None, gpus)
        assert caught.value.hint


def bundled(folder: Path):  # type: ignore[no-untyped-def]
    root = tiny_qdq.write_parts(folder / "bundle", ("fp32", "fp16"))
    rows = {"fp16": [("onnxruntime", "fp16", "avx2")]}
    pack(root, tiny_qdq.manifest(("fp32", "fp16"), rows), None)
    return load(root, allow_unsigned=True)


def test_all_that_is_asked_of_tensorrt_is_there() -> None:
    """It was never run: at least every name exists."""
    trt = pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    owners = {
        "module": trt,
        "runtime": trt.Runtime,
        "engine": trt.ICudaEngine,
        "context": trt.IExecutionContext,
        "config": trt.IRuntimeConfig,
        "cache": trt.IRuntimeCache,
    }
    source = Path(__file__).parents[4] / "engine" / "model" / "runners" / "tensorrt.py"
    assert {variable for variable, _ in names.asked(source, owners)} == set(owners)
    assert names.absent(source, owners) == []


@NO_GPU
def test_the_real_runtime_builds_here_keeps_it_and_stops_where_a_driver_is_wanted(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    made = bundled(tmp_path)
    gpu = Gpu(0, "sm86", "a card", "13.0", 8000.0, tmp_path / "engines")
    told: list[float] = []
    build_here(made, "npc", RTX, gpu, lambda fraction: told.append(fraction) is None)
    assert told == sorted(told)
    plan = EngineCache(gpu.engines or tmp_path).read(gpu.engine_key(made, "npc", RTX))
    assert plan is not None
    with pytest.raises(BackendError, match="there is no GPU cuda:0 here"):
        open_engine(made, "npc", RTX, gpu).__enter__()
    again = EngineCache(gpu.engines or tmp_path).read(gpu.engine_key(made, "npc", RTX))
    assert again == plan, "found, not built again"


def test_a_build_that_is_stopped_leaves_nothing(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    gpu = Gpu(0, "sm86", "a card", "13.0", 8000.0, tmp_path / "engines")
    with pytest.raises(BundleError, match="cannot build"):
        build_here(bundled(tmp_path), "npc", RTX, gpu, lambda fraction: False)
    assert not (tmp_path / "engines").exists()


@NO_GPU
def test_a_built_engine_that_cannot_run_here_is_never_remembered_as_one(tmp_path: Path) -> None:
    made = bundled(tmp_path)
    gpu = Gpu(0, "sm86", "a card", "13.0", 8000.0, tmp_path / "engines")
    trial = Trial.of(made, "npc", 1, "avx2", gpu)
    remembered, shown = Remembered(tmp_path), []

    def build(trial: Trial, pair: Pair, on_progress) -> None:  # type: ignore[no-untyped-def]
        assert on_progress(0.5)
        EngineCache(tmp_path / "engines").publish(gpu.engine_key(made, "npc", pair), b"a plan")

    with Builds(remembered, build) as builds:
        builds.start(trial, RTX)
        found = builds.finish(lambda what, fraction: shown.append((what, fraction)))
    assert [(one.network, one.pair) for one in found] == [("npc", RTX)]
    assert found[0].status in ("skipped", "failed")
    assert found[0].why
    assert Remembered(tmp_path).rows == ()


def test_a_build_that_goes_on_when_the_session_ends_is_told_to_stop(tmp_path: Path) -> None:
    began, stopped = Event(), Event()

    def build(trial: Trial, pair: Pair, on_progress) -> None:  # type: ignore[no-untyped-def]
        began.set()
        while on_progress(0.1):
            pass
        stopped.set()
        raise BackendError("stopped")

    trial = Trial.of(bundled(tmp_path), "npc", 1, "avx2", GPU)
    with Builds(Remembered(tmp_path), build) as builds:
        builds.start(trial, RTX)
        assert began.wait(10)
    assert stopped.is_set()


def test_the_bundle_s_own_engine_fits_its_runtime_and_its_gpu_alone(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt-rtx is not installed")
    version = load_tensorrt("rtx").version
    root = tiny_qdq.write_parts(tmp_path / "bundle", ("fp32", "fp16"))
    file = f"artefacts/npc.fp16.sm86.tensorrt-rtx-{version}.engine"
    (root / file).write_bytes(b"an engine")
    manifest = tiny_qdq.manifest(("fp32", "fp16"))
    spec = {"runtime": "tensorrt-rtx", "runtime_version": version, "compute_capability": "sm86"}
    engine = {"precision": "fp16", "file": file, "format": "engine", "engine": spec}
    manifest["networks"][0]["artefacts"] = [*manifest["networks"][0]["artefacts"], engine]
    pack(root, manifest, None)
    made = load(root, allow_unsigned=True)
    assert vendor_engine(made, "npc", RTX, "sm86") == file
    assert vendor_engine(made, "npc", RTX, "sm89") is None
    assert vendor_engine(made, "npc", Pair("fp16", "tensorrt", "fp16"), "sm86") is None
    (root / file).write_bytes(b"an enginE")
    with pytest.raises(BundleError, match="not the file its manifest lists"):
        open_engine(made, "npc", RTX, GPU).__enter__()
