"""Guard bands around every array of a launcher: a write out of bounds fails no comparison by itself."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import prod
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from npc_edge.kernels.launch import DeviceArray, Launcher, LaunchError

_BAND = 256
_PATTERN = 0xA5


class Guarded:
    """A Launcher (see `kernels.launch`) that lays every array of another one between two bands of a pattern.

    New arrays hold the pattern too, so what a kernel leaves out is seen as well."""

    def __init__(self, inner: Launcher) -> None:
        self.inner = inner
        self._whole: list[DeviceArray] = []

    @property
    def device(self) -> str:
        """The device's name."""
        return self.inner.device

    @property
    def place(self) -> str:
        """As the inner launcher says."""
        return self.inner.place

    @property
    def handle(self) -> int:
        """The inner launcher's."""
        return self.inner.handle

    def current(self) -> AbstractContextManager[None]:
        """As the inner launcher does."""
        return self.inner.current()

    def load(self) -> None:
        """As the inner launcher does."""
        self.inner.load()

    def free_mb(self) -> float | None:
        """As the inner launcher says."""
        return self.inner.free_mb()

    def capture(self, queue: Callable[[], None]) -> Callable[[], None]:
        """As the inner launcher does."""
        return self.inner.capture(queue)

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Memory filled with the pattern."""
        kind = np.dtype(dtype)
        whole = self.inner.empty((prod(shape) * kind.itemsize + 2 * _BAND,), np.uint8)
        self.inner.copy_in(whole, np.full(whole.shape, _PATTERN, dtype=np.uint8))
        self._whole.append(whole)
        return type(whole)(whole.pointer + _BAND, shape, kind, whole)

    def check_guards(self) -> int:
        """How many arrays were looked at, all since the last look. LaunchError if a kernel wrote beside one.
        The arrays stay valid as long as somebody holds them."""
        for whole in self._whole:
            bands = self.inner.copy_out(whole)
            if (bands[:_BAND] != _PATTERN).any() or (bands[-_BAND:] != _PATTERN).any():
                raise LaunchError("a kernel wrote outside an array")
        looked = len(self._whole)
        self._whole.clear()
        return looked

    def pinned(self, shape: tuple[int, ...], dtype: DTypeLike) -> NDArray[Any]:
        """As the inner launcher does."""
        return self.inner.pinned(shape, dtype)

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        """As the inner launcher does."""
        self.inner.copy_in(target, host)

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        """As the inner launcher does."""
        return self.inner.copy_out(source)

    def copy(self, target: DeviceArray, source: DeviceArray) -> None:
        """As the inner launcher does."""
        self.inner.copy(target, source)

    def launch(self, kernel: str, arguments: np.void, work: int) -> None:
        """As the inner launcher does."""
        self.inner.launch(kernel, arguments, work)

    def mark(self) -> Any:
        """As the inner launcher does."""
        return self.inner.mark()

    def elapsed_ms(self, start: Any, end: Any) -> float:
        """As the inner launcher does."""
        return self.inner.elapsed_ms(start, end)

    def synchronize(self) -> None:
        """As the inner launcher does."""
        self.inner.synchronize()
