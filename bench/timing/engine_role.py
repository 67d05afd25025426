"""The engine as a process of a bench: one session kept open, and its deciding network alone."""

from __future__ import annotations

import math
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from npc_edge.bench.timing.order import Order, load
from npc_edge.bench.timing.work import work_of
from npc_edge.engine.errors import NpcEdgeError, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model import nnunet
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.prepare import grid
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.devices import gpu_for, missing_on
from npc_edge.engine.model.runners.pairs import Pair, allowed_pairs, gpu_pairs, missing_here
from npc_edge.engine.model.sliding_window import windows
from npc_edge.engine.session import Session

Answer = dict[str, Any]


class EngineRole:
    """See `worker.Role`. `network` takes a pair as the parity table writes it, "openvino int8-u8s8"."""

    def __init__(self, scratch: Path) -> None:
        self._order: Order = load(scratch)
        self._scratch = scratch
        self._keep = ExitStack()
        self._runners: dict[str, Runner] = {}

    def open(self) -> Answer:
        begun = time.perf_counter()
        options = self._order.options(self._scratch)
        self._session = self._keep.enter_context(Session(self._order.bundle, options))
        seconds = time.perf_counter() - begun
        bundle = self._session.bundle
        self._decider = [n.name for n in bundle.manifest.networks if not n.locates][-1]
        pairs = [p for p in allowed_pairs(bundle, self._decider, _isa()) if not missing_here(p, _isa())]
        # A GPU's engines lie where the session keeps them. What is not there yet is built when it is asked
        # for the first time, before any clock runs.
        self._gpu = gpu_for(options, self._scratch / "state" / "engines")
        pairs += [p for p in gpu_pairs(bundle, self._decider) if not missing_on(p, self._gpu)]
        self._pairs = {f"{p.backend} {p.precision}": p for p in pairs}
        left_out = self._try_on_gpu()
        work = work_of(bundle.artefact(self._decider, "fp32"))
        return {
            "seconds": seconds,
            "bundle": bundle.name,
            "bundle_sha256": bundle.manifest_sha256,
            "pairs": list(self._pairs) if next(golden_cases(bundle, self._decider), None) else [],
            "left_out": left_out,
            "network": self._decider,
            "flop_a_window": None if work is None else work.flop,
            "values_a_window": None if work is None else work.values,
        }

    def run(self, out: Path) -> Answer:
        begun = time.perf_counter()
        result = self._session.run(self._order.study, out)
        seconds = time.perf_counter() - begun
        if result.findings is None:
            reason = result.document.reasons[0]
            raise Refusal(reason.code, reason.message, "a bench wants a study that gets a result")
        runtime, chosen = result.document.runtime, result.findings.segmentation.geometry
        return {
            "seconds": seconds,
            "timings_ms": dict(runtime.timings_ms),
            "windows": windows_of(self._session.bundle, chosen),
            "shape": list(chosen.shape),
            "voxels": math.prod(chosen.shape) * len(self._session.bundle.manifest.sequences),
            "backend": runtime.backend,
            "device": runtime.device,
            "precision": runtime.precision,
            "threads": runtime.threads,
            "fallback": runtime.fallback,
        }

    def _try_on_gpu(self) -> dict[str, str]:
        """Pairs of a GPU that turn out not to run here are left out: which, and why."""
        left_out: dict[str, str] = {}
        golden = next(golden_cases(self._session.bundle, self._decider), None)
        for way, pair in list(self._pairs.items()):
            try:
                if pair.on_gpu and golden is not None:
                    self._runner(way)
            except NpcEdgeError as error:
                left_out[way] = error.one_line()
                del self._pairs[way]
        return left_out

    def _runner(self, way: str) -> Runner:
        bundle = self._session.bundle
        if way not in self._runners:
            pair: Pair = self._pairs[way]
            opened = open_pair(bundle, self._decider, pair, self._order.threads, self._gpu)
            runner = self._keep.enter_context(opened)
            self._case = next(golden_cases(bundle, self._decider))
            runner.infer(self._case.inputs)
            self._runners[way] = runner
        return self._runners[way]

    def network(self, way: str) -> Answer:
        runner = self._runner(way)
        begun = time.perf_counter()
        runner.infer(self._case.inputs)
        return {"seconds": time.perf_counter() - begun}


def windows_of(bundle: Bundle, reference: Geometry) -> int:
    """How many windows of the deciding networks a study takes. reference: the grid of its reference sequence.

    An nnU-Net's is counted over the whole image; where it crops air away it takes fewer.
    """
    total = 0
    for network in bundle.manifest.networks:
        if network.locates:
            continue
        if network.nnunet is not None:
            shape = _nnunet_shape(network, reference)
            turns = 2 ** len(network.nnunet.mirror_axes)
        else:
            around = network.region != "whole"
            shape = grid(reference, network, reference.centre if around else None).shape
            turns = 1
        total += turns * sum(1 for _ in windows(shape, network))
    return total


def _nnunet_shape(network: NetworkSpec, reference: Geometry) -> tuple[int, int, int]:
    scheme = nnunet.scheme_of(network)
    x, y, z = reference.spacing
    turned = [reference.shape[axis] for axis in scheme.transpose]
    spacing = [(z, y, x)[axis] for axis in scheme.transpose]
    shape = nnunet.resampled_shape(
        (turned[0], turned[1], turned[2]), (spacing[0], spacing[1], spacing[2]), network.spacing
    )
    a, b, c = (max(n, w) for n, w in zip(shape, network.window, strict=True))
    return a, b, c


def _isa() -> str:
    return instruction_set()
