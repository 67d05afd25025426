"""What a bundle's networks are really fed: the inputs of each over real cases, kept for calibration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from npc_edge.engine.cohort import Case, load_case
from npc_edge.engine.errors import BundleError, Refusal
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.runner import Arrays, Runner
from npc_edge.engine.model.runners import open_pair
from npc_edge.engine.model.runners.pairs import REFERENCE
from npc_edge.engine.study.align import align
from npc_edge.engine.study.read import Reader
from npc_edge.engine.trial import answer
from npc_edge.engine.types import RunnerInfo

KEPT_BYTES = 2**30
"""Of inputs, for each network: 100 windows of 2 x 20 x 256 x 256."""


class Recorder:
    """A runner that keeps what it was fed, evenly thinned where it is too much."""

    def __init__(self, runner: Runner, most_bytes: int = KEPT_BYTES) -> None:
        self._runner = runner
        self._most = most_bytes
        self._every = 1
        self._seen = 0
        self.kept: list[Arrays] = []

    def __enter__(self) -> Self:
        self._runner.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.__exit__(kind, error, trace)

    def infer(self, inputs: Arrays) -> Arrays:
        if self._seen % self._every == 0:
            self.kept.append({name: array.copy() for name, array in inputs.items()})
            size = sum(array.nbytes for array in inputs.values())
            while len(self.kept) * size > self._most and len(self.kept) > 1:
                self.kept = self.kept[::2]
                self._every *= 2
        self._seen += 1
        return self._runner.infer(inputs)

    def describe(self) -> RunnerInfo:
        return self._runner.describe()

    @property
    def at_once(self) -> int:
        return 1


def record(
    bundle: Bundle, cases: Sequence[Case], threads: int, say: Callable[[str], None]
) -> dict[str, list[Arrays]]:
    """Network → the inputs it was fed over the cases, in order. BundleError when no case could be run."""
    refused = []
    with ExitStack() as stack:
        recorders = {
            network.name: stack.enter_context(Recorder(open_pair(bundle, network.name, REFERENCE, threads)))
            for network in bundle.manifest.networks
        }
        reader = stack.enter_context(Reader())
        for case in cases:
            try:
                volumes = load_case(case, bundle.manifest, reader).volumes
                answer(bundle, recorders, align(volumes, bundle.manifest.reference_sequence)[0])
            except Refusal as refusal:
                refused.append(f"{case.name}: {refusal.code}")
    if len(refused) == len(cases):
        raise BundleError(f"no case can be calibrated on: {', '.join(refused[:3]) or 'there is none'}")
    say(f"recorded the inputs of {len(cases) - len(refused)} cases")
    return {name: recorder.kept for name, recorder in recorders.items()}
