"""Which NVIDIA GPUs answer, asked of the driver itself: nothing of a GPU runtime is imported or started."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NO_DEVICE = 100


@dataclass(frozen=True)
class Gpus:
    """capabilities: "sm86" … of each GPU in the driver's order. why: why there is none, "" where there is."""

    capabilities: tuple[str, ...]
    why: str


def find_gpus() -> Gpus:
    """Ask the driver. No context is made and no memory taken."""
    library = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
    try:
        driver = ctypes.CDLL(library)
    except OSError:
        return Gpus((), f"no NVIDIA driver is installed ({library})")
    count = ctypes.c_int()
    status = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if status not in (0, _NO_DEVICE):
        return Gpus((), f"the NVIDIA driver answers with error {status}")
    found = tuple(_capability(driver, number) for number in range(count.value))
    return Gpus(found, "" if found else "the NVIDIA driver finds no GPU")


def _capability(driver: ctypes.CDLL, number: int) -> str:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return f"sm{major.value}{minor.value}"
