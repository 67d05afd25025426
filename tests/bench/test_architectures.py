"""The bench of architectures at tiny sizes: each step in a process of its own, and a table of the results."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from npc_edge.bench.architecture_steps import KINDS, PUBLISHED, SMALL, STEPS, pink_noise, smooth_noise
from npc_edge.bench.architectures_table import markdown
from npc_edge.export.architectures import ARCHITECTURES


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], str]:
    """The JSON and what was printed, of the detector, tiny."""
    out = tmp_path_factory.mktemp("bench") / "found.json"
    command = [sys.executable, "-m", "npc_edge.bench", "architectures", "--only", "detector", "--small"]
    ran = subprocess.run(
        [*command, "--windows", "2", "--out", str(out)], capture_output=True, text=True, check=True
    )
    report: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
    return report, ran.stdout


def test_every_step_leaves_its_numbers(measured: tuple[dict[str, Any], str]) -> None:
    report, _ = measured
    found = report["architectures"]["detector"]
    assert report["weights"] == "random"
    assert found["export"]["exporter"] == "dynamo"
    assert found["export"]["rewritten"] is None
    assert all(0 < error < 1e-5 for error in found["export"]["float64"].values())
    assert {ran["relative_error"] <= report["fp32_limit"] for ran in found["fp32"]["ran"].values()} == {True}
    assert 0 < found["fp16"]["ran"]["fp16 as stored"]["relative_error"] < 1e-2
    assert 0 < found["fp16"]["islands"] < found["fp16"]["nodes"]
    assert len(found["int8"]["ran"]) == 3
    for ran in found["int8"]["ran"].values():
        assert found["fp16"]["ran"]["fp16 as stored"]["relative_error"] < ran["relative_error"] < 0.2
    assert all(found[step]["peak_mb"] > 50 and found[step]["seconds"] >= 0 for step in STEPS)


def test_tensorrt_rtx_builds_or_is_skipped_by_name(measured: tuple[dict[str, Any], str]) -> None:
    report, _ = measured
    rtx = report["architectures"]["detector"]["rtx"]
    if report["libraries"]["tensorrt_rtx"] is None:
        assert rtx["skipped"] == "tensorrt-rtx is not installed"
    else:
        built = {
            (p, t) for p, targets in rtx["built"].items() for t, one in targets.items() if "seconds" in one
        }
        assert {precision for precision, _ in built} == {"fp32", "fp16", "int8-s8s8"}


def test_the_table_says_what_the_json_says(measured: tuple[dict[str, Any], str]) -> None:
    report, printed = measured
    assert printed.strip() == markdown(report["architectures"])
    rows = {line.split(" | ")[0].strip("| "): line for line in printed.splitlines()}
    ran = report["architectures"]["detector"]["int8"]["ran"]["int8-u8s8 on openvino"]
    assert list(ran["by_kind"]) == list(KINDS)
    assert max(ran["by_kind"].values()) == max(ran["by_window"]) == ran["relative_error"]
    assert len(ran["by_window"]) == 4
    for error in ran["by_kind"].values():
        assert f"{error:.1e}" in rows["int8-u8s8 on openvino"]
    assert {line.count("|") for line in printed.splitlines()} == {3}


def test_what_failed_stands_in_the_table() -> None:
    done = {"seconds": 1.0, "peak_mb": 2.0}
    found = {
        **{"window": [8, 8, 8], "export": {"failed": "no way out"}, "rewrite": {"failed": "not there"}},
        **{"fp32": {"ran": {"fp32 on onnxruntime": {"failed": "too large"}}, **done}},
        **{"fp16": {"failed": "its process ended with -9"}, "int8": {"failed": "not there"}},
        "rtx": {"built": {"fp32": {"sm80": {"failed": "operator Roll"}, "sm86": {"megabytes": 3.5}}}, **done},
    }
    found["fp32"]["ran"]["fp32 on openvino"] = {"by_kind": {"smooth": 0.5, "1/f": 0.25}, "dice": 0.25}  # type: ignore[index]
    lines = markdown({"mine": found}).splitlines()
    assert "| exporter | no way out |" in lines
    assert "| fp32 on onnxruntime | too large |" in lines
    assert "| fp32 on openvino | 5.0e-01 / 2.5e-01, Dice 0.2500 |" in lines
    assert "| fp16 as stored | its process ended with -9 |" in lines
    assert "| TensorRT-RTX, fp32 | sm86: 3.5-3.5 MB; sm80: operator Roll |" in lines


def test_both_of_the_registry_are_measured_at_their_published_size() -> None:
    assert set(PUBLISHED) == set(SMALL) == set(ARCHITECTURES)
    configuration, _ = ARCHITECTURES["detector"]
    assert configuration(**PUBLISHED["detector"].configuration) == configuration()
    assert PUBLISHED["detector"].window == configuration().window
    assert ARCHITECTURES["swin_unetr"][0](**PUBLISHED["swin_unetr"].configuration).feature_size == 48


@pytest.mark.parametrize("make", [smooth_noise, pink_noise])
def test_noise_is_smooth_and_the_same_whenever_it_is_asked_for(make: Callable[..., dict[str, Any]]) -> None:
    one, other = (make((16, 16, 24), index)["image"] for index in (0, 1))
    assert one.shape == (1, 2, 16, 16, 24)
    assert (one == make((16, 16, 24), 0)["image"]).all()
    assert not (one == other).any()
    assert one.std() == pytest.approx(1, abs=1e-3)
    rough = abs(one[..., 1:] - one[..., :-1]).mean()
    assert rough < (0.3 if make is smooth_noise else 0.9)  # white noise: 1.13


def test_pink_noise_has_structure_at_every_scale() -> None:
    """As much power in each octave of frequencies, within what chance does."""
    power = np.abs(np.fft.rfftn(pink_noise((32, 32, 32), 0)["image"][0, 0])) ** 2
    z, y, x = np.fft.fftfreq(32), np.fft.fftfreq(32), np.fft.rfftfreq(32)
    frequency = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    means = [
        float(power[(frequency > low) & (frequency <= 2 * low)].mean() * low**2) for low in (0.06, 0.12, 0.24)
    ]
    assert max(means) < 2 * min(means)
