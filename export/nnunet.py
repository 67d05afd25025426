"""An nnU-Net v2 trained folder becomes a bundle: each fold a network, and around them nnU-Net's own way.

Folds are networks fold_0, fold_1, … of one bundle, alike but for their weights: the engine averages their
logits. Each so keeps its own file, its own golden case and its own measured parity.
"""

from __future__ import annotations

import colorsys
import re
import secrets
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import OutputError, UsageError
from npc_edge.engine.findings.rules import load_rules
from npc_edge.engine.findings.sides import TUMOUR_STRUCTURES
from npc_edge.engine.model.acceptance import save_golden, storable
from npc_edge.engine.model.manifest import Role
from npc_edge.engine.model.runners import instruction_set
from npc_edge.engine.types import Evidence
from npc_edge.engine.version import VERSION
from npc_edge.export.nnunet_network import Checkpoint, build_network, read_checkpoint
from npc_edge.export.nnunet_plans import DATASET, PLANS, Plans, read_json, read_plans
from npc_edge.export.pack import pack
from npc_edge.export.to_onnx import Exported, export_onnx, run_onnx
from npc_edge.kernels import zoom

OUTPUT = "segmentation"
_ROLES: tuple[str, ...] = get_args(Role)
_INTENDED = (
    "Research use only. Segmentation by a network that nnU-Net trained. No statement on detection, none on "
    "the T category."
)


@dataclass(frozen=True)
class NnunetJob:
    """What to export and how.

    folds: names ("0", "all"), empty for all that are there. roles: channel name → the role it plays, where
    the name is not one itself. tumour: a label's name, None for the first. mirroring: average over mirror
    images, as nnU-Net does unless told not to. rows_reversed: see `NnunetScheme`.
    """

    folder: Path
    out: Path
    folds: tuple[str, ...] = ()
    checkpoint: str = "checkpoint_final.pth"
    roles: Mapping[str, str] = field(default_factory=dict)
    tumour: str | None = None
    mirroring: bool = False
    rows_reversed: bool = True
    name: str | None = None
    licence: str = "not stated"
    evidence: Evidence = "synthetic"


