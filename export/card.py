"""The model card of an exported bundle: what it is, on what evidence, what was measured; Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from npc_edge.engine.model.manifest import Parity
from npc_edge.export.spec import Spec

_KINDS = {
    "tumour": "tumour map (sigmoid)",
    "anatomy": "anatomy under the tumour (softmax)",
    "detection": "score (sigmoid)",
    "heatmap": "point (soft-argmax of a heatmap)",
    "segmentation": "all labels (softmax)",
}


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
