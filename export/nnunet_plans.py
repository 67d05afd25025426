"""plans.json and dataset.json of an nnU-Net v2 trained folder as frozen values. What this version cannot
reproduce is refused here, by name, before anything is built."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from npc_edge.engine.errors import UsageError
from npc_edge.engine.model.nnunet_scheme import (
    NnunetChannel,
    NnunetIntensity,
    NnunetResampling,
    NnunetScheme,
)

PLANS, DATASET = "plans.json", "dataset.json"
_RESAMPLING = "resample_data_or_seg_to_shape"
_READERS = ("SimpleITKIO", "NibabelIO")  # both hand over the array as the file stores it, z, y, x
_UNETS = ("PlainConvUNet", "ResidualEncoderUNet")


@dataclass(frozen=True)
class Architecture:
    """How the plans name the network: a class, its arguments, and which of those are classes themselves."""

    network_class: str
    arguments: Mapping[str, Any]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Plans:
    """One configuration. spacing mm and patch voxels are along transposed axes; channels: names in the
    network's order; labels: names of 1, 2, …; scheme: without mirroring."""

    dataset: str
    configuration: str
    spacing: tuple[float, float, float]
    patch: tuple[int, int, int]
    channels: tuple[str, ...]
    labels: tuple[str, ...]
    architecture: Architecture
    scheme: NnunetScheme


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; UsageError when the file is missing or holds none."""
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}",
            "name the folder that holds plans.json, dataset.json and fold_*",
        ) from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise UsageError(f"{path} is not JSON: {error}") from error
    if not isinstance(held, dict):
        raise UsageError(f"{path} does not hold a JSON object")
    return held


def read_plans(folder: Path, configuration: str) -> Plans:
    """The plans of one configuration, e.g. "3d_fullres". UsageError for what is missing or not supported."""
    plans, dataset = read_json(folder / PLANS), read_json(folder / DATASET)
    try:
        return _plans(plans, dataset, configuration)
    except KeyError as error:
        raise UsageError(f"the plans or dataset.json of {folder.name} have no {error}") from error
    except (TypeError, ValueError, AttributeError) as error:
        told = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
        raise UsageError(f"the plans of {folder.name} are not what nnU-Net v2 writes: {told}") from error


def _plans(plans: Mapping[str, Any], dataset: Mapping[str, Any], configuration: str) -> Plans:
    held = _inherited(plans["configurations"], configuration)
    _supported(plans, held, configuration)
    depth, height, width = (int(n) for n in held["patch_size"])
    z, y, x = (float(s) for s in held["spacing"])
    channels = dataset.get("channel_names", dataset.get("modality"))
    if not isinstance(channels, dict):
        raise KeyError("channel_names")
    names = tuple(str(channels[key]) for key in sorted(channels, key=int))
    return Plans(
        dataset=str(plans.get("dataset_name", "nnunet")),
        configuration=configuration,
        spacing=(z, y, x),
        patch=(depth, height, width),
        channels=names,
        labels=_labels(dataset["labels"]),
        architecture=_architecture(held),
        scheme=NnunetScheme(
            transpose=plans["transpose_forward"],
            data=_resampling(held, "data"),
            logits=_resampling(held, "probabilities"),
            channels=_channels(plans, held, len(names)),
        ),
    )


def _inherited(configurations: Mapping[str, Any], name: str, seen: tuple[str, ...] = ()) -> dict[str, Any]:
    """A configuration with what it inherits_from."""
    if name not in configurations or name in seen:
        known = ", ".join(sorted(configurations))
        raise UsageError(f"the plans have no configuration {name}", f"they have {known}")
    own = dict(configurations[name])
    parent = own.pop("inherits_from", None)
    return own if parent is None else {**_inherited(configurations, parent, (*seen, name)), **own}


def _supported(plans: Mapping[str, Any], held: Mapping[str, Any], name: str) -> None:
    if len(held["patch_size"]) != 3:
        raise UsageError(f"configuration {name} is two-dimensional", "export a 3d configuration")
    if held.get("previous_stage") is not None:
        raise UsageError(f"configuration {name} is the second stage of a cascade", "export 3d_fullres")
    reader = plans.get("image_reader_writer", _READERS[0])
    if reader not in _READERS:
        raise UsageError(f"images read by {reader} are not supported", f"only by {' or '.join(_READERS)}")
    if held.get("preprocessor_name", "DefaultPreprocessor") != "DefaultPreprocessor":
        raise UsageError(f"the preprocessor {held['preprocessor_name']} is not supported")
    if plans.get("label_manager", "LabelManager") != "LabelManager":
        raise UsageError(f"the label manager {plans['label_manager']} is not supported")


def _labels(labels: Mapping[str, Any]) -> tuple[str, ...]:
    """Foreground names in the order of their values, which must be 1, 2, …; `ignore` has no output."""
    if any(isinstance(value, list | tuple) for value in labels.values()):
        raise UsageError(
            "this model was trained on regions (labels that are lists), which overlap",
            "only plain labels can be exported",
        )
    values = {int(value): str(name) for name, value in labels.items() if name != "ignore"}
    if len(values) < 2 or sorted(values) != list(range(len(values))):
        raise UsageError(f"the labels {sorted(values)} of dataset.json are not 0 for background, 1, 2, …")
    return tuple(values[code] for code in range(1, len(values)))


def _resampling(held: Mapping[str, Any], what: str) -> NnunetResampling:
    function = held[f"resampling_fn_{what}"]
    if function != _RESAMPLING:
        raise UsageError(f"{what} resampled by {function} are not supported", f"only by {_RESAMPLING}")
    given = dict(held[f"resampling_fn_{what}_kwargs"])
    order, order_z = given.pop("order", 3), given.pop("order_z", 0)
    if order not in (0, 1, 3) or order_z not in (0, 1, 3):
        raise UsageError(f"splines of order {order} and {order_z} are not supported", "only of order 0, 1, 3")
    threshold = given.pop("separate_z_anisotropy_threshold", 3.0)
    separate = given.pop("force_separate_z", False)
    if given.pop("is_seg", False) or given:
        raise UsageError(f"{what} are resampled in a way that is not supported: {sorted(given) or 'is_seg'}")
    return NnunetResampling(
        order=order, order_z=order_z, force_separate_z=separate, anisotropy_threshold=threshold
    )


def _channels(plans: Mapping[str, Any], held: Mapping[str, Any], count: int) -> tuple[NnunetChannel, ...]:
    schemes, masks = held["normalization_schemes"], held["use_mask_for_norm"]
    if len(schemes) != count or len(masks) != count:
        raise UsageError(f"dataset.json names {count} channels, the plans normalise {len(schemes)}")
    old = plans.get("foreground_intensity_properties_by_modality", {})
    known = plans.get("foreground_intensity_properties_per_channel", old)
    return tuple(
        _channel(scheme, bool(mask), known.get(str(number)))
        for number, (scheme, mask) in enumerate(zip(schemes, masks, strict=True))
    )


def _channel(scheme: str, mask: bool, known: Mapping[str, float] | None) -> NnunetChannel:
    intensity = None
    if scheme == "CTNormalization" and known is not None:
        keys = ("mean", "std", "percentile_00_5", "percentile_99_5")
        intensity = NnunetIntensity(**{key: float(known[key]) for key in keys})
    try:
        return NnunetChannel.model_validate(
            {"scheme": scheme, "use_mask_for_norm": mask, "intensity": intensity}
        )
    except ValidationError as error:
        if error.errors()[0]["loc"] == ("scheme",):
            raise UsageError(f"the normalisation {scheme} is not supported") from error
        raise


def _architecture(held: Mapping[str, Any]) -> Architecture:
    if "architecture" in held:
        given = held["architecture"]
        return Architecture(
            str(given["network_class_name"]), given["arch_kwargs"], tuple(given["_kw_requires_import"])
        )
    return _old_architecture(held)


def _old_architecture(held: Mapping[str, Any]) -> Architecture:
    """Plans from before nnU-Net 2.3 name a U-Net and its sizes; the rest was fixed."""
    kind = held["UNet_class_name"]
    if kind not in _UNETS:
        raise UsageError(f"the network class {kind} is not known", f"only {' and '.join(_UNETS)} are")
    stages = len(held["n_conv_per_stage_encoder"])
    base, most = int(held["UNet_base_num_features"]), int(held["unet_max_num_features"])
    per_stage = "n_conv_per_stage" if kind == "PlainConvUNet" else "n_blocks_per_stage"
    arguments = {
        "n_stages": stages,
        "features_per_stage": [min(base * 2**stage, most) for stage in range(stages)],
        "conv_op": "torch.nn.Conv3d",
        "kernel_sizes": held["conv_kernel_sizes"],
        "strides": held["pool_op_kernel_sizes"],
        per_stage: held["n_conv_per_stage_encoder"],
        "n_conv_per_stage_decoder": held["n_conv_per_stage_decoder"],
        "conv_bias": True,
        "norm_op": "torch.nn.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }
    where = f"dynamic_network_architectures.architectures.unet.{kind}"
    return Architecture(where, arguments, ("conv_op", "norm_op", "nonlin"))
