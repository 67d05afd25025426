"""Trained networks become the demo bundle: exported, calibrated, described, with golden cases, packed."""

from __future__ import annotations

import colorsys
import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from npc_edge.bench.demo import cache, calibrate, card, coarse, sample
from npc_edge.bench.demo.network import LocatorNet, NpcNet
from npc_edge.bench.phantom.structures import PAIRED, Structure
from npc_edge.engine.model.acceptance import save_golden, storable
from npc_edge.export.pack import pack
from npc_edge.export.to_onnx import export_onnx, run_onnx

if TYPE_CHECKING:
    from npc_edge.bench.demo.recipe import Recipe

NPC, LOCATOR = "artefacts/npc.fp32.onnx", "artefacts/locator.fp32.onnx"
OUTPUTS = ("tumour", "anatomy", "detection")

_SNOMED = {
    Structure.NASOPHARYNX: ("71836000", "Nasopharynx"),
    Structure.OROPHARYNX: ("31389004", "Oropharynx"),
    Structure.NASAL_CAVITY: ("279549004", "Nasal cavity"),
    Structure.HYPOPHARYNX: ("81502006", "Hypopharynx"),
    Structure.MAXILLARY_SINUS: ("15924003", "Maxillary sinus"),
    Structure.SPHENOID_SINUS: ("24999009", "Sphenoid sinus"),
    Structure.ETHMOID_SINUS: ("54215007", "Ethmoid sinus"),
    Structure.ORBIT: ("363654007", "Orbit"),
    Structure.PAROTID: ("45289007", "Parotid gland"),
}


def finish(
    recipe: Recipe,
    npc: NpcNet,
    locator: LocatorNet,
    valid: Sequence[Path],
    facts: Mapping[str, Any],
    say: Callable[[str], None],
) -> Path:
    """Export, measure, write, pack; returns the bundle's folder, DIR/bundle."""
    bundle = recipe.out / "bundle"
    shutil.rmtree(bundle, ignore_errors=True)
    made = {
        "npc": export_onnx(npc, torch.zeros(1, 2, *sample.WINDOW), OUTPUTS, bundle / NPC),
        "locator": export_onnx(locator, torch.zeros(1, 2, *coarse.GRID), ("heatmap",), bundle / LOCATOR),
    }
    errors = {name: dict(exported.errors) for name, exported in made.items()}
    say(f"exported: {errors}")
    cases = recipe.samples
    seen = calibrate.look(bundle / NPC, valid, cases, recipe.jobs, say)
    found = calibrate.settle(seen)
    aimed = calibrate.aim(bundle / LOCATOR, valid, cases, recipe.jobs)
    say(f"detection AUC {found['auc']:.3f}, Dice {found['dice']:.3f}, locator {aimed['mm_p99']:.1f} mm (p99)")
    measured = {"training": dict(facts), "detection": found, "locator": aimed, "export": errors}
    (recipe.out / "measured.json").write_text(json.dumps(measured, indent=1), encoding="utf-8")
    _golden(bundle, valid)
    (bundle / "model_card.md").write_text(card.text(measured, recipe.real), encoding="utf-8")
    pack(bundle, manifest(measured, recipe), None)
    return bundle


