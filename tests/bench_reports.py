"""A report as `npc-edge bench` writes it, small and made up, for what reads one."""

from __future__ import annotations

import copy
from typing import Any

_STAGES = {"read": 100.0, "locate": 50.0, "infer": 300.0, "output": 500.0, "total": 950.0}


def _side(scale: float) -> dict[str, Any]:
    stages = {name: dict.fromkeys(("p50", "p90", "p99"), scale * value) for name, value in _STAGES.items()}
    half = {
        "seconds": dict.fromkeys(("p50", "p90", "p99", "min", "max", "mean"), scale * 1.0) | {"runs": 3},
        "stages_ms": stages,
        "samples": [scale * 0.9, scale * 1.0, scale * 1.1],
        "median_run": {"seconds": scale * 1.0, "stages_ms": {n: scale * v for n, v in _STAGES.items()}},
    }
    return {
        "first_run": {"open_s": 0.5, "run_s": scale},
        "warm": {**half, "p99_over_p50": 1.1, "studies_an_hour": 3600 / scale},
        "cold": copy.deepcopy(half),
        "memory": {"peak_mb": 500.0 * scale, "device_mb": None},
    }


def report(*, peer: bool = False, noise: float = 0.02, loop: float = 0.01) -> dict[str, Any]:
    """loop: seconds of a round of the reference loop."""
    ratio = {"pairs": 3, "median": 4.0, "low": 3.5, "high": 4.5, "p5": 3.5, "p95": 4.5}
    made: dict[str, Any] = {
        "schema": 1,
        "measured": "2026-01-01T00:00:00Z",
        "machine": {"processor": "A CPU", "cores": 2, "instruction_set": "avx2", "memory_gb": 8.0},
        "load": {"before": 0.1, "after": 0.2},
        "study": {"shape": [36, 512, 512], "voxels": 18_874_368, "files": 72, "bytes": 38_000_000},
        "bundle": {"name": "tiny 1", "sha256": "0" * 64},
        "engine": {
            **_side(1.0),
            "backend": "onnxruntime",
            "precision": "fp32",
            "device": "cpu",
            "threads": 2,
        },
        "reference_loop": {
            "runs": 3,
            "p50": loop,
            "p99": loop * 1.1,
            "noise": noise,
            "samples": [loop * 0.9, loop, loop * 1.1],
        },
        "peaks": {"fp32": 100.0, "bf16": None, "int8-u8s8": None, "copy": 20.0},
        "network": {
            "name": "npc",
            "ways": {"onnxruntime fp32": {"p50": 0.3, "gflop_s": 110.0}},
            "left_out": {"onnxruntime-cuda fp16": "no CUDAExecutionProvider"},
        },
        "achieved": {
            "windows": 1,
            "ms_a_window": 300.0,
            "mvoxel_s": 18.9,
            "peak_used": "fp32",
            "gflop_s": 60.0,
            "gflop_percent": 60.0,
            "network_gb_s": 1.0,
            "network_gb_percent": 5.0,
        },
    }
    if peer:
        made["peer"] = {
            **_side(4.0),
            "chosen": "torch <fast>",
            "device": "cpu",
            "versions": {},
            "left_out": {},
        }
        made["ratios"] = dict.fromkeys(("network", "non_network", "total", "cold"), ratio)
        made["agreement"] = {"tumour_dice": 0.99, "structures_equal": 0.997, "same_files": True}
        made["network"]["engine"] = "onnxruntime fp32"
        made["network"]["ratios"] = {"fp32": {"way": "torch fp32 eager", **ratio}}
    return made
