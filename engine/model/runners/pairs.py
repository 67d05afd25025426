"""Which artefact may run on which runtime in which precision.

fp32 on ONNX Runtime is the reference and always allowed. Anything else runs only where the bundle's parity
table holds a row for it: what its maker measured and found to say the same. Which of the allowed is taken,
`engine.model.choice` measures.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from npc_edge.engine.errors import BackendError
from npc_edge.engine.gpu import find_gpus
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

    @property
    def family(self) -> str:
        """What --backend calls it: "onnxruntime" for "onnxruntime-cuda", "tensorrt" for "tensorrt-rtx"."""
        return self.backend.partition("-")[0]

    @property
    def on_gpu(self) -> bool:
        """True when it needs an NVIDIA GPU."""
        return self.backend not in ("onnxruntime", "openvino")

    @property
    def module(self) -> str:
        """The module that must be installed."""
        return "tensorrt_rtx" if self.backend == "tensorrt-rtx" else self.family


REFERENCE = Pair("fp32", "onnxruntime", "fp32")

CPU_PAIRS = (
    Pair("int8-u8s8", "openvino", "int8-bf16"),
    Pair("int8-u8s8", "openvino", "int8-u8s8"),
    Pair("fp32", "openvino", "bf16"),
    Pair("fp32", "openvino", "fp32"),
    Pair("int8-u8s8", "onnxruntime", "int8-u8s8"),
    REFERENCE,
    # A CPU has no fp16 convolution: these only save disk.
    Pair("fp16", "openvino", "fp32"),
    Pair("fp16", "onnxruntime", "fp16"),
)
"""Every pair a CPU runs, the fastest first on 3D convolutions as measured elsewhere: the order in which they
are tried, and which decides between two that are equally fast here. Signed int8 activations (int8-s8s8) are
TensorRT's: OpenVINO gets them silently wrong. int8-bf16: the layers that the file leaves in floating point
run in bf16."""

GPU_PAIRS = tuple(
    Pair(precision, backend, precision)
    for backend, precisions in (
        ("tensorrt", ("int8-s8s8", "fp16", "fp32")),
        ("tensorrt-rtx", ("int8-s8s8", "fp16", "fp32")),
        ("onnxruntime-tensorrt", ("int8-s8s8", "fp16", "fp32")),
        ("onnxruntime-cuda", ("fp16", "fp32")),
    )
    for precision in precisions
)
"""Every pair an NVIDIA GPU runs, in the order in which they are tried. TensorRT refuses unsigned activations;
ONNX Runtime's CUDA provider has no int8 convolution."""

_BF16_SETS = ("amx_int8", "avx512_bf16")
_INT8 = ("int8-bf16", "int8-u8s8", "int8-s8s8")
"""What --precision int8 means: unsigned activations on a CPU, signed ones on a GPU."""


def held_pairs(bundle: Bundle, network: str, pairs: Sequence[Pair] = CPU_PAIRS) -> tuple[Pair, ...]:
    """The pairs whose artefact the network holds, in their order."""
    return tuple(pair for pair in pairs if bundle.find(network, pair.artefact) is not None)


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


def gpu_pairs(bundle: Bundle, network: str) -> tuple[Pair, ...]:
    """The pairs a GPU may run once they have passed this machine's golden cases on it.

    No bundle's maker has every GPU: a parity row speaks for the artefact in that precision whatever backend
    it was measured on (int8-s8s8: on ONNX Runtime, whose arithmetic stands in for TensorRT's), and golden
    cases on the GPU itself are never left out.
    """
    allowed = []
    for pair in held_pairs(bundle, network, GPU_PAIRS):
        artefact = bundle.find(network, pair.artefact)
        if artefact is not None and any(row.precision == pair.precision for row in artefact.parity):
            allowed.append(pair)
    return tuple(allowed)


def measured_sets(artefact: Artefact, pair: Pair) -> set[str]:
    """The instruction sets the artefact's parity table has the pair on."""
    return {
        row.isa for row in artefact.parity if (row.backend, row.precision) == (pair.backend, pair.precision)
    }


