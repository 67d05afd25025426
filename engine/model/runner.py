"""The seam behind which every runtime hides: one call, named arrays in, named arrays out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.types import RunnerInfo

Arrays = dict[str, NDArray[np.float32]]

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
