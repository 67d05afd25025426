"""The one recipe of the demo bundle: cache, train, calibrate, pack, lower. Every stage can be resumed.

    python -m npc_edge.bench.demo --out DIR

Seeds: training below 100000, validation from 100000, the gate's phantoms from 200000 and 450000; those of the
regression (from 500000 and 750000) are never touched.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from npc_edge.bench.demo import cache, intervals
from npc_edge.bench.demo.build import finish
from npc_edge.bench.demo.lowering import lower_all, write_cohort
from npc_edge.bench.demo.stream import Source
from npc_edge.bench.demo.train import Plan, Say, train_locator, train_npc
from npc_edge.export.pack import embed

TRAIN_FROM, VALID_FROM = 1000, 100_000
_NPC_SHARE = 0.92


@dataclass(frozen=True)
class Recipe:
    """What the command was asked for. steps: train that many instead of by the clock. real: with copies of
    the real head. width: channels of the first level; the locator has half."""

    out: Path
    minutes: float
    steps: int | None
    heads: int
    valid: int
    real: bool
    seed: int
    jobs: int
    width: int = 24
    cases: int = 40

    @property
    def samples(self) -> int:
        """How many validation samples calibrate the bundle."""
        return 240 if self.steps is None else 8


def cook(recipe: Recipe, say: Say) -> Path:
    """All stages; returns the folder of the bundle."""
    out = recipe.out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(recipe.jobs)
    heads = cache.build(out / "cache", range(TRAIN_FROM, TRAIN_FROM + recipe.heads), recipe.jobs, say)
    valid = cache.build(out / "valid", range(VALID_FROM, VALID_FROM + recipe.valid), recipe.jobs, say)
    source = Source(tuple(str(p) for p in heads), recipe.real, recipe.seed)
    workers = 0 if recipe.steps is not None else 1
    plan = Plan(recipe.minutes * _NPC_SHARE, recipe.steps, 2, 3e-3, workers, recipe.width)
    npc, npc_facts = train_npc(source, plan, out / "npc.pt", lambda s: say(f"npc {s}"))
    plan = Plan(recipe.minutes * (1 - _NPC_SHARE), recipe.steps, 4, 3e-3, workers, recipe.width // 2)
    locator, locator_facts = train_locator(source, plan, out / "locator.pt", lambda s: say(f"locator {s}"))
    facts: dict[str, Any] = {"npc": npc_facts, "locator": locator_facts}
    (out / "training.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    bundle = finish(recipe, npc, locator, valid, facts, say)
    if recipe.cases:
        lower_all(bundle, write_cohort(out / "cohort", recipe.cases, say), recipe.jobs, say)
    intervals.add(bundle, intervals.scores(bundle, valid, recipe.samples, recipe.jobs, say))
    return bundle


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m npc_edge.bench.demo", description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="cache, checkpoints, log and bundle go here")
    parser.add_argument("--minutes", type=float, default=70.0, help="of training; the cache comes on top")
    parser.add_argument("--steps", type=int, default=None, help="train by steps, not by the clock")
    parser.add_argument("--heads", type=int, default=300, help="training anatomies")
    parser.add_argument("--valid", type=int, default=60, help="validation anatomies")
    parser.add_argument("--synthetic-only", action="store_true", help="no copies of the real head")
    parser.add_argument("--resume", action="store_true", help="go on with the checkpoints in DIR")
    parser.add_argument(
        "--embed", type=Path, default=None, help="engine/, to put the bundle into the package"
    )
    parser.add_argument("--width", type=int, default=24, help="channels of the first level")
    parser.add_argument("--cases", type=int, default=40, help="phantoms for the gate of fp16 and int8")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2, help="processor cores")
    given = parser.parse_args(arguments)
    if not given.resume and (given.out / "npc.pt").exists():
        parser.error(f"{given.out} holds checkpoints: say --resume, or choose another folder")
    recipe = Recipe(
        given.out,
        given.minutes,
        given.steps,
        given.heads,
        given.valid,
        not given.synthetic_only,
        given.seed,
        given.jobs,
        given.width,
        given.cases,
    )
    begun = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - begun:7.0f} s  {text}", flush=True)

    bundle = cook(recipe, say)
    say(f"bundle: {bundle}")
    if given.embed is not None:
        say(f"embedded, manifest sha256 {embed(bundle, given.embed)}")
