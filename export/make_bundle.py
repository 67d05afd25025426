"""One network's ONNX file and a spec become a bundle: golden case, parity, card, manifest, signature.

All is made in a folder beside the bundle's place and takes that place in one step at the end: whatever fails,
nothing half-written stays.
"""

from __future__ import annotations

import platform
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.engine.machine import available_cores
from npc_edge.engine.model.acceptance import save_golden, storable, winners
from npc_edge.engine.model.manifest import Parity
from npc_edge.engine.model.metrics import mean_dice, relative_error
from npc_edge.engine.model.runner import IMAGE, Arrays
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.model.runners.onnxruntime import OnnxRuntimeRunner
from npc_edge.export import card
from npc_edge.export.pack import pack
from npc_edge.export.spec import Spec, manifest_of

Say = Callable[[str], None]
"""Called with a line for whoever waits."""

_GRAIN = 4  # voxels: the golden input's structures are this large


@dataclass(frozen=True)
class Origin:
    """Where an artefact comes from.

    original: runs what the file was made from, {"image"} → named outputs; None where the file itself is the
    original. errors: differences already measured, by output. facts: names and versions for the manifest's
    provenance. notes: sentences for the card and the one who waits.
    """

    facts: Mapping[str, str]
    original: Callable[[Arrays], Arrays] | None = None
    errors: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Made:
    """A packed bundle. parity: what was measured against the original, None where there was none."""

    root: Path
    parity: Parity | None
    notes: tuple[str, ...]


def make_bundle(
    spec: Spec, out: Path, key: Ed25519PrivateKey | None, write: Callable[[Path], Origin], say: Say
) -> Made:
    """Make the bundle `out`, signed by `key` or, with None, unsigned. `write` makes the fp32 artefact.

    Raises OutputError (out is there already, or cannot be written), BundleError (outputs that are not what
    the spec says, or not finite, or far from the original's).
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise OutputError(f"{out} is there already", "name a new folder, or remove it first")
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        staging.mkdir(parents=True)
        origin = write(staging / spec.artefact)
        say("checking it on a golden case")
        parity = _golden(staging, spec, origin)
        notes = (*origin.notes, *_limits(spec))
        tools = {**_versions(), **origin.facts}
        text = card.text(spec, parity, tools, notes)
        (staging / "model_card.md").write_text(text, encoding="utf-8")
        say("packing and signing" if key is not None else "packing, unsigned")
        pack(staging, manifest_of(spec, [] if parity is None else [parity], tools), key)
        if out.is_dir():
            out.rmdir()
        staging.rename(out)
    except OSError as error:
        raise OutputError(f"the bundle cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Made(out, parity, notes)


def golden_image(spec: Spec, seed: int = 20_267) -> NDArray[np.float32]:
    """(1, C, Z, Y, X) float32: random structures and noise as the spec's normalisation would leave them, with
    a border of 0, as outside of a volume."""
    rng = np.random.default_rng(seed)
    shape = spec.input_shape
    coarse = rng.standard_normal((*shape[:2], *(-(-n // _GRAIN) for n in shape[2:])))
    for axis in (2, 3, 4):
        coarse = np.repeat(coarse, _GRAIN, axis=axis)
    image = coarse[..., : shape[2], : shape[3], : shape[4]] + 0.3 * rng.standard_normal(shape)
    if spec.network.normalisation.method == "percentile":
        image = np.clip(0.4 + 0.25 * image, 0, 1)
    for axis in (2, 3, 4):
        edge = np.moveaxis(image, axis, 0)
        edge[0] = edge[-1] = 0
    return storable(np.clip(image, -8, 8).astype(np.float32))


def _golden(staging: Path, spec: Spec, origin: Origin) -> Parity | None:
    """Run the artefact once, keep what it said, and measure it against what it was made from."""
    inputs = {IMAGE: golden_image(spec)}
    artefact = staging / spec.artefact
    with OnnxRuntimeRunner(artefact, threads=available_cores(), precision="fp32", root=staging) as runner:
        found = runner.infer(inputs)
    found = {name: found[name] for name in spec.output_names}
    if wrong := spec.wrong_output({name: values.shape for name, values in found.items()}):
        raise BundleError(f"the network is not what the spec says: {wrong}")
    if broken := [name for name, values in found.items() if not np.isfinite(values).all()]:
        raise BundleError(f"output {broken[0]} of the network holds values that are not finite")
    save_golden(staging / "golden" / f"{spec.network.name}.a.npz", inputs, found)
    if origin.original is None:
        return None
    expected = origin.original(inputs)
    errors = [*origin.errors.values(), *(relative_error(found[name], expected[name]) for name in found)]
    maps = [name for name, values in found.items() if values.ndim == 5]
    scores = [mean_dice(winners(found[name]), winners(expected[name])) for name in maps]
    return Parity(
        backend="onnxruntime",
        precision="fp32",
        isa=instruction_set(),
        max_relative_error=max(errors),
        dice=min(scores, default=None),
    )


def _limits(spec: Spec) -> tuple[str, ...]:
    """What such a bundle will not do in the engine."""
    kinds = {output.kind for output in spec.network.outputs}
    notes = []
    if not kinds & {"tumour", "segmentation"}:
        notes.append(
            "It outlines nothing: this version's run wants a tumour or segmentation output, and refuses it."
        )
    if "detection" not in kinds:
        notes.append("It has no detection head: results say null for detection.")
    if "detection" in kinds and spec.calibrator is None:
        notes.append("Its probability is not calibrated: the sigmoid of the network's own logit.")
    if "anatomy" not in kinds or spec.staging is None:
        notes.append("It says nothing of the anatomy or has no staging rules: no T category is given.")
    return tuple(notes)


def _versions() -> dict[str, str]:
    return {"python": platform.python_version()} | {
        name: version(name) for name in ("npc-edge", "onnx", "onnxruntime", "numpy")
    }
