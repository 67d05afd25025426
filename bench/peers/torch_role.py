"""PyTorch and MONAI as a process of a bench: every way to run the network is tried, the fastest kept."""

from __future__ import annotations

import copy
import json
import subprocess
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import monai
import torch

from npc_edge.bench.peers import given
from npc_edge.bench.peers.monai_pipeline import MonaiPeer
from npc_edge.bench.peers.networks import Prepared, Variant, rebuild, variants
from npc_edge.bench.timing.order import load
from npc_edge.engine.errors import BackendError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import golden_cases
from npc_edge.engine.model.runner import IMAGE
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.feed import first_line
from npc_edge.engine.output.scribe import Scribe
from npc_edge.engine.state import State
from npc_edge.engine.types import RunnerInfo

Answer = dict[str, Any]

_TRIES = 3
_FAULTS = (RuntimeError, OSError, TypeError, ValueError, subprocess.SubprocessError)
"""What a way may fail with: memory, a compiler that is missing or refuses."""
_CHOSEN = "torch.json"
_WEIGHTS = "torch.pt"


class TorchRole:
    """See `worker.Role`. `open` tries every variant once a bench and keeps its choice for the cold runs: of
    those that are not compiled, for a new process would compile them again."""

    def __init__(self, scratch: Path) -> None:
        warnings.simplefilter("ignore")
        order = load(scratch)
        torch.set_num_threads(order.threads or available_cores())
        self._scratch = scratch
        self._device = "cuda" if torch.cuda.is_available() else "cpu"
        self._state = State.open(scratch / "state")
        self._bundle = bundles.load(order.bundle, self._state.keys(), order.allow_unsigned)
        self._decider = [n.name for n in self._bundle.manifest.networks if not n.locates][-1]
        self._ready: dict[str, Prepared] = {}
        self._scribe = Scribe()  # ends with this process

    def open(self) -> Answer:
        begun = time.perf_counter()
        kind = "cold" if (self._scratch / _CHOSEN).exists() else "warm"
        if kind == "warm":
            self._choose(variants(self._device))
        found = json.loads((self._scratch / _CHOSEN).read_text(encoding="utf-8"))
        chosen = Variant(**found[kind])
        # Its own file of this bench, in a folder only this bench writes to.
        self._networks = torch.load(self._scratch / _WEIGHTS, weights_only=False)
        prepared = {name: Prepared(copy.deepcopy(net), chosen) for name, net in self._networks.items()}
        info = RunnerInfo(
            "torch",
            self._device,
            chosen.precision,
            f"artefacts/{self._decider}.fp32.onnx",
            torch.__version__,
            instruction_set(),
            torch.get_num_threads(),
        )
        self._peer = MonaiPeer(self._bundle, prepared, info, self._state.key_for, self._device, self._scribe)
        self._given = given.load(self._scratch)
        return {
            "seconds": time.perf_counter() - begun,
            "ways": list(found["precisions"]),
            "precisions": found["precisions"],
            "left_out": found["left_out"],
            "chosen": chosen.name,
            "device": self._device,
            "versions": {"torch": torch.__version__, "monai": monai.__version__},
        }

    def run(self, out: Path) -> Answer:
        begun = time.perf_counter()
        ran = self._peer.run(self._given, out)
        return {"seconds": time.perf_counter() - begun, "timings_ms": dict(ran.timings_ms)}

    def network(self, way: str) -> Answer:
        if way not in self._ready:
            self._image = torch.from_numpy(next(golden_cases(self._bundle, self._decider)).inputs[IMAGE])
            variant = next(v for v in variants(self._device) if v.name == way)
            self._ready[way] = Prepared(copy.deepcopy(self._networks[self._decider]), variant)
            self._ready[way](self._image)
        begun = time.perf_counter()
        self._ready[way](self._image)
        return {"seconds": time.perf_counter() - begun}

    def _choose(self, ways: tuple[Variant, ...]) -> None:
        """Rebuild the networks, compare them with the bundle's files, find the fastest way to run them."""
        self._networks = {n.name: rebuild(self._bundle, n.name) for n in self._bundle.manifest.networks}
        torch.save(self._networks, self._scratch / _WEIGHTS)
        best, left_out = quickest(ways, lambda way: float(self.network(way.name)["seconds"]))
        found = {kind: vars(way) for kind, way in best.items()}
        kept = {way.name: way.precision for way in ways if way.name not in left_out}
        (self._scratch / _CHOSEN).write_text(
            json.dumps({**found, "precisions": kept, "left_out": left_out}), encoding="utf-8"
        )


def quickest(
    ways: Sequence[Variant], seconds: Callable[[Variant], float]
) -> tuple[dict[str, Variant], dict[str, str]]:
    """The fastest way, "warm", and the fastest that is not compiled, "cold"; and why others do not run.

    BackendError when none runs.
    """
    taken: dict[Variant, float] = {}
    left_out: dict[str, str] = {}
    for way in ways:
        try:
            taken[way] = min(seconds(way) for _ in range(_TRIES))
        except _FAULTS as error:
            left_out[way.name] = first_line(error)
    plain = [way for way in taken if not way.compiled]
    if not plain:
        raise BackendError(f"PyTorch runs the network in no way here: {left_out}")
    best = {"warm": min(taken, key=taken.__getitem__), "cold": min(plain, key=taken.__getitem__)}
    return best, left_out
