"""A MONAI bundle becomes one of ours: network, weights, and preprocessing where the engine does the same."""

from __future__ import annotations

import importlib
from collections.abc import Collection, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.export.make_bundle import Made, Origin, Say
from npc_edge.export.monai_config import MonaiConfig, read_config
from npc_edge.export.onnx_file import first_line
from npc_edge.export.spec import Spec, make_spec, read_toml
from npc_edge.export.torch_bundle import bundle_of_module, sentence, weights_facts
from npc_edge.export.weights import apply_weights, load_weights

_HOME = "monai.networks"
"""The only package a configuration's network may come from: any other is a program of its maker's."""


def plan(folder: Path, spec: Path, accept: Collection[str] = ()) -> tuple[MonaiConfig, Spec]:
    """What the MONAI bundle says, and the spec made of it and of the user's file.

    Of the network's numbers, what both say must be the same (UsageError); of words, the user's count.
    """
    config = read_config(folder, accept)
    return config, make_spec(_merged(config.tables, read_toml(spec), spec.name), spec.name)


def bundle_of_monai(
    folder: Path, config: MonaiConfig, spec: Spec, out: Path, key: Ed25519PrivateKey | None, say: Say
) -> Made:
    """Make the bundle `out` of what `plan` read. key None: unsigned. Raises UsageError, BundleError,
    OutputError."""
    network = _network(config.definition)
    weights = folder / "models" / "model.pt"
    if not weights.is_file() and weights.with_suffix(".safetensors").is_file():
        weights = weights.with_suffix(".safetensors")
    said = tuple(map(sentence, apply_weights(network, load_weights(weights), weights.name)))
    facts = {
        "network": str(config.definition["_target_"]),
        "monai": version("monai"),
        **weights_facts(weights),
    }
    origin = Origin(facts, notes=(*said, *config.notes))
    return bundle_of_module(Oriented(network, config.axes), spec, out, key, origin, say)


class Oriented(nn.Module):
    """A network that sees its own axes, inside one that sees (Z, Y, X) LPS.

    axes: for each of the network's spatial axes, the axis of (Z, Y, X) and whether it runs the other way.
    """

    def __init__(self, network: nn.Module, axes: tuple[tuple[int, bool], ...]) -> None:
        super().__init__()
        self.network = network
        self.order = tuple(2 + axis for axis, _ in axes)
        self.back = tuple(2 + self.order.index(2 + axis) for axis in range(3))
        self.flipped = [2 + place for place, (_, flip) in enumerate(axes) if flip]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        made: Any = self.network(image.permute(0, 1, *self.order).flip(self.flipped))
        values = tuple(made) if isinstance(made, tuple | list) else (made,)
        return tuple(v.flip(self.flipped).permute(0, 1, *self.back) if v.ndim == 5 else v for v in values)


def _network(definition: Mapping[str, Any]) -> nn.Module:
    """Build the network; only classes of MONAI's own, and only from values."""
    target = str(definition["_target_"])
    module, _, name = target.rpartition(".")
    module = module or f"{_HOME}.nets"
    if module != _HOME and not module.startswith(f"{_HOME}."):
        raise BundleError(
            f"the MONAI bundle's network is {target}, code of its own that is not run",
            "bring it by export torch --network MODULE:FACTORY",
        )
    arguments = {key: value for key, value in definition.items() if not key.startswith("_")}
    try:
        network = getattr(importlib.import_module(module), name)(**arguments)
    except (ImportError, AttributeError, TypeError, ValueError, RuntimeError, KeyError) as error:
        raise BundleError(f"MONAI cannot build {target}: {first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise BundleError(f"{target} is not a network")
    return network


def _merged(found: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    merged = {**found, **given}
    theirs, ours = dict(found.get("network", {})), given.get("network", {})
    if not isinstance(ours, Mapping):
        raise UsageError(f"{where}: network is not a table")
    inputs = theirs.pop("inputs", None)
    if inputs is not None and "inputs" in ours and len(ours["inputs"]) != len(inputs):
        raise UsageError(
            f"{where}: network.inputs are {len(ours['inputs'])}, the MONAI bundle has {len(inputs)}"
        )
    outputs = theirs.pop("outputs", None)
    kinds = [output["kind"] for output in outputs or ()]
    if kinds and "outputs" in ours and [output.get("kind") for output in ours["outputs"]] != kinds:
        raise UsageError(f"{where}: network.outputs are not of the MONAI bundle's kind {kinds[0]}")
    for key, value in theirs.items():
        if key in ours and ours[key] != value:
            raise UsageError(f"{where}: network.{key} is {ours[key]}, the MONAI bundle says {value}")
    merged["network"] = {
        **({"inputs": inputs} if inputs else {}),
        **({"outputs": outputs} if outputs else {}),
        **ours,
        **theirs,
    }
    if "provenance" in found and isinstance(given.get("provenance"), Mapping):
        merged["provenance"] = {**found["provenance"], **given["provenance"]}
    if "tumour" in found and isinstance(given.get("tumour", {}), Mapping):
        merged["tumour"] = _tumour(found["tumour"], given.get("tumour", {}), where)
    return merged


def _tumour(found: Mapping[str, Any], given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """How the mask is made. By argmax the threshold decides nothing of it, and may be anything."""
    for key, value in found.items():
        if key in given and given[key] != value:
            raise UsageError(f"{where}: tumour.{key} is {given[key]}, the MONAI bundle says {value}")
    return {"threshold": 0.5, **found, **given}
