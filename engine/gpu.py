"""Which NVIDIA GPUs answer, asked of the driver itself: nothing of a GPU runtime is imported or started."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass

_MAJOR, _MINOR = 75, 76  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_*
_NO_DEVICE = 100


@dataclass(frozen=True)
class Gpus:
    """capabilities: "sm86" … of each GPU in the driver's order. why: why there is none, "" where there is.
    names, memory_mb: of each. driver: the CUDA version it speaks, "13.0", "" without one."""

    capabilities: tuple[str, ...]
    why: str
    names: tuple[str, ...] = ()
    memory_mb: tuple[float, ...] = ()
    driver: str = ""


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
    numbers = range(count.value)
    found = tuple(_capability(driver, number) for number in numbers)
    version = ctypes.c_int()
    driver.cuDriverGetVersion(ctypes.byref(version))
    return Gpus(
        found,
        "" if found else "the NVIDIA driver finds no GPU",
        tuple(_name(driver, number) for number in numbers),
        tuple(_memory_mb(driver, number) for number in numbers),
        f"{version.value // 1000}.{version.value % 1000 // 10}",
    )


def _capability(driver: ctypes.CDLL, number: int) -> str:
    device, major, minor = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return f"sm{major.value}{minor.value}"


def _name(driver: ctypes.CDLL, number: int) -> str:
    device, text = ctypes.c_int(), ctypes.create_string_buffer(128)
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceGetName(text, len(text), device)
    return text.value.decode(errors="replace")


def _memory_mb(driver: ctypes.CDLL, number: int) -> float:
    device, size = ctypes.c_int(), ctypes.c_size_t()
    driver.cuDeviceGet(ctypes.byref(device), number)
    driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    return size.value / 1e6
