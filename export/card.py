"""The model card of an exported bundle: what it is, on what evidence, what was measured; Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from npc_edge.engine.model.manifest import NetworkSpec, Parity
from npc_edge.export.spec import Spec

_KINDS = {
    "tumour": "tumour map (sigmoid)",
    "anatomy": "anatomy under the tumour (softmax)",
    "detection": "score (sigmoid)",
    "heatmap": "point (soft-argmax of a heatmap)",
    "segmentation": "all labels (softmax)",
}

_LOWERED = "## Every artefact beside the fp32 original"


def text(spec: Spec, parity: Parity | None, facts: Mapping[str, str], notes: Sequence[str]) -> str:
    """The card. facts: names and versions of the provenance; notes: how it was made, its limits."""
    network = spec.network
    sequences = "\n".join(f"- {s.name}: {', '.join(s.roles)}" for s in spec.sequences)
    outputs = "\n".join(f"- {o.name}: {_KINDS[o.kind]}" for o in network.outputs)
    grid = f"{_triple(network.spacing)} mm, windows of {_triple(network.window)} voxels (z, y, x)"
    made = "\n".join(f"- {name}: {value}" for name, value in facts.items())
    said = "\n".join(f"- {note}" for note in notes) or "- none"
    credits_ = "\n".join(f"- {line}" for line in spec.provenance.credits) or "- none"
    return f"""# {spec.name} {spec.version}

**Research use only. Not a medical device.** Evidence: {spec.evidence}. Licence: {spec.licence}.

{spec.intended_use}

## In and out

{sequences}

Network {network.name}: {grid}; {network.resampling} resampling, {network.normalisation.method} normalisation.

{outputs}

## Measured

{_detection(spec)}

{_parity(parity)}

## Limits and notes

{said}

## Provenance

Training data: {spec.provenance.training_data}

{made}

## Credits

{credits_}
"""


def with_parity(card: str, networks: Sequence[NetworkSpec]) -> str:
    """The card with every row of the manifest's parity tables that was measured on cases, as its last section
    or in the place of the one that is there; without such a row, as it is."""
    rows = [
        f"| {Path(artefact.file).name} | {row.backend} {row.precision} {row.isa} | {row.cases} | "
        f"{row.max_relative_error:.1e} | {_number(row.delta_dice, '+.4f')}, {_number(row.dice, '.4f')} | "
        f"{_number(row.score_shift, '.4f')} | "
        f"{row.category_changes} (≤ {_number(row.category_bound, '.1%')}) |"
        for network in networks
        for artefact in network.artefacts
        for row in artefact.parity
        if row.cases is not None
    ]
    if not rows:
        return card
    before, heading, rest = card.partition(f"{_LOWERED}\n")
    _, more, after = rest.partition("\n## ") if heading else ("", "", "")
    table = "\n".join([_HEAD, "|---" * _HEAD.count(" | ") + "|---|", *rows])
    return f"{before.rstrip()}\n\n{_LOWERED}\n\n{table}\n{more}{after}"


_HEAD = (
    "| artefact | backend, precision, instruction set | cases | largest relative error "
    "| Dice: fall, agreement | probability shift | T categories changed (95 % bound) |"
)


def _number(value: float | None, how: str) -> str:
    return "none" if value is None else f"{value:{how}}"


def _detection(spec: Spec) -> str:
    if spec.detection is None:
        return "No operating point: the network gives no score."
    point = spec.detection.operating_point
    return (
        f"Operating point, as its maker states it: threshold {spec.detection.threshold:g}, sensitivity "
        f"{point.sensitivity:g}, specificity {point.specificity:g}, on {point.on}."
    )


def _parity(parity: Parity | None) -> str:
    if parity is None:
        return (
            "The ONNX file is the original: there was no PyTorch network to compare it with. Its golden case "
            "is what it said where the bundle was made."
        )
    dice = "" if parity.dice is None else f", Dice of the labels {parity.dice:.4f}"
    return (
        f"The fp32 artefact against PyTorch, {parity.backend} on {parity.isa}: largest relative difference "
        f"{parity.max_relative_error:.1e}{dice}."
    )


def _triple(values: Sequence[float]) -> str:
    return " x ".join(f"{value:g}" for value in values)
