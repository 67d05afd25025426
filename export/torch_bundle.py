"""A PyTorch network with its weights becomes a bundle."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.runner import IMAGE, Arrays
from npc_edge.export.make_bundle import Made, Origin, Say, make_bundle
from npc_edge.export.spec import Spec
from npc_edge.export.to_onnx import export_onnx
from npc_edge.export.weights import apply_weights, build_network, load_weights


def bundle_of_weights(
    network: str, weights: Path, spec: Spec, out: Path, key: Ed25519PrivateKey | None, say: Say
) -> Made:
    """Build the network "module:factory" names, load its weights, and make the bundle `out` of it.

    key None: unsigned. Raises UsageError (no such network or weights, or they do not fit), BundleError,
    OutputError.
    """
    say(f"building {network}")
    module = build_network(network)
    said = tuple(map(sentence, apply_weights(module, load_weights(weights), weights.name)))
    facts = {"network": network, **weights_facts(weights)}
    return bundle_of_module(module, spec, out, key, Origin(facts, notes=said), say)


def bundle_of_module(
    module: nn.Module, spec: Spec, out: Path, key: Ed25519PrivateKey | None, origin: Origin, say: Say
) -> Made:
    """Make the bundle `out` of a network that holds its weights; origin: what is known of it already.

    The network takes (1, C, Z, Y, X) and returns one tensor, a sequence of them in the spec's order, or a
    mapping with the spec's names. key None: unsigned. Raises BundleError, OutputError.
    """
    named = NamedOutputs(module, spec.output_names).eval()

    def write(path: Path) -> Origin:
        say(f"exporting {spec.network.name}, window {spec.network.window}")
        made = export_onnx(named, torch.zeros(spec.input_shape), spec.output_names, path)
        notes = origin.notes
        if made.why:
            note = f"The capturing exporter failed ({made.why}); the recording one made the file."
            notes = (*notes, note)
        if made.rewritten is not None:
            notes = (*notes, made.rewritten.sentence())
        facts = {**origin.facts, "torch": version("torch"), "exporter": f"torch.onnx {made.exporter}"}
        return Origin(facts, named.infer, made.errors, notes)

    return make_bundle(spec, out, key, write, say)


class NamedOutputs(nn.Module):
    """A network whose outputs are a tuple in the order of `names`, whatever it returns them in."""

    def __init__(self, network: nn.Module, names: Sequence[str]) -> None:
        super().__init__()
        self.network = network
        self.names = tuple(names)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        made: Any = self.network(image)
        if isinstance(made, Mapping):
            if lacking := [name for name in self.names if name not in made]:
                raise BundleError(f"the network has outputs {', '.join(made)}, not {lacking[0]}")
            return tuple(made[name] for name in self.names)
        return tuple(made) if isinstance(made, tuple | list) else (made,)

    def infer(self, inputs: Arrays) -> Arrays:
        """Named arrays in and out, as a runner has them."""
        with torch.no_grad():
            made = self(torch.from_numpy(inputs[IMAGE]))
        return {name: value.numpy() for name, value in zip(self.names, made, strict=True)}


def weights_facts(path: Path) -> dict[str, str]:
    """Name and SHA-256 of a file of weights, for the provenance."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"the weights {path} cannot be read: {error.strerror}") from error
    return {"weights": path.name, "weights_sha256": digest}


def sentence(words: str) -> str:
    """Words as a sentence for the card."""
    return f"{words[0].upper()}{words[1:]}."
