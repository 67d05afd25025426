"""Threads of the voxel operations: one for the BLAS where products are small, one a core for slabs."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from typing import TypeVar

from threadpoolctl import ThreadpoolController

T = TypeVar("T")
R = TypeVar("R")

_MOST = 4
"""Threads a slab operation takes at most: all of them wait for the same memory."""


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """NumPy's BLAS on one thread, and on as many as before afterwards.

    A product of a slice takes less time than its threads take to meet: measured on two cores, resampling is
    1.4 to 2 times as fast on one thread, most so on a busy machine, and needs 40 MB less.
    """
    with _blas().limit(limits=1):
        yield


def on_cores(work: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """What `work` gives for each item, in their order, one thread a core and four at most; the first error is
    raised. For work that lets go of Python's lock, and whose results do not depend on who does it."""
    threads = min(_cores(), len(items), _MOST)
    if threads < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(threads, "npc-edge-slab") as pool:
        return list(pool.map(work, items))


def slabs(length: int, size: int, start: int = 0) -> list[slice]:
    """start..start + length in pieces of `size`, the last one shorter."""
    stop = start + length
    return [slice(low, min(low + size, stop)) for low in range(start, stop, size)]


def _cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


@cache
def _blas() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="blas")
