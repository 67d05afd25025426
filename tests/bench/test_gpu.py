"""The GPU suite on the kernels' bodies compiled by g++: every check passes; a wrong result would not."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from outside import tool

from npc_edge.bench import gpu_speed
from npc_edge.bench.gpu_steps import correctness
from npc_edge.bench.gpu_table import passed, table
from npc_edge.bench.kernel_cases import Check
from npc_edge.engine.gpu import find_gpus
from npc_edge.kernels.cuda import host


@pytest.fixture(scope="module")
def launcher(tmp_path_factory: pytest.TempPathFactory) -> host.HostLauncher:
    tool("g++")
    return host.HostLauncher(host.build(tmp_path_factory.mktemp("kernels"), ("-O1",)))


def test_every_kernel_passes_and_every_operation_is_timed(launcher: host.HostLauncher) -> None:
    rows = correctness(launcher)
    assert [row for row in rows if not row["passed"]] == []
    assert {"resample", "statistics", "channel", "gather", "blend", "labels", "threshold"} == {
        row["operation"] for row in rows
    }
    timed = gpu_speed.bandwidth(launcher, (4, 16, 16), repeats=1, copied=2**16)
    assert len(timed) == 11
    assert all(row["ms"] > 0 and np.isfinite(row["gb_s"]) for row in timed)
    spent = gpu_speed.stages(launcher, (4, 24, 24), (3, 8, 8), repeats=1)
    assert list(spent) == ["upload", "prepare", "labels", "home"]
    assert min(spent.values()) > 0
    report = {"device": launcher.device, "steps": {}, "checks": rows, "bandwidth": timed, "stages_ms": spent}
    shown = table(json.loads(json.dumps(report)))
    assert f"{len(rows)} checks, 0 failed" in shown
    assert "| percentiles |" in shown


def test_a_wrong_result_fails_and_so_does_none() -> None:
    assert not Check("labels", "", 1.0, 0.0).passed
    assert not Check("resample", "", float("nan"), 1.0).passed
    failed = {"operation": "blend", "case": "a slab", "error": 2.0, "allowed": 1.0, "passed": False}
    report = {"device": "none", "steps": {}, "checks": [failed]}
    assert "FAILED blend, a slab: 2, allowed 1" in table(report)
    assert not passed(report)


def suite(*options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "npc_edge.bench.gpu", *options]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_json_is_there_when_time_was_too_short_for_any_step(tmp_path: Path) -> None:
    out = tmp_path / "results" / "gpu.json"
    ran = suite("--device", "cpu", "--small", "--limit-s", "1", "--out", str(out))
    assert ran.returncode == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert {step["why"] for step in report["steps"].values()} == {"the 1 s of --limit-s were over"}
    assert "no speed of a GPU" in report["device"]
    assert report["versions"]["onnxruntime"]
    assert "step network: not run" in ran.stdout


def test_only_the_steps_that_are_asked_for_run(tmp_path: Path) -> None:
    out = tmp_path / "gpu.json"
    ran = suite("--device", "cpu", "--small", "--steps", "tensorrt", "--out", str(out))
    assert ran.returncode == 0
    report = json.loads(out.read_text(encoding="utf-8"))
    assert list(report["steps"]) == ["tensorrt"]
    assert report["steps"]["tensorrt"]["status"] == "done"
    assert len(report["tensorrt"]) == 2


@pytest.mark.parametrize(
    ("options", "said"), [(("--steps", "dance"), "no step dance"), (("--device", "gpu"), "no GPU's number")]
)
def test_what_is_not_there_to_choose_is_said(options: tuple[str, ...], said: str) -> None:
    ran = suite("--device", "cpu", *options)
    assert ran.returncode == 2
    assert said in ran.stderr


def test_without_a_gpu_it_says_so_in_one_line(tmp_path: Path) -> None:
    if find_gpus().capabilities:
        pytest.skip("a GPU answers here")
    command = [sys.executable, "-m", "npc_edge.bench", "gpu", "--out", str(tmp_path / "gpu.json")]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 5
    assert ran.stdout == ""
    assert len(ran.stderr.splitlines()) == 1
    assert "needs an NVIDIA GPU" in ran.stderr
    assert list(tmp_path.iterdir()) == []
