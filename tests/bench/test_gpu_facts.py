"""What is told of a GPU: nvidia-smi's words by name, or nothing."""

from pathlib import Path

import numpy as np

from npc_edge.bench import gpu_facts


def program(folder: Path, prints: str, code: int = 0) -> str:
    path = folder / "smi"
    path.write_text(f"#!/bin/sh\ncat <<'END'\n{prints}\nEND\nexit {code}\n", encoding="ascii")
    path.chmod(0o755)
    return str(path)


def test_a_line_of_nvidia_smi_becomes_names_and_values(tmp_path: Path) -> None:
    line = "NVIDIA H100, 580.1, 81559 MiB, 700.00 W, 70.1 W, 30, P0, 345 MHz, 2619 MHz, 1980 MHz, 2619 MHz"
    said = gpu_facts.smi(0, program(tmp_path, line))
    assert said is not None
    assert said["name"] == "NVIDIA H100"
    assert said["power.limit"] == "700.00 W"
    assert said["clocks.max.mem"] == "2619 MHz"


def test_without_it_or_when_it_fails_there_is_nothing(tmp_path: Path) -> None:
    assert gpu_facts.smi(0, "no-such-smi") is None
    assert gpu_facts.smi(0, program(tmp_path, "NVIDIA-SMI has failed", code=9)) is None
    assert gpu_facts.smi(0, program(tmp_path, "No devices were found")) is None


def test_names_of_files_and_versions() -> None:
    assert gpu_facts.slug("NVIDIA H100 80GB HBM3") == "nvidia-h100-80gb-hbm3"
    assert gpu_facts.slug("") == "gpu"
    held = gpu_facts.versions()
    assert "onnxruntime" in held
    assert np.__version__ not in held  # only what is named, and only what is installed
    assert None not in held.values()
