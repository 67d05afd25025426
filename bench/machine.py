"""The machine a number was measured on, in words that identify no one."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.version import VERSION

_LIBRARIES = ("onnxruntime", "openvino", "numpy", "SimpleITK", "pydicom")


def describe() -> dict[str, Any]:
    """Processor, cores, memory, system and the versions that decide speed and numbers."""
    return {
        "processor": _processor(),
        "cores": available_cores(),
        "instruction_set": instruction_set(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.machine()}, Python {platform.python_version()}",
        "versions": {
            "npc-edge": VERSION,
            **{name: version_of(name) for name in _LIBRARIES},
        },
        "commit": _commit(),
    }


def clocks() -> dict[str, Any]:
    """MHz of the cores as the kernel reports them now, and what governs them; None where it does not say."""
    listing = Path("/proc/cpuinfo")
    text = listing.read_text(encoding="utf-8") if listing.exists() else ""
    mhz = [float(v.partition(":")[2]) for v in text.splitlines() if v.startswith("cpu MHz")]
    governor = Path("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    return {
        "mhz": [round(min(mhz)), round(max(mhz))] if mhz else None,
        "governor": governor.read_text(encoding="ascii").strip() if governor.exists() else None,
    }


def load_average() -> float | None:
    """Of the last minute, None where the system does not say."""
    return round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None


def version_of(library: str) -> str | None:
    """Of a package as installed, None where it is not; nothing is imported."""
    try:
        return version(library)
    except PackageNotFoundError:
        return None


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gb() -> float | None:
    listing = Path("/proc/meminfo")
    if not listing.exists():
        return None
    return round(int(listing.read_text(encoding="utf-8").split()[1]) / 1e6, 1)


def _commit() -> str | None:
    """The commit of the working folder, where it is a git checkout."""
    try:
        asked = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return asked.stdout.strip()