def export_nnunet(
    job: NnunetJob, key: Ed25519PrivateKey | None, say: Callable[[str], None] = lambda line: None
) -> Path:
    """Write the bundle, signed where there is a key; returns its folder. Nothing is left behind on failure.

    say: is told each fold's difference from PyTorch. Raises UsageError (the folder, or what it holds, is not
    a model that can be exported), BackendError, BundleError, OutputError (`out` is there, or cannot be
    written).
    """
    if job.out.exists():
        raise OutputError(f"{job.out} is there already", "choose another folder")
    for name in (PLANS, DATASET):
        read_json(job.folder / name)  # said before a large checkpoint is read
    folds = find_folds(job)
    first = read_checkpoint(folds[0][1])
    plans = read_plans(job.folder, first.configuration)
    manifest = describe(job, plans, first, [name for name, _ in folds])
    staging = job.out.with_name(f".{job.out.name}.{secrets.token_hex(4)}")
    notes: list[str] = []
    try:
        for number, (name, path) in enumerate(folds):
            checkpoint = first if number == 0 else read_checkpoint(path)
            if (checkpoint.configuration, checkpoint.mirror_axes) != (first.configuration, first.mirror_axes):
                raise UsageError(f"{path} is not a fold of the same configuration as {folds[0][1]}")
            exported = _export_fold(plans, checkpoint, path, staging, name)
            error = exported.errors[OUTPUT]
            manifest["networks"][number]["artefacts"][0]["parity"] = [_parity(error)]
            said = [f"{name}: ONNX Runtime differs from PyTorch by {error:.1e} of the logits' range."]
            if exported.rewritten is not None:
                said.append(f"{name}: {exported.rewritten.sentence()}")
            notes += said
            for line in said:
                say(line)
        card = _card(job, plans, manifest) + "".join(f"- {note}\n" for note in notes)
        (staging / "model_card.md").write_text(card, encoding="utf-8")
        pack(staging, manifest, key)
        staging.rename(job.out)
    except OSError as error:
        raise OutputError(f"the bundle cannot be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return job.out


def find_folds(job: NnunetJob) -> list[tuple[str, Path]]:
    """(fold_0, its checkpoint) … of those asked for, or of all there are; fold_all only where it is alone."""
    if job.folds:
        found = [(f"fold_{fold}", job.folder / f"fold_{fold}" / job.checkpoint) for fold in job.folds]
        missing = [path for _, path in found if not path.is_file()]
        if missing or len(set(job.folds)) != len(job.folds):
            raise UsageError(
                f"there is no {missing[0]}" if missing else "a fold is named twice",
                "name folds that are there with --fold, their file with --checkpoint",
            )
        return found
    there = sorted(path for path in job.folder.glob("fold_*") if (path / job.checkpoint).is_file())
    chosen = [path for path in there if path.name != "fold_all"] or there
    if not chosen:
        raise UsageError(
            f"{job.folder} has no fold with a {job.checkpoint}", "name another file with --checkpoint"
        )
    return [(path.name, path / job.checkpoint) for path in chosen]


def describe(job: NnunetJob, plans: Plans, first: Checkpoint, folds: list[str]) -> dict[str, Any]:
    """The manifest without its files and parities."""
    sequences = _sequences(plans, job.roles)
    if job.mirroring and not first.mirror_axes:
        raise UsageError("this model was trained without mirroring", "leave --mirroring out")
    axes = first.mirror_axes if job.mirroring else ()
    scheme = plans.scheme.model_copy(update={"mirror_axes": axes, "rows_reversed": job.rows_reversed})
    network = {
        "region": "whole",
        "inputs": [sequence["name"] for sequence in sequences],
        "spacing": plans.spacing,
        "window": plans.patch,
        "overlap": 0.5,
        "nnunet": scheme.model_dump(mode="json"),
        "outputs": [{"name": OUTPUT, "kind": "segmentation"}],
    }
    return {
        "name": _slug(job.name or plans.dataset),
        "version": "1",
        "licence": job.licence,
        "intended_use": _INTENDED,
        "evidence": job.evidence,
        "task": "segmentation",
        "contexts": ["untreated", "treated", "unknown"],
        "sequences": sequences,
        "reference_sequence": sequences[0]["name"],
        "networks": [
            {**network, "name": fold, "artefacts": [{"precision": "fp32", "file": _artefact(fold)}]}
            for fold in folds
        ],
        "labels": _labels(plans, job.tumour),
        "tumour": {"rule": "argmax", "threshold": 0.5},
        # Without an anatomy nothing can be staged; with the rules named, the result says so line by line.
        "staging": {"rules": load_rules().version, "thresholds": []},
        "provenance": {
            "training_data": f"whatever nnU-Net trained {plans.dataset} on; the folder does not say",
            "commit": "",
            "recipe": f"npc-edge export nnunet, {plans.configuration}, {', '.join(folds)}",
            "tools": _tools(),
        },
    }


def _sequences(plans: Plans, roles: Mapping[str, str]) -> list[dict[str, Any]]:
    """One sequence a channel, named after the role it is mapped to, else after the channel, in lower case."""
    wanted = {name.lower(): role.upper() for name, role in roles.items()}
    unknown = set(wanted) - {name.lower() for name in plans.channels}
    if unknown:
        raise UsageError(
            f"the model has no channel {sorted(unknown)[0]}", f"it has {', '.join(plans.channels)}"
        )
    sequences = []
    for channel in plans.channels:
        role = wanted.get(channel.lower(), channel.upper())
        if role not in _ROLES:
            raise UsageError(
                f"channel {channel} names no role of a series ({', '.join(_ROLES)})",
                f"say which it plays with --channel {channel}=ROLE",
            )
        sequences.append({"name": role.lower(), "roles": [role]})
    if len({sequence["name"] for sequence in sequences}) != len(sequences):
        raise UsageError("two channels play the same role", "tell them apart with --channel NAME=ROLE")
    return sequences


def _labels(plans: Plans, tumour: str | None) -> list[dict[str, Any]]:
    """The tumour first: the engine takes the first label that stands for one."""
    named = {name.lower(): code for code, name in enumerate(plans.labels, start=1)}
    code = 1 if tumour is None else named.get(tumour.lower())
    if code is None:
        raise UsageError(f"the model has no label {tumour}", f"it has {', '.join(plans.labels)}")
    order = [code, *(other for other in named.values() if other != code)]
    return [_label(other, plans.labels[other - 1], other == code, len(order)) for other in order]


def _label(code: int, name: str, tumour: bool, count: int) -> dict[str, Any]:
    slug = _slug(name)
    words = re.split(r"[^a-z]+", name.lower())
    sides = [side for side in ("left", "right") if side in words]
    red, green, blue = colorsys.hsv_to_rgb((code - 1) / count, 0.8, 0.9)
    return {
        "code": code,
        "name": slug,
        "structure": TUMOUR_STRUCTURES[0] if tumour else slug.lower(),
        "side": sides[0] if len(sides) == 1 else "midline",
        "colour": [round(255 * part) for part in (red, green, blue)],
    }


def _export_fold(plans: Plans, checkpoint: Checkpoint, path: Path, root: Path, fold: str) -> Exported:
    """Write a fold's artefact and golden case."""
    network = build_network(plans, checkpoint.weights, path)
    example = torch.zeros(1, len(plans.channels), *plans.patch)
    file = root / _artefact(fold)
    exported = export_onnx(network, example, (OUTPUT,), file)
    rng = np.random.default_rng(0)
    image = np.empty((1, len(plans.channels), *plans.patch), dtype=np.float32)
    for channel in image[0]:
        z, y, x = (max(1, n // 4) for n in plans.patch)
        coarse = rng.normal(size=(z, y, x)).astype(np.float32)
        channel[...] = np.round(zoom.resize(coarse, plans.patch, 1) * 16) / 16  # smooth and short: it is kept
    image = storable(image)
    save_golden(root / "golden" / f"{fold}.noise.npz", {"image": image}, run_onnx(file, {"image": image}))
    return exported


def _parity(error: float) -> dict[str, Any]:
    return {
        "backend": "onnxruntime",
        "precision": "fp32",
        "isa": instruction_set(),
        "max_relative_error": error,
    }


def _card(job: NnunetJob, plans: Plans, manifest: Mapping[str, Any]) -> str:
    folds = [network["name"] for network in manifest["networks"]]
    mirrored = manifest["networks"][0]["nnunet"]["mirror_axes"]
    order = "as dcm2niix writes it" if job.rows_reversed else "as the scanner does"
    return f"""# {manifest["name"]} {manifest["version"]}

{_INTENDED}

- Trained by nnU-Net v2 on {plans.dataset}, configuration {plans.configuration}; folds: {", ".join(folds)}.
- Channels: {", ".join(plans.channels)}. Labels: {", ".join(plans.labels)}; the tumour is
  {manifest["labels"][0]["name"]}.
- Mirroring: {f"axes {mirrored}" if mirrored else "none"}. No post-processing of the mask.
- A DICOM series is handed to the network {order}; a NIfTI image as it is stored.
- Licence: {job.licence}. Evidence: {job.evidence}. What it was trained on and how well it does: ask who
  trained it; nothing of that is in a trained folder.
"""


def _artefact(fold: str) -> str:
    return f"artefacts/{fold}.fp32.onnx"


def _slug(text: str) -> str:
    """text as a name of the manifest."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", text).strip("._-")[:64] or "unnamed"


def _tools() -> dict[str, str]:
    found = {"npc-edge": VERSION, "torch": torch.__version__}
    for name in ("onnx", "dynamic-network-architectures"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "unknown"
    return found
