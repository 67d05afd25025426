"""What a network loses of its task when its arithmetic changes, on recorded inputs: the search's judge."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from npc_edge.engine.model.acceptance import winners
from npc_edge.engine.model.manifest import OutputSpec
from npc_edge.engine.model.metrics import dice, mean_dice
from npc_edge.engine.model.runner import Arrays
from npc_edge.export import graph
from npc_edge.export.search import Verdict

ALLOWED = {"tumour": 0.02, "segmentation": 0.02, "anatomy": 0.03, "heatmap": 0.02, "detection": 0.02}
"""What an output may lose before a layer is reverted: 1 - Dice against the original, or the shift of the
score's plain sigmoid. The gate, on whole cases, decides."""


@dataclass(frozen=True, eq=False)
class Task:
    """outputs: the network's, with their kinds. threshold: of the tumour's mask. expected: inputs, and what
    the original makes of them."""

    outputs: Sequence[OutputSpec]
    threshold: float
    expected: Sequence[tuple[Arrays, Arrays]]

    def judge(self, model: ModelProto, strict: float = 1.0) -> Verdict:
        """The worst mean loss of an output, in units of ALLOWED; passed when at most `strict` of it."""
        run = graph.opened(model)
        losses: dict[str, list[float]] = {}
        for inputs, wanted in self.expected:
            found = run(inputs)
            for output in self.outputs:
                loss = self.loss(output.kind, found[output.name], wanted[output.name])
                losses.setdefault(output.name, []).append(loss / ALLOWED[output.kind])
        worst = max(float(np.mean(values)) for values in losses.values())
        return Verdict(worst <= strict, worst)

    def loss(self, kind: str, found: NDArray[Any], wanted: NDArray[Any]) -> float:
        """What one output lost, 0..1; 1 where it is not finite."""
        if not np.isfinite(found).all():
            return 1.0
        if kind == "detection":
            return float(np.abs(np.tanh(found / 2) - np.tanh(wanted / 2)).max() / 2)
        if kind == "tumour":
            limit = np.log(self.threshold / (1 - self.threshold))
            return 1 - dice(found > limit, wanted > limit)
        return 1 - mean_dice(winners(found), winners(wanted))


def answers(model: ModelProto, inputs: Sequence[Arrays]) -> list[tuple[Arrays, Arrays]]:
    """Each input with what the original makes of it on ONNX Runtime."""
    run = graph.opened(model)
    return [(one, dict(run(one))) for one in inputs]
