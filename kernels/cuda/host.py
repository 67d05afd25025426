"""The kernels' bodies compiled by g++, launched like on a GPU: for tests without one, and to measure.

What this cannot show is what only a GPU has: races, barriers, alignment.
"""

from __future__ import annotations

import ctypes
import subprocess
import time
import weakref
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npc_edge.kernels.cuda import source
from npc_edge.kernels.cuda.arguments import MEMBERS, STRUCTS
from npc_edge.kernels.launch import DeviceArray, LaunchError, checked_copy, checked_sizes, packed

OPTIMISED = ("-O3", "-march=native")


def build(folder: Path, options: Sequence[str] = OPTIMISED) -> Path:
    """Compile every .cu file with g++ into a shared library in `folder`. LaunchError when that fails."""
    lines = [f'#include "{name}.cu"' for name in source.OPERATIONS]
    for name, struct in STRUCTS.items():
        lines.append(f'extern "C" int sizeof_{name}() {{ return sizeof({name}); }}')
        for field in struct.names or ():
            member = MEMBERS.get(name, {}).get(field, MEMBERS["Map"].get(field, field))
            lines.append(
                f'extern "C" int offset_{name}_{field}() {{ return __builtin_offsetof({name}, {member}); }}'
            )
    lines += [
        'extern "C" u32 to_half_bits(u32 bits) { return to_half(float_of(bits)).bits; }',
        'extern "C" u32 from_half_bits(u32 bits) {',
        "  Half half = {static_cast<unsigned short>(bits)}; return bits_of(from_half(half)); }",
    ]
    code, library = folder / "kernels.cpp", folder / "kernels.so"
    code.write_text("\n".join(lines) + "\n", encoding="utf-8")
    command = ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", "-fopenmp", "-shared", "-fPIC"]
    command += [*options, f"-I{source.HERE}", str(code), "-o", str(library)]
    try:
        subprocess.run(command, check=True, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise LaunchError("g++ is not installed") from error
    except subprocess.CalledProcessError as error:
        raise LaunchError(f"g++ refused the kernels: {error.stderr.strip()}") from error
    return library


class HostLauncher:
    """A Launcher (see `kernels.launch`) whose device is the processor; `threads` of OpenMP.

    memory_mb: how much there is, as a GPU has an end too; None: as much as the machine has. held_bytes: of
    all arrays that somebody still holds.
    """

    def __init__(self, library: Path, threads: int = 1, memory_mb: float | None = None) -> None:
        self.library = ctypes.CDLL(str(library))
        self.threads = threads
        self.memory_mb = memory_mb
        self.held_bytes = 0

    @property
    def device(self) -> str:
        """What runs the kernels."""
        return f"processor, {self.threads} threads"

    @property
    def place(self) -> str:
        """The host's memory."""
        return "cpu"

    @property
    def handle(self) -> int:
        """No stream."""
        return 0

    def current(self) -> AbstractContextManager[None]:
        """Every thread works on it."""
        return nullcontext()

    def load(self) -> None:
        """They are compiled."""

    def free_mb(self) -> float | None:
        """What is left of `memory_mb`."""
        return None if self.memory_mb is None else self.memory_mb - self.held_bytes / 1e6

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Ordinary memory. LaunchError when less than that is left."""
        kind = np.dtype(dtype)
        size, left = prod(shape) * kind.itemsize, self.free_mb()
        if left is not None and size > 1e6 * left:
            raise LaunchError(f"no memory for {shape} {kind}: {left:.0f} MB are free")
        raw = np.empty(size, dtype=np.uint8)
        self.held_bytes += size
        weakref.finalize(raw, self._given_back, size)
        return DeviceArray(raw.ctypes.data, shape, kind, raw)

    def _given_back(self, size: int) -> None:
        self.held_bytes -= size

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """Ordinary memory."""
        return np.empty(shape, dtype=dtype)

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        """At once."""
        data = checked_copy(target, host)
        ctypes.memmove(target.pointer, data.ctypes.data, target.nbytes)

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        """A new array."""
        return np.frombuffer(ctypes.string_at(source.pointer, source.nbytes), dtype=source.dtype).reshape(
            source.shape
        )

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """At once."""
        checked_sizes(target, source)
        ctypes.memmove(target.pointer, source.pointer, source.nbytes)

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        """At once; `work` is in the arguments already."""
        run = getattr(self.library, kernel)
        run.argtypes, run.restype = [ctypes.c_char_p, ctypes.c_int], None
        run(packed(arguments), self.threads)

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """There are no graphs."""
        return queue

    def mark(self) -> float:
        """The time, in seconds."""
        return time.perf_counter()

    def elapsed_ms(self, start: float, end: float) -> float:
        """Between two marks."""
        return 1000 * (end - start)

    def synchronize(self) -> None:
        """Nothing is ever under way."""
