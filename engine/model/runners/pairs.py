"""Which artefact may run on which runtime in which precision, and which of these is taken.

fp32 on ONNX Runtime is the reference and always allowed. Anything else runs only where the bundle's parity
table holds a row for it: what its maker measured and found to say the same.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection
from dataclasses import dataclass

from npc_edge.engine.errors import BackendError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.manifest import Artefact
from npc_edge.engine.types import Options


@dataclass(frozen=True)
class Pair:
    """An ONNX artefact (by its precision) on a backend, and the precision it then executes in."""

    artefact: str
    backend: str
    precision: str

    def __str__(self) -> str:
        file = "" if self.artefact in ("fp32", self.precision) else f" from the {self.artefact} artefact"
        return f"{self.backend} {self.precision}{file}"


REFERENCE = Pair("fp32", "onnxruntime", "fp32")

CPU_PAIRS = (
    Pair("int8-u8s8", "openvino", "int8-u8s8"),
    Pair("fp32", "openvino", "bf16"),
    Pair("fp32", "openvino", "fp32"),
    Pair("int8-u8s8", "onnxruntime", "int8-u8s8"),
    REFERENCE,
    # A CPU has no fp16 convolution: these only save disk.
    Pair("fp16", "openvino", "fp32"),
    Pair("fp16", "onnxruntime", "fp16"),
)
"""Every pair a CPU runs in this version, the fastest first on 3D convolutions as measured; `auto` takes the
first it may. Signed int8 activations (int8-s8s8) are TensorRT's: OpenVINO gets them silently wrong."""

_BF16_SETS = ("amx_int8", "avx512_bf16")
_LONG = {"int8": "int8-u8s8"}
"""What --precision says → the execution precision it means on a CPU, where they differ."""


def held_pairs(bundle: Bundle, network: str) -> tuple[Pair, ...]:
    """The pairs whose artefact the network holds, fastest first."""
    return tuple(pair for pair in CPU_PAIRS if bundle.find(network, pair.artefact) is not None)


def allowed_pairs(bundle: Bundle, network: str, isa: str, proven: Collection[Pair] = ()) -> tuple[Pair, ...]:
    """The pairs the bundle lets run on an instruction set, fastest first, whether or not they are installed.

    Floating point measured on one instruction set holds on all; int8 does not (without VNNI, sums of u8 x s8
    saturate): there a row of another instruction set counts only for pairs in `proven`, whose golden cases
    this machine has passed (`acceptance.prove`).
    """
    allowed = []
    for pair in held_pairs(bundle, network):
        artefact = bundle.find(network, pair.artefact)
        sets = set() if artefact is None else measured_sets(artefact, pair)
        elsewhere = bool(sets) and (not pair.precision.startswith("int8") or pair in proven)
        if pair == REFERENCE or isa in sets or elsewhere:
            allowed.append(pair)
    return tuple(allowed)


def unproven_pairs(bundle: Bundle, network: str, isa: str) -> tuple[Pair, ...]:
    """The pairs that wait for nothing but this machine's golden cases."""
    without = allowed_pairs(bundle, network, isa)
    return tuple(p for p in allowed_pairs(bundle, network, isa, CPU_PAIRS) if p not in without)


def measured_sets(artefact: Artefact, pair: Pair) -> set[str]:
    """The instruction sets the artefact's parity table has the pair on."""
    return {
        row.isa for row in artefact.parity if (row.backend, row.precision) == (pair.backend, pair.precision)
    }


def missing_here(pair: Pair, isa: str) -> str:
    """Why this machine cannot run a pair, "" where it can."""
    if importlib.util.find_spec(pair.backend) is None:
        return f"{pair.backend} is not installed (pip install {pair.backend})"
    if pair.precision == "bf16" and isa not in _BF16_SETS:
        return f"this CPU ({isa}) has no bf16 instructions"
    return ""


def choose(bundle: Bundle, network: str, options: Options, isa: str, proven: Collection[Pair] = ()) -> Pair:
    """The fastest pair that is allowed, is here and is what the options ask for; BackendError without one.

    What is asked for is asked of the network that decides: a locator without it takes its best pair.
    """
    if options.device not in ("auto", "cpu"):
        raise BackendError(f"device {options.device} is not in this version", "use --device cpu")
    allowed = [p for p in allowed_pairs(bundle, network, isa, proven) if not missing_here(p, isa)]
    fits = [pair for pair in allowed if asked_for(pair, options)]
    if not fits and bundle.network(network).locates:
        fits = allowed
    if fits:
        return fits[0]
    asked = " ".join(word for word in (options.backend, options.precision) if word != "auto")
    told = ", ".join(str(pair) for pair in allowed) or "nothing"
    raise BackendError(
        f"network {network} of {bundle.name} cannot run{f' as {asked}' if asked else ''} here: "
        f"{_why_not(bundle, network, options, isa)}",
        f"allowed here: {told}; leave --backend and --precision at auto",
    )


def asked_for(pair: Pair, options: Options) -> bool:
    """True when a pair is one the options name."""
    wanted = _LONG.get(options.precision, options.precision)
    return options.backend in ("auto", pair.backend) and wanted in ("auto", pair.precision)


def _why_not(bundle: Bundle, network: str, options: Options, isa: str) -> str:
    """The last thing that stands in the way of the pair that came furthest."""
    named = [pair for pair in CPU_PAIRS if asked_for(pair, options)]
    if options.backend == "tensorrt":
        return "this version has no TensorRT runner"
    if not named:
        return f"{options.backend} does not execute in {options.precision} on a CPU"
    held = [pair for pair in named if bundle.find(network, pair.artefact) is not None]
    if not held:
        return f"it holds no {' or '.join(sorted({pair.artefact for pair in named}))} artefact"
    if unproven := [pair for pair in held if pair in unproven_pairs(bundle, network, isa)]:
        return (
            f"the parity of {unproven[0]} was measured on another instruction set than {isa}, and this "
            "machine's golden cases did not confirm it"
        )
    listed = [pair for pair in held if pair in allowed_pairs(bundle, network, isa)]
    if not listed:
        return f"its parity table has no row for {' or '.join(str(pair) for pair in held)}"
    return missing_here(listed[0], isa)
