"""Voxel operations run where the networks do; where they do not, a line says why."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import host_device
import numpy as np
import pytest
import tiny_bundle
from host_device import Watched

from npc_edge.engine.device_voxels import DeviceVoxels
from npc_edge.engine.errors import BackendError, UsageError
from npc_edge.engine.gpu import find_gpus
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.choice import Choice
from npc_edge.engine.model.runners.devices import Gpu
from npc_edge.engine.model.runners.pairs import REFERENCE, Pair
from npc_edge.engine.placing import place, wanted_device
from npc_edge.engine.types import Options
from npc_edge.engine.voxel_check import difference
from npc_edge.engine.voxels import HOST
from npc_edge.export.pack import pack
from npc_edge.kernels.launch import LaunchError

GPU = Gpu(1, "sm86", "a card", "13.0", 8000.0)
CUDA = Pair("fp32", "onnxruntime-cuda", "fp32")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tiny_bundle.write_parts(tmp_path_factory.mktemp("made") / "bundle")
    pack(root, tiny_bundle.manifest(), None)
    return load(root, allow_unsigned=True)


class OnGpu(Watched):
    """The host's memory as a GPU's."""

    place = "cuda:1"


class Broken(OnGpu):
    """One kernel does nothing, or is refused."""

    kernel, refused = "npc_blend_f32", False

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        if kernel != self.kernel:
            super().launch(kernel, arguments, work)
        elif self.refused:
            raise LaunchError(f"{kernel} was not launched")


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return host_device.library(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def memory(library: Path) -> OnGpu:
    return OnGpu(library)


def choices(locator: Pair, npc: Pair) -> list[Choice]:
    return [Choice("locator", locator), Choice("npc", npc)]


def test_on_the_processor_there_is_nothing_to_say(bundle: Bundle) -> None:
    placed = place(bundle, choices(REFERENCE, REFERENCE), GPU, None)
    assert (placed.voxels, placed.launcher, placed.notes) == ({}, None, ())


def test_each_network_has_the_operations_of_its_own_device(bundle: Bundle, memory: OnGpu) -> None:
    placed = place(bundle, choices(REFERENCE, CUDA), GPU, memory)
    assert set(placed.voxels) == {"npc"}
    assert placed.launcher is memory
    (note,) = placed.notes
    assert note == (
        "network locator and the voxel operations around it run on the processor: "
        "onnxruntime fp32 takes no arrays on cuda:1"
    )
    placed = place(bundle, choices(CUDA, CUDA), GPU, memory)
    assert placed.voxels["npc"] is placed.voxels["locator"], "volumes go up once"
    assert placed.notes == ()


def test_without_a_launcher_s_library_or_gpu_a_line_says_so(bundle: Bundle) -> None:
    if find_gpus().capabilities:
        pytest.skip("a GPU answers here")
    placed = place(bundle, choices(CUDA, CUDA), GPU, None)
    assert placed.voxels == {}
    (note,) = placed.notes
    assert note.startswith("the voxel operations run on the processor: ")
    assert "\n" not in note


def test_an_nnunet_keeps_its_own_on_the_processor_and_says_so(bundle: Bundle, memory: OnGpu) -> None:
    networks = tuple(n.model_copy(update={"nnunet": object()}) for n in bundle.manifest.networks)
    folds = replace(bundle, manifest=bundle.manifest.model_copy(update={"networks": networks}))
    placed = place(folds, choices(CUDA, CUDA), GPU, memory)
    assert (placed.voxels, placed.launcher) == ({}, memory)
    assert "nnU-Net" in placed.notes[0]


def test_a_launcher_says_which_device(memory: OnGpu) -> None:
    assert wanted_device(Options(), None) == Options()
    assert wanted_device(Options(), memory).device == "cuda:1"
    assert wanted_device(Options(device="cuda:1"), memory).device == "cuda:1"
    with pytest.raises(UsageError, match="works on cuda:1, the options say cpu"):
        wanted_device(Options(device="cpu"), memory)


@pytest.mark.parametrize(
    ("kernel", "what"),
    [
        ("npc_resample_smooth_f32", "volumes prepared"),
        ("npc_gather_f32", "windows put together"),
        ("npc_blend_f32", "windows put together"),
        ("npc_threshold_f32", "a probability"),
        ("npc_margin_f32", "a probability"),
        ("npc_winner_f32", "labels"),
    ],
)
def test_a_device_that_computes_otherwise_is_not_used(
    bundle: Bundle, library: Path, kernel: str, what: str
) -> None:
    memory = Broken(library)
    memory.kernel = kernel
    with pytest.raises(BackendError, match=rf"cannot run on cuda:1 .* they differ: {what}"):
        place(bundle, choices(CUDA, CUDA), GPU, memory)
    memory.refused = True
    assert difference(DeviceVoxels(memory)).startswith(f"the voxel operations failed: {kernel} was not")


def test_a_device_that_computes_the_same_is(memory: OnGpu) -> None:
    assert difference(HOST) == ""
    assert difference(DeviceVoxels(memory)) == ""
    assert memory.held_bytes == 0