def missing_here(pair: Pair, isa: str) -> str:
    """Why this machine cannot run a pair of a CPU, "" where it can."""
    if absent := not_installed(pair):
        return absent
    if pair.precision.endswith("bf16") and isa not in _BF16_SETS:
        return f"this CPU ({isa}) has no bf16 instructions"
    return ""


def not_installed(pair: Pair) -> str:
    """What of a pair's runtime is not installed and how to get it, "" where it is. Nothing is imported."""
    if importlib.util.find_spec(pair.module) is None:
        name = {"tensorrt_rtx": "tensorrt-rtx"}.get(pair.module, pair.module)
        return f"{name} is not installed (pip install {name})"
    return ""


def choose(bundle: Bundle, network: str, options: Options, isa: str, proven: Collection[Pair] = ()) -> Pair:
    """The first pair of a CPU that is allowed, is here and is what the options ask for; BackendError without.

    What is asked for is asked of the network that decides: a locator without it takes its best pair.
    """
    if options.device not in ("auto", "cpu"):
        raise BackendError(f"device {options.device} is not a CPU", "use --device cpu")
    allowed = [p for p in allowed_pairs(bundle, network, isa, proven) if not missing_here(p, isa)]
    fits = [pair for pair in allowed if asked_for(pair, options)]
    if not fits and bundle.network(network).locates:
        fits = allowed
    if fits:
        return fits[0]
    raise cannot_run(bundle, network, options, isa, allowed)


def asked_for(pair: Pair, options: Options) -> bool:
    """True when a pair is one the options name."""
    wanted = _INT8 if options.precision == "int8" else (options.precision,)
    here = options.device == "auto" or (options.device != "cpu") == pair.on_gpu
    return here and options.backend in ("auto", pair.family) and bool({"auto", pair.precision} & {*wanted})


def cannot_run(
    bundle: Bundle, network: str, options: Options, isa: str, allowed: Collection[Pair], why: str = ""
) -> BackendError:
    """The error that says what was asked for, what stands in its way (why, or the last thing of the pair that
    came furthest) and what may run."""
    named = (("auto", options.backend), ("auto", options.precision), ("auto", options.device))
    asked = " ".join(word for default, word in named if word != default)
    told = ", ".join(str(pair) for pair in allowed) or "nothing"
    return BackendError(
        f"network {network} of {bundle.name} cannot run{f' as {asked}' if asked else ''} here: "
        f"{why or _why_not(bundle, network, options, isa)}",
        f"allowed here: {told}; leave --backend, --precision and --device at auto",
    )


def _why_not(bundle: Bundle, network: str, options: Options, isa: str) -> str:
    """The last thing that stands in the way of the pair that came furthest."""
    named = [p for p in CPU_PAIRS if asked_for(p, options)] or [p for p in GPU_PAIRS if asked_for(p, options)]
    if not named:
        where = "a CPU" if options.device in ("auto", "cpu") else "a GPU"
        backend = "nothing" if options.backend == "auto" else options.backend
        return f"{backend} does not execute in {options.precision} on {where}"
    held = [pair for pair in named if bundle.find(network, pair.artefact) is not None]
    if not held:
        return f"it holds no {' or '.join(sorted({pair.artefact for pair in named}))} artefact"
    if unproven := [pair for pair in held if pair in unproven_pairs(bundle, network, isa)]:
        return (
            f"the parity of {unproven[0]} was measured on another instruction set than {isa}, and this "
            "machine's golden cases did not confirm it"
        )
    listed = [pair for pair in held if pair in allowed_pairs(bundle, network, isa)]
    if listed:
        return missing_here(listed[0], isa)
    if ready := [pair for pair in held if pair in gpu_pairs(bundle, network)]:
        absent = dict.fromkeys(why for pair in ready if (why := not_installed(pair)))
        return find_gpus().why or "; ".join(absent) or "no GPU runs it"
    return f"its parity table has no row for {' or '.join(str(pair) for pair in held)}"
