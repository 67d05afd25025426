"""The demo bundle's networks in PyTorch, with the weights of the bundle's own fp32 files.

The files hold batch norms folded into the convolutions before them. They stay folded here: PyTorch is given
the smaller network too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from npc_edge.bench.demo.network import LocatorNet, NpcNet
from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.metrics import relative_error
from npc_edge.engine.model.runner import IMAGE, Arrays
from npc_edge.engine.model.runners import open_pair
from npc_edge.engine.model.runners.pairs import REFERENCE

_KNOWN: Mapping[str, tuple[type[NpcNet] | type[LocatorNet], str]] = {
    "npc": (NpcNet, "first.0.0.weight"),
    "locator": (LocatorNet, "one.0.0.weight"),
}
"""Network of a bundle → its definition, and the weight whose first axis is its width."""

_SAME = 1e-4
"""Largest difference from the bundle's file, over an output's range: another order of sums makes it."""


@dataclass(frozen=True)
class Variant:
    """One way to run a network in PyTorch.

    precision: fp32; tf32 (the same with products of ten bits of mantissa, PyTorch's own choice for
    convolutions on a GPU); bf16, fp16 (the convolutions' weights converted once); autocast (converted by
    PyTorch as it goes: bf16 on a CPU, fp16 on a GPU). compiled: a mode of torch.compile, "" for none.
    """

    precision: str
    channels_last: bool
    device: str = "cpu"
    compiled: str = ""

    @property
    def name(self) -> str:
        """In words, e.g. "torch bf16 channels_last_3d"."""
        layout = "channels_last_3d" if self.channels_last else "eager"
        mode = "compiled" if self.compiled == "default" else f"compiled {self.compiled}"
        parts = ["torch", self.precision, layout, *([mode] if self.compiled else [])]
        return " ".join(parts if self.device == "cpu" else [*parts, self.device])


def variants(device: str) -> tuple[Variant, ...]:
    """Every way that is tried: both layouts; a CPU in fp32 and bf16; a GPU in fp32 without and with TF32, in
    fp16, by AMP, and the last two compiled."""
    if device == "cpu":
        return tuple(Variant(p, last) for p in ("fp32", "bf16", "autocast") for last in (False, True))
    precisions = ("fp32", "tf32", "fp16", "autocast")
    made = [Variant(p, last, device) for p in precisions for last in (False, True)]
    return (*made, *(Variant(p, True, device, "default") for p in ("fp16", "autocast")))


def rebuild(bundle: Bundle, name: str) -> nn.Module:
    """The network with the weights of the bundle's fp32 file, checked against that file on its golden cases.

    UsageError when the network is none of the demo bundle's, BundleError when the two differ.
    """
    # A cold run of the peer loads weights as PyTorch keeps them, and shall not pay for this import.
    import onnx

    held = onnx.load(str(bundle.artefact(name, "fp32"))).graph.initializer
    initial = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in held}
    network = _filled(name, initial)
    worst = _difference(bundle, name, network)
    if not worst < _SAME:
        raise BundleError(f"network {name} in PyTorch differs from the bundle's file by {worst:.1e}")
    return network


def _filled(name: str, initial: Mapping[str, NDArray[np.generic]]) -> nn.Module:
    kind, first = _KNOWN.get(name, (None, ""))
    if kind is None or first not in initial:
        raise UsageError(
            f"network {name} has no definition in PyTorch here",
            "--against torch knows the networks of the demo bundle",
        )
    network = kind(int(initial[first].shape[0]))
    for part in network.modules():
        if isinstance(part, nn.Sequential) and len(part) == 3 and isinstance(part[1], nn.BatchNorm3d):
            convolution = part[0]
            assert isinstance(convolution, nn.Conv3d)
            convolution.bias = nn.Parameter(torch.zeros(convolution.out_channels))
            part[1] = nn.Identity()
    weights = {}
    for key in network.state_dict():
        folded = f"{key.removesuffix('bias')}weight_bias"
        source = folded if folded in initial else key
        if source not in initial:
            raise UsageError(f"the file of network {name} holds no {key}", "is it the demo bundle's?")
        weights[key] = torch.from_numpy(np.array(initial[source]))
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise UsageError(f"the weights of network {name} are not those of its definition") from error
    return network.eval().requires_grad_(False)


def _difference(bundle: Bundle, name: str, network: nn.Module) -> float:
    """The largest difference of any output from the bundle's own file, over that output's range."""
    names = [output.name for output in bundle.network(name).outputs]
    worst, cases = 0.0, 0
    with open_pair(bundle, name, REFERENCE) as runner:
        for case in golden_cases(bundle, name):
            expected = runner.infer(case.inputs)
            found = as_arrays(network(torch.from_numpy(case.inputs[IMAGE])), names)
            worst = max(worst, *(relative_error(found[key], expected[key]) for key in names))
            cases += 1
    if not cases:
        raise BundleError(f"the bundle has no golden case of network {name} to compare PyTorch on")
    return worst


def as_arrays(outputs: Tensor | tuple[Tensor, ...], names: list[str]) -> Arrays:
    """What a network returned, as float32 arrays by the names of its outputs."""
    parts = (outputs,) if isinstance(outputs, Tensor) else outputs
    return {name: part.float().cpu().numpy() for name, part in zip(names, parts, strict=True)}


_CONVERTED = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Prepared:
    """A network made ready for one variant; call it with an image (1, C, Z, Y, X) float32.

    compiler: what torch.compile hands the captured program to.
    """

    def __init__(self, network: nn.Module, variant: Variant, compiler: str = "inductor") -> None:
        self.variant = variant
        self._layout = torch.channels_last_3d if variant.channels_last else torch.contiguous_format
        self._kind = _CONVERTED.get(variant.precision, torch.float32)
        made = network.to(variant.device).to(memory_format=self._layout)  # type: ignore[call-overload]
        if variant.precision in _CONVERTED:
            for part in made.modules():
                if isinstance(part, nn.Conv3d | nn.ConvTranspose3d):
                    part.to(self._kind)
        mode = None if variant.compiled == "default" else variant.compiled
        self._network = torch.compile(made, backend=compiler, mode=mode) if variant.compiled else made

    def __call__(self, image: Tensor) -> tuple[Tensor, ...]:
        """Raw outputs in the network's order, on the variant's device, done."""
        variant = self.variant
        if variant.device != "cpu":
            settle(variant.precision == "tf32")
        given = image.to(variant.device, self._kind).contiguous(memory_format=self._layout)
        kind = torch.bfloat16 if variant.device == "cpu" else torch.float16
        with (
            torch.inference_mode(),
            torch.autocast(given.device.type, kind, enabled=variant.precision == "autocast"),
        ):
            outputs = self._network(given)
        if given.is_cuda:  # a GPU answers before it is done: the time is the network's only after this
            torch.cuda.synchronize()
        return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def settle(tf32: bool) -> None:
    """What PyTorch's GPU libraries may do from here on: choose algorithms by trying, and TF32 or not."""
    torch.backends.cudnn.benchmark = True
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = tf32
