"""A device whose memory is the host's: the kernels' bodies by g++, and runners that take its arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray
from outside import tool

from npc_edge.engine.model.runner import Arrays, DeviceArrays, FakeRunner
from npc_edge.kernels.cuda import host
from npc_edge.kernels.launch import DeviceArray, Launcher

Network = Callable[[Mapping[str, NDArray[np.float32]]], Arrays]


def library(folder: Path) -> Path:
    tool("g++")
    return host.build(folder, ("-O2",))


class Watched(host.HostLauncher):
    """It writes down what crosses: up and home, (shape, dtype) each."""

    def __init__(self, library: Path, memory_mb: float | None = None) -> None:
        super().__init__(library, memory_mb=memory_mb)
        self.up: list[tuple[tuple[int, ...], np.dtype[Any]]] = []
        self.home: list[tuple[tuple[int, ...], np.dtype[Any]]] = []

    def empty(self, shape: tuple[int, ...], dtype: DTypeLike) -> DeviceArray:
        """Never what another kernel left there."""
        array = super().empty(shape, dtype)
        ctypes.memset(array.pointer, 0xA5, array.nbytes)
        return array

    def copy_in(self, target: DeviceArray, host: NDArray[Any]) -> None:
        self.up.append((host.shape, host.dtype))
        super().copy_in(target, host)

    def copy_out(self, source: DeviceArray) -> NDArray[Any]:
        self.home.append((source.shape, source.dtype))
        return super().copy_out(source)


class OnDevice(FakeRunner):
    """A FakeRunner that takes arrays of a launcher; what it gives lies in the same memory at every call, and
    is spoilt by the next one. dtype: of its outputs. seen: how many windows came at each call."""

    def __init__(self, launcher: Launcher, network: Network, dtype: Any = np.float32, at_once: int = 1):
        super().__init__(network, at_once=at_once)
        self._launcher, self._network, self._dtype = launcher, network, dtype
        self._held: DeviceArrays = {}
        self.seen: list[int] = []

    def infer_on_device(self, inputs: DeviceArrays) -> DeviceArrays:
        launcher = self._launcher
        self.seen.append(next(iter(inputs.values())).shape[0])
        made = self._network({name: launcher.copy_out(array) for name, array in inputs.items()})
        for name, array in made.items():
            held = self._held.get(name)
            if held is None or held.shape != array.shape:
                if held is not None:
                    launcher.copy_in(held, np.full(held.shape, np.nan, held.dtype))
                self._held[name] = launcher.empty(array.shape, self._dtype)
            launcher.copy_in(self._held[name], array.astype(self._dtype))
        return dict(self._held)
