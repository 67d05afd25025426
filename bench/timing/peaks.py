"""What this machine can do at most, measured: products in fp32, bf16 and int8, and copies of memory.

Products of large matrices and a large convolution, by NumPy and by OpenVINO, whichever is faster: a peak that
software reaches, not one of a data sheet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np

from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.openvino import load_openvino

_COPY_BYTES = 256 * 2**20
_LAYERS = 3
_KINDS = ("matmul", "convolution")


def measure(seconds: float = 1.0) -> dict[str, float | None]:
    """fp32, bf16, int8-u8s8 in GFLOP/s (an int8 multiply-add counts two), copy in GB/s (read plus written).

    seconds: how long each way is tried; the best of its runs counts. None for what no runtime here does.
    """
    found: dict[str, float | None] = {"fp32": _numpy_gemm(seconds), "bf16": None, "int8-u8s8": None}
    try:
        openvino = load_openvino()
    except BackendError:
        openvino = None
    if openvino is not None:
        wide = instruction_set() in ("amx_int8", "avx512_bf16")
        for precision in ("fp32", "bf16", "int8-u8s8"):
            if precision != "bf16" or wide:
                best = max(
                    _openvino(openvino, kind, precision, seconds) for kind in ("matmul", "convolution")
                )
                found[precision] = max(best, found[precision] or 0.0)
    found["copy"] = _copy(seconds)
    return {name: None if value is None else round(value, 1) for name, value in found.items()}


def _best(work: Callable[[], object], seconds: float) -> float:
    """Seconds of the fastest of several runs, the first not counted."""
    work()
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        begun = time.perf_counter()
        work()
        now = time.perf_counter()
        best = min(best, now - begun)
        if now > end:
            return best


def _numpy_gemm(seconds: float, side: int = 1536) -> float:
    matrix = np.random.default_rng(0).standard_normal((side, side), dtype=np.float32)
    out = np.empty_like(matrix)
    return 2 * side**3 / _best(lambda: np.matmul(matrix, matrix, out=out), seconds) / 1e9


def _copy(seconds: float) -> float:
    """All cores, each its own part of an array too large for any cache."""
    cores = available_cores()
    source = np.ones(_COPY_BYTES // 4, dtype=np.float32)
    target = np.empty_like(source)
    parts = [(target[i : i + n], source[i : i + n]) for i, n in _shares(source.size, cores)]
    with ThreadPoolExecutor(cores) as pool:

        def work() -> None:
            for done in [pool.submit(np.copyto, to, where) for to, where in parts]:
                done.result()

        return 2 * _COPY_BYTES / _best(work, seconds) / 1e9


def _shares(size: int, count: int) -> list[tuple[int, int]]:
    """(start, length) of equal shares."""
    edges = [size * i // count for i in range(count + 1)]
    return [(low, high - low) for low, high in pairwise(edges)]


def _openvino(openvino: Any, kind: str, precision: str, seconds: float) -> float:
    """GFLOP/s of a few equal layers, one after the other, so that what stands before them counts little."""
    shape, weights, flop = _layer(kind)
    model = _chain(openvino, shape, weights, precision == "int8-u8s8")
    hint = "bf16" if precision == "bf16" else "f32"
    settings = {
        "INFERENCE_PRECISION_HINT": hint,
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": 0,
        "INFERENCE_NUM_THREADS": available_cores(),
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    }
    compiled = openvino.Core().compile_model(model, "CPU", settings)
    if precision == "int8-u8s8" and not _integers(compiled):
        return 0.0
    request = compiled.create_infer_request()
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    return flop / _best(lambda: request.infer([image], share_inputs=True), seconds) / 1e9


def _layer(kind: str) -> tuple[tuple[int, ...], tuple[int, ...], float]:
    """Input shape, weight shape, and operations of the whole chain."""
    if kind == "matmul":
        rows, side = 1024, 2048
        return (rows, side), (side, side), 2.0 * rows * side * side * _LAYERS
    channels, edge = 128, 24
    shape, weights = (1, channels, edge, edge, edge), (channels, channels, 3, 3, 3)
    return shape, weights, 2.0 * edge**3 * channels * channels * 27 * _LAYERS


def _chain(openvino: Any, shape: tuple[int, ...], weights: tuple[int, ...], quantised: bool) -> Any:
    ops = openvino.opset13
    image = ops.parameter(list(shape), np.float32, name="image")
    rng = np.random.default_rng(1)
    node = image
    for _ in range(_LAYERS):
        kernel = rng.integers(-127, 128, weights, dtype=np.int8)
        scale = np.float32(1 / (127 * np.sqrt(np.prod(weights[1:]))))
        factor = ops.multiply(ops.convert(ops.constant(kernel), "f32"), ops.constant(scale))
        if quantised:
            low, high = np.float32(0), np.float32(1)
            node = ops.fake_quantize(node, low, high, low, high, 256)
        else:
            factor = ops.constant(kernel.astype(np.float32) * scale)
        if len(weights) == 2:
            node = ops.matmul(node, factor, False, False)
        else:
            node = ops.convolution(node, factor, [1, 1, 1], [1, 1, 1], [1, 1, 1], [1, 1, 1])
        node = ops.relu(node)
    return openvino.Model([node], [image], "peak")


def _integers(compiled: Any) -> bool:
    """True when the products run on 8-bit integers."""
    for node in compiled.get_runtime_model().get_ops():
        facts = node.get_rt_info()
        if facts["layerType"].value in ("Convolution", "MatMul", "FullyConnected"):
            return str(facts["runtimePrecision"].value) in ("u8", "i8")
    return False
