"""The plan fits what is free, takes fewer windows before it refuses, and says what it is."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import tiny_qdq

from npc_edge.engine.errors import Refusal
from npc_edge.engine.machine import available_memory_mb, cpu_model, waited_ms
from npc_edge.engine.model import memory
from npc_edge.engine.model.manifest import Manifest, NetworkSpec
from npc_edge.engine.model.memory import Room, plan
from npc_edge.engine.model.sliding_window import windows
from npc_edge.engine.types import RunnerInfo

GRID = (60, 200, 200)
CPU = RunnerInfo("openvino", "cpu", "fp32", "npc.fp32.onnx", "1")
CUDA = RunnerInfo("onnxruntime-cuda", "cuda:0", "fp16", "npc.fp16.onnx", "1")


def manifest() -> Manifest:
    made = tiny_qdq.manifest()
    label = {"structure": "clivus", "side": "midline", "colour": [1, 2, 3]}
    labels = [{**label, "code": code, "name": f"n{code}"} for code in (1, 2)]
    networks: list[dict[str, Any]] = [{**made["networks"][0], "window": (20, 64, 64)}]
    files = {artefact["file"]: "0" * 64 for artefact in networks[0]["artefacts"]}
    return Manifest.model_validate({**made, "labels": labels, "networks": networks, "files": files})


def network() -> NetworkSpec:
    return manifest().networks[0]


def planned(free: Room, runner: RunnerInfo = CPU, wanted: int = 1) -> memory.MemoryPlan:
    return plan(network(), manifest(), GRID, runner, free, wanted)


def test_what_the_engine_holds_is_counted_exactly() -> None:
    made = planned(Room(None))
    assert made.windows == len(list(windows(GRID, network())))
    assert memory.channels(network(), manifest()) == 3
    grid, window = 60 * 200 * 200, 20 * 64 * 64
    held = 4 * grid * (2 + 3 + 1) + 4 * window * (2 + 2 * 3)
    assert made.host_mb == pytest.approx((held + 640 * window) / 1e6, abs=0.1)
    assert made.device_mb == 0
    assert made.sentence() == f"{made.windows} windows, 1 at once: {made.host_mb:.0f} MB"


def test_fewer_windows_at_once_before_nothing_at_all() -> None:
    most = planned(Room(1e6, 1e6), CUDA, 8)
    assert (most.at_once, most.wanted) == (8, 8)
    taken = []
    for share in (0.999, 0.85, 0.7):
        made = planned(Room(1e6, share * most.device_mb / 0.9), CUDA, 8)
        taken.append(made.at_once)
        assert made.device_mb <= share * most.device_mb
        assert f"{made.at_once} at once instead of 8" in made.sentence()
    assert taken == sorted(taken, reverse=True)
    assert taken[0] < 8
    with pytest.raises(Refusal) as caught:
        planned(Room(1e6, 100.0), CUDA, 8)
    assert caught.value.code == "TOO_LARGE"


def test_what_does_not_fit_is_refused_and_what_just_fits_is_not() -> None:
    needed = planned(Room(None)).host_mb
    assert planned(Room(needed / 0.9 + 1)).at_once == 1
    with pytest.raises(Refusal, match=r"network npc needs about \d+ MB") as caught:
        planned(Room(needed / 0.9 - 1))
    assert (caught.value.code, bool(caught.value.hint)) == ("TOO_LARGE", True)


def test_no_more_windows_together_than_there_are() -> None:
    made = plan(network(), manifest(), network().window, CUDA, Room(1e6, 1e6), 8)
    assert (made.windows, made.at_once) == (1, 1)


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_this_machine_says_what_is_free() -> None:
    free = available_memory_mb()
    assert free is not None
    assert 0 < free < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e6
    assert cpu_model()


def test_a_control_group_limits_what_the_machine_has(tmp_path: Path) -> None:
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc/meminfo").write_text("MemTotal: 9000000 kB\nMemAvailable:    8000000 kB\n")
    assert available_memory_mb(tmp_path) == pytest.approx(8192, rel=1e-3)
    group = tmp_path / "sys/fs/cgroup"
    group.mkdir(parents=True)
    (group / "memory.max").write_text("max\n")
    (group / "memory.current").write_text("1000000\n")
    assert available_memory_mb(tmp_path) == pytest.approx(8192, rel=1e-3)
    (group / "memory.max").write_text("501000000\n")
    assert available_memory_mb(tmp_path) == pytest.approx(500)
    assert available_memory_mb(tmp_path / "nothing") is None


def test_a_processor_without_a_name_is_named_by_its_kind(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor\t: 0\nmodel name\t: A B C\n")
    assert cpu_model(tmp_path / "cpuinfo") == "A B C"
    assert cpu_model(tmp_path / "absent")


def test_waiting_for_a_core_is_added_up_over_threads(tmp_path: Path) -> None:
    for thread, text in (("1", "5 2000000 9"), ("2", "5 3000000 9")):
        (tmp_path / thread).mkdir()
        (tmp_path / thread / "schedstat").write_text(text)
    assert waited_ms(tmp_path) == 5
    (tmp_path / "3").mkdir()
    assert waited_ms(tmp_path) is None