def manifest(measured: Mapping[str, Any], recipe: Recipe) -> dict[str, Any]:
    """The manifest without its files."""
    found, aimed = measured["detection"], measured["locator"]
    population = f"synthetic heads, {found['prevalence']:.0%} with a tumour, T1-T4 alike: no patients"
    return {
        "name": "npc-demo",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "Demonstration and tests on synthetic studies. No clinical validity of any kind.",
        "evidence": "synthetic",
        "task": "npc",
        "contexts": ["untreated", "unknown"],
        "sequences": [{"name": "t1", "roles": ["T1"]}, {"name": "t2", "roles": ["T2", "T2FS"]}],
        "reference_sequence": "t1",
        "networks": _networks(),
        "labels": [_label(s) for s in Structure if s is not Structure.BACKGROUND],
        "tumour": {"threshold": found["tumour_threshold"], "min_component_ml": 0.1},
        "calibrators": {
            NPC: {
                "method": "temperature",
                "temperature": found["temperature"],
                "cases": found["cases"],
                "prevalence": found["prevalence"],
                "population": population,
            }
        },
        "detection": {
            "threshold": found["threshold"],
            "indeterminate_low": found["low"],
            "indeterminate_high": found["high"],
            "mask_min_ml": found["mask_min_ml"],
            "operating_point": {
                "sensitivity": found["sensitivity"],
                "specificity": found["specificity"],
                "on": f"{found['cases']} validation samples of synthetic heads never trained on",
            },
        },
        "staging": {"rules": "1", "thresholds": [round(0.1 * k, 1) for k in range(1, 10)], "smoothing": 0.5},
        "field_of_view": {"inferior": 4, "superior": 12, "anterior": 25, "posterior": 20, "lateral": 25},
        "domain": {"locator_confidence_min": round(min(0.3, 0.5 * aimed["confidence_p01"]), 3)},
        "provenance": {
            "training_data": card.training_data(recipe.real, recipe.heads),
            "commit": _commit(),
            "recipe": command(recipe),
            "tools": {"python": platform.python_version()}
            | {
                name: version(name)
                for name in ("torch", "onnx", "onnxruntime", "numpy", "scipy", "SimpleITK")
            },
            "credits": list(card.CREDITS if recipe.real else ()),
        },
    }


def command(recipe: Recipe) -> str:
    """The command that makes this bundle."""
    words = ["python -m npc_edge.bench.demo --out DIR", f"--minutes {recipe.minutes:g}"]
    words += [f"--heads {recipe.heads}", f"--valid {recipe.valid}", f"--seed {recipe.seed}"]
    words += [] if recipe.width == 24 else [f"--width {recipe.width}"]
    words += [] if recipe.steps is None else [f"--steps {recipe.steps}"]
    words += [] if recipe.cases == 40 else [f"--cases {recipe.cases}"]
    words += [] if recipe.real else ["--synthetic-only"]
    return " ".join(words)


def _networks() -> list[dict[str, Any]]:
    shared = {"inputs": ["t1", "t2"], "normalisation": {"method": "percentile", "lower": 0.5, "upper": 99.5}}
    return [
        {
            "name": "locator",
            "region": "whole",
            "spacing": [coarse.SPACING_MM] * 3,
            "window": coarse.GRID,
            "outputs": [{"name": "heatmap", "kind": "heatmap"}],
            "artefacts": [{"precision": "fp32", "file": LOCATOR}],
            **shared,
        },
        {
            "name": "npc",
            "region": "around:locator.heatmap",
            "spacing": sample.SPACING,
            "window": sample.WINDOW,
            "outputs": [{"name": name, "kind": name} for name in OUTPUTS],
            "artefacts": [{"precision": "fp32", "file": NPC}],
            **shared,
        },
    ]


def _label(structure: Structure) -> dict[str, Any]:
    name = structure.name.lower()
    colour = colorsys.hsv_to_rgb(structure * 0.381966 % 1.0, 0.65, 0.95)
    concept = _SNOMED.get(structure)
    return {
        "code": int(structure),
        "name": name,
        "structure": name,
        "side": "paired" if structure in PAIRED else "midline",
        "colour": [round(255 * c) for c in colour],
        "concept": concept and {"value": concept[0], "scheme": "SCT", "meaning": concept[1]},
    }


def _golden(bundle: Path, valid: Sequence[Path]) -> None:
    """One case a network, of a validation head."""
    case = next(c for c in map(cache.load, valid) if c.layers)
    layer = case.layers[-1]
    image = storable(sample.draw_sample(case, layer, np.random.default_rng(20_267)).image[None])
    save_golden(bundle / "golden/npc.a.npz", {"image": image}, run_onnx(bundle / NPC, {"image": image}))
    image = storable(coarse.draw_coarse(case, np.random.default_rng(20_268))[0][None])
    save_golden(
        bundle / "golden/locator.a.npz", {"image": image}, run_onnx(bundle / LOCATOR, {"image": image})
    )


def _commit() -> str:
    """The commit of the working tree, or 'unknown' outside of one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return found.stdout.strip()
