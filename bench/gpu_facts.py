"""The GPU a number was measured on: what nvidia-smi says of it, and the versions of what ran."""

from __future__ import annotations

import re
import shutil
import subprocess
from typing import Any

from npc_edge.bench.machine import version_of
from npc_edge.engine.gpu import find_gpus

_PACKAGES = (
    "cuda-core",
    "cuda-bindings",
    "nvidia-cuda-nvrtc",
    "nvidia-cuda-runtime",
    "nvidia-cudnn-cu13",
    "nvidia-cudnn-cu12",
    "pycuda",
    "torch",
    "triton",
    "monai",
    "onnx",
    "onnxruntime",
    "onnxruntime-gpu",
    "tensorrt",
    "tensorrt-rtx",
)

_ASKED = (
    "name",
    "driver_version",
    "memory.total",
    "power.limit",
    "power.draw",
    "temperature.gpu",
    "pstate",
    "clocks.sm",
    "clocks.mem",
    "clocks.max.sm",
    "clocks.max.mem",
)


def versions() -> dict[str, str]:
    """Of the packages that are installed; nothing is imported."""
    held = {name: version_of(name) for name in _PACKAGES}
    return {name: version for name, version in held.items() if version is not None}


def gpu(number: int) -> dict[str, Any]:
    """Name, compute capability, memory and CUDA version as the driver gives them."""
    found = find_gpus()
    if number >= len(found.capabilities):
        return {}
    return {
        "name": found.names[number],
        "capability": found.capabilities[number],
        "memory_mb": round(found.memory_mb[number]),
        "cuda_of_driver": found.driver,
    }


def smi(number: int, program: str = "nvidia-smi") -> dict[str, str] | None:
    """Driver, power limit, clocks and temperature now, in nvidia-smi's words; None where it is not there or
    says nothing. Nothing is set."""
    if shutil.which(program) is None:
        return None
    command = [program, f"--id={number}", f"--query-gpu={','.join(_ASKED)}", "--format=csv,noheader"]
    try:
        ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return None
    said = [value.strip() for value in ran.stdout.strip().split(",")]
    return dict(zip(_ASKED, said, strict=True)) if len(said) == len(_ASKED) else None


def slug(name: str) -> str:
    """A device's name as part of a file's: "NVIDIA H100 80GB HBM3" → "nvidia-h100-80gb-hbm3"."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-") or "gpu"
