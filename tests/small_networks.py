"""Real networks of a few hundred weights, and a spec that fits them: what the exporter's tests carry in."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

WINDOW = (8, 12, 10)


class SmallNet(nn.Module):
    """Two channels in; a tumour map, an anatomy of three and a score out."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv3d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm3d(4)
        self.tumour = nn.Conv3d(4, 1, 1)
        self.anatomy = nn.Conv3d(4, 3, 1)
        self.score = nn.Linear(4, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = torch.relu(self.norm(self.first(image)))
        return self.tumour(x), self.anatomy(x), self.score(x.mean((2, 3, 4)))


def small(seed: int = 0) -> SmallNet:
    """The same weights for the same seed."""
    torch.manual_seed(seed)
    return SmallNet()


def not_a_network() -> str:
    return "a string"


def broken() -> nn.Module:
    raise RuntimeError("the moon is in the wrong house\nand so on")


def tables(**changes: Any) -> dict[str, Any]:
    """A spec for SmallNet as TOML would give it."""
    spec: dict[str, Any] = {
        "name": "small",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "evidence": "synthetic",
        "task": "npc",
        "sequences": [{"name": "t1", "roles": ["T1"]}, {"name": "t2", "roles": ["T2", "T2FS"]}],
        "reference_sequence": "t1",
        "network": {
            "name": "npc",
            "inputs": ["t1", "t2"],
            "spacing": [4.0, 2.0, 2.0],
            "window": list(WINDOW),
            "normalisation": {"method": "zscore"},
            "outputs": [
                {"name": "tumour", "kind": "tumour"},
                {"name": "anatomy", "kind": "anatomy"},
                {"name": "detection", "kind": "detection"},
            ],
        },
        "tumour": {"threshold": 0.5},
        "detection": {
            "threshold": 0.5,
            "indeterminate_low": 0.4,
            "indeterminate_high": 0.6,
            "mask_min_ml": 0.1,
            "operating_point": {"sensitivity": 0.9, "specificity": 0.9, "on": "nothing: tests"},
        },
        "provenance": {"training_data": "none"},
    }
    return {**spec, **changes}


SPEC = """
name = "small"
version = "1"
licence = "Apache-2.0"
intended_use = "tests"
evidence = "synthetic"
task = "npc"
sequences = [{ name = "t1", roles = ["T1"] }, { name = "t2", roles = ["T2", "T2FS"] }]
reference_sequence = "t1"
tumour = { threshold = 0.5 }
provenance = { training_data = "none" }

[network]
name = "npc"
inputs = ["t1", "t2"]
spacing = [4.0, 2.0, 2.0]
window = [8, 12, 10]
normalisation = { method = "zscore" }
outputs = [
    { name = "tumour", kind = "tumour" },
    { name = "anatomy", kind = "anatomy" },
    { name = "detection", kind = "detection" },
]

[detection]
threshold = 0.5
indeterminate_low = 0.4
indeterminate_high = 0.6
mask_min_ml = 0.1
operating_point = { sensitivity = 0.9, specificity = 0.9, on = "nothing: tests" }
"""
"""The same as a file."""
