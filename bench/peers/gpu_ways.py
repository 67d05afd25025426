"""Every way to run one network on one device: PyTorch's, and ONNX Runtime's and TensorRT's on its memory.

What is timed is one window that lies on the device already, its outputs left there, both sides alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from npc_edge.bench.gpu_rounds import Attempt, Way
from npc_edge.bench.peers.networks import Prepared, Variant, variants
from npc_edge.engine.errors import BackendError
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners.devices import gpu_for
from npc_edge.engine.model.runners.feed import first_line
from npc_edge.engine.model.runners.onnxruntime import PROVIDERS, Provider, faults, load_onnxruntime, require
from npc_edge.engine.model.runners.tensorrt import Engine, TensorRtRunner
from npc_edge.engine.model.runners.tensorrt_build import RUNTIMES, Runtime, build_engine, load_tensorrt
from npc_edge.engine.types import Options
from npc_edge.kernels.launch import CudaArray

_TOLERANCE = {"fp32": "fp32", "tf32": "fp16", "fp16": "fp16", "bf16": "bf16"}
"""How a way computes → which of `acceptance.TOLERANCES` it is judged by: TF32 has fp16's mantissa."""


@dataclass(frozen=True, eq=False)
class Subject:
    """A network to run. module: on the CPU, fp32; ways take copies. image: (1, C, Z, Y, X) float32 on the
    device. shapes: name of each output, in the module's order → its shape. files: precision → ONNX file.
    number: which GPU."""

    module: Callable[[], nn.Module]
    image: Tensor
    shapes: Mapping[str, tuple[int, ...]]
    files: Mapping[str, Path]
    number: int = 0


def torch_ways(subject: Subject, compiler: str = "inductor") -> Iterator[Attempt]:
    """PyTorch's: what `--against torch` tries, and on a GPU compiled into a CUDA graph too."""
    device = subject.image.device.type
    tried = list(variants(device))
    if device == "cpu":
        tried.append(Variant("fp32", True, device, "default"))
    else:
        tried += [Variant(p, True, device, "reduce-overhead") for p in ("fp16", "autocast")]
    for variant in tried:
        opened = partial(torch_way, subject, variant, compiler)
        yield Attempt(variant.name, opened, peer=True, slow=bool(variant.compiled))


def torch_way(subject: Subject, variant: Variant, compiler: str = "inductor") -> Way:
    """One variant, open."""
    prepared = Prepared(subject.module(), variant, compiler)
    outputs: list[Tensor] = []

    def run() -> None:
        outputs[:] = prepared(subject.image)

    def held() -> dict[str, Any]:
        return dict(zip(subject.shapes, outputs, strict=True))

    precision = variant.precision
    if precision == "autocast":
        precision = "bf16" if variant.device == "cpu" else "fp16"
    return Way(run, lambda: on_host(held()), _TOLERANCE[precision], held)


def onnxruntime_ways(subject: Subject) -> Iterator[Attempt]:
    """ONNX Runtime's: each file on the device's providers; on CUDA fp32 with TF32 too."""
    if subject.image.device.type == "cpu":
        asked = [("onnxruntime", precision, False) for precision in subject.files]
    else:
        asked = [("onnxruntime-cuda", precision, False) for precision in subject.files]
        asked += [("onnxruntime-cuda", "fp32", True)] if "fp32" in subject.files else []
        asked += [("onnxruntime-tensorrt", precision, False) for precision in subject.files]
    for backend, precision, tf32 in asked:
        # ONNX Runtime's CUDA provider has no int8 convolution, and no CPU's speed says anything of int8-s8s8.
        if precision != "int8-s8s8" or backend == "onnxruntime-tensorrt":
            name = f"{backend} {'tf32' if tf32 else precision}"
            yield Attempt(name, partial(onnxruntime_way, subject, backend, precision, tf32))


