"""The seam behind which every runtime hides: one call, named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError
from npc_edge.engine.types import RunnerInfo
from npc_edge.kernels.launch import DeviceArray

Arrays = dict[str, NDArray[np.float32]]

DeviceArrays = dict[str, DeviceArray]

IMAGE = "image"
"""Name of every network's input: (1, C, Z, Y, X) float32."""


class Runner(Protocol):
    """A network ready to run, until its context ends."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def infer(self, inputs: Arrays) -> Arrays:
        """Named inputs → all named outputs, float32. BundleError for inputs the network does not take."""
        ...

    def describe(self) -> RunnerInfo:
        """What really runs."""
        ...

    @property
    def at_once(self) -> int:
        """How many windows it likes to be given together, along the first axis; 1: one after the other."""
        ...


@runtime_checkable
class DeviceRunner(Runner, Protocol):
    """A runner that takes and leaves arrays where a launcher's memory is."""

    def infer_on_device(self, inputs: DeviceArrays) -> DeviceArrays:
        """Named inputs → all named outputs, in the network's own types, valid until the next call. Queued on
        the launcher's stream, or done when this returns. BundleError for inputs the network does not take."""
        ...


def infer_on_device(runner: Runner, inputs: DeviceArrays) -> DeviceArrays:
    """What a runner says of arrays on its device; BackendError for one that takes none."""
    if not isinstance(runner, DeviceRunner):
        raise BackendError(f"{runner.describe().backend} takes no arrays on a device", "use another backend")
    return runner.infer_on_device(inputs)


class FakeRunner:
    """A runner whose outputs a function makes: for tests and for trying an engine without a network."""

    def __init__(
        self,
        outputs: Callable[[Mapping[str, NDArray[np.float32]]], Arrays],
        artefact: str = "fake.onnx",
        at_once: int = 1,
    ) -> None:
        self._outputs = outputs
        self._artefact = artefact
        self.at_once = at_once

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None

    def infer(self, inputs: Arrays) -> Arrays:
        return self._outputs(inputs)

    def describe(self) -> RunnerInfo:
        return RunnerInfo("fake", "cpu", "fp32", self._artefact, "0")
