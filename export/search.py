"""Which layers must stay in float for an int8 network to pass its gate, in few judgements.

A judgement runs the task on cases and is the expensive part. So layers are ranked once, the shortest run of
the worst that passes is found by bisection, and then each of these is tried without.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from onnx import ModelProto

from npc_edge.engine.errors import UsageError


@dataclass(frozen=True)
class Verdict:
    """passed: the gate holds. loss: how much worse the task is done; only its order matters."""

    passed: bool
    loss: float


@dataclass(frozen=True)
class Judgement:
    """One verdict, and the layers that were in float for it."""

    kept: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True)
class Found:
    """reverted: layers to keep in float, the worst first; where it is all of them, there is no int8 to ship.
    held: whether the gate holds with them. history: every judgement in order; its length is their count."""

    reverted: tuple[str, ...]
    held: bool
    history: tuple[Judgement, ...]


def search(
    layers: Sequence[str],
    build: Callable[[frozenset[str]], ModelProto],
    judge: Callable[[ModelProto], Verdict],
    harm: Mapping[str, float] | None = None,
    most: int = 200,
) -> Found:
    """The layers to revert until the gate holds.

    build(keep): the model with these layers in float; with all of them, the fp32 model (`quantize` makes none
    of no layer). harm: layer → how bad it is, where that is known from
    a cheaper measurement (the error a layer adds); without it every layer is judged once left in float alone.
    Judgements: 1 when all pass; else 2, one a layer without `harm`, log2 of the layers to bisect, and one for
    each reverted layer to try it back. At most `most`: what held by then is returned. held is False when even
    with every layer in float the gate fails. Assumes that one more layer in float does no harm; what is
    returned as held was judged so.
    """
    if len(set(layers)) != len(layers) or most < 2:
        raise UsageError("layers must have names of their own, and two judgements are the least")
    court = _Court(layers, build, judge, most)
    if not layers or court.verdict(()).passed:
        return Found((), court.verdict(()).passed, court.history)
    if not court.verdict(layers).passed:
        return Found(tuple(layers), False, court.history)
    ranked = court.ranked(layers, harm)
    low, high = 0, len(ranked)  # with `low` of them in float it fails, with `high` it passes
    while high - low > 1 and court.open:
        middle = (low + high) // 2
        low, high = (low, middle) if court.verdict(ranked[:middle]).passed else (middle, high)
    kept = list(ranked[:high])
    for layer in reversed(ranked[: high - 1]):  # the last was needed: without it, it failed
        if court.open and court.verdict([name for name in kept if name != layer]).passed:
            kept.remove(layer)
    return Found(tuple(kept), True, court.history)


class _Court:
    """Judges each set of layers once."""

    def __init__(
        self,
        layers: Sequence[str],
        build: Callable[[frozenset[str]], ModelProto],
        judge: Callable[[ModelProto], Verdict],
        most: int,
    ) -> None:
        self._order = tuple(layers)
        self._build, self._judge, self._most = build, judge, most
        self._known: dict[frozenset[str], Verdict] = {}

    @property
    def open(self) -> bool:
        return len(self._known) < self._most

    @property
    def history(self) -> tuple[Judgement, ...]:
        return tuple(
            Judgement(tuple(name for name in self._order if name in kept), verdict)
            for kept, verdict in self._known.items()
        )

    def verdict(self, kept: Sequence[str]) -> Verdict:
        key = frozenset(kept)
        if key not in self._known:
            self._known[key] = self._judge(self._build(key))
        return self._known[key]

    def ranked(self, layers: Sequence[str], harm: Mapping[str, float] | None) -> tuple[str, ...]:
        """The worst first; a loss that is no number counts as infinite, a layer nobody judged as harmless."""
        if harm is None:
            losses: dict[str, float] = {}
            for layer in layers:
                if self.open:
                    losses[layer] = _number(self.verdict([layer]).loss)
            harm = {layer: -loss for layer, loss in losses.items()}
        return tuple(sorted(layers, key=lambda layer: -_number(harm.get(layer, -math.inf))))


def _number(value: float) -> float:
    return math.inf if math.isnan(value) else value