def onnxruntime_way(subject: Subject, backend: str, precision: str, tf32: bool = False) -> Way:
    """A session whose input and outputs are PyTorch's memory, bound once. BackendError where the provider is
    not there or refuses the file."""
    ort = load_onnxruntime()
    require(PROVIDERS[backend], ort.get_available_providers())
    wanted = [
        (name, {**options, "use_tf32": "1"} if tf32 and "use_tf32" in options else options)
        for name, options in Provider(backend, subject.number).asked()
    ]
    options = ort.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = 3
    image = subject.image.contiguous()
    where = (image.device.type, subject.number)
    made = {name: torch.empty(shape, device=image.device) for name, shape in subject.shapes.items()}
    raised = faults()
    try:
        session = ort.InferenceSession(str(subject.files[precision]), options, providers=wanted)
        session.disable_fallback()
        require(PROVIDERS[backend], session.get_providers())
        binding = session.io_binding()
        binding.bind_input(IMAGE, *where, np.float32, tuple(image.shape), image.data_ptr())
        for name, tensor in made.items():
            binding.bind_output(name, *where, np.float32, tuple(tensor.shape), tensor.data_ptr())
    except raised as error:
        raise BackendError(f"ONNX Runtime refuses it: {first_line(error)}") from error

    def run() -> None:
        try:
            session.run_with_iobinding(binding)
        except raised as error:
            raise BackendError(f"ONNX Runtime failed: {first_line(error)}") from error
        wait(image)

    tolerance = _TOLERANCE["tf32"] if tf32 else precision
    return Way(run, lambda: on_host(made), tolerance, lambda: dict(made))


def tensorrt_ways(subject: Subject) -> Iterator[Attempt]:
    """TensorRT's and TensorRT-RTX's, each file by its own precision."""
    for runtime, name in RUNTIMES.items():
        for precision in subject.files:
            yield Attempt(f"{name} {precision}", partial(tensorrt_way, subject, runtime, precision))


def tensorrt_way(subject: Subject, runtime: Runtime, precision: str) -> Way:
    """An engine built for the GPU here, through the engine's own runner, as one CUDA graph. BackendError or
    BundleError, in TensorRT's words, where it does not take the card or the file."""
    gpu = gpu_for(Options(device=f"cuda:{subject.number}"))
    assert gpu is not None, "a GPU that is named is there, or an error"
    trt, path = load_tensorrt(runtime), subject.files[precision]
    plan = build_engine(trt, path, path.name, gpu.capability)
    runner = TensorRtRunner(Engine(lambda: plan, path.name, precision), trt, gpu)
    runner.__enter__()
    image = subject.image.contiguous()
    given: Any = {IMAGE: CudaArray(image.data_ptr(), tuple(image.shape), np.dtype(np.float32), image)}
    found: dict[str, Any] = {}

    def run() -> None:
        found.update(runner.infer_on_device(given))
        wait(image)

    def held() -> dict[str, Any]:
        return {name: torch.as_tensor(found[name], device=image.device) for name in subject.shapes}

    return Way(run, lambda: on_host(held()), precision, held, close=lambda: runner.__exit__(None, None, None))


def use(number: int | None) -> None:
    """Make a GPU PyTorch's own; None: the processor. BackendError where PyTorch cannot use it."""
    if number is None:
        return
    if not torch.cuda.is_available() or number >= torch.cuda.device_count():
        built = torch.version.cuda or "no CUDA"
        raise BackendError(f"PyTorch {torch.__version__}, built for {built}, does not see GPU {number}")
    torch.cuda.set_device(number)


def wait(tensor: Tensor) -> None:
    """Until all that was queued on the tensor's device is done."""
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)


def on_host(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The same as float32 arrays."""
    return {name: tensor.detach().float().cpu().numpy() for name, tensor in tensors.items()}


def flop_of(module: nn.Module, image: Tensor) -> float:
    """Operations of one window: two for each multiply-add of convolutions and matrix products, counted from
    the shapes that pass through (`timing.work` counts the same from an ONNX file, with OpenVINO)."""
    total = 0.0

    def count(part: nn.Module, given: Sequence[Tensor], made: Tensor) -> None:
        nonlocal total
        weight = part.weight
        assert isinstance(weight, Tensor)
        if isinstance(part, nn.ConvTranspose3d):
            total += 2.0 * given[0].numel() * weight[0].numel()
        else:
            total += 2.0 * made.numel() * weight[0].numel()

    kinds = (nn.Conv3d, nn.ConvTranspose3d, nn.Linear)
    hooks = [part.register_forward_hook(count) for part in module.modules() if isinstance(part, kinds)]
    try:
        with torch.inference_mode():
            module(image)
    finally:
        for hook in hooks:
            hook.remove()
    return total
