"""A folder as nnU-Net v2 leaves one after training, with random weights: 30 million of them, or a few."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

_UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


@dataclass(frozen=True)
class Size:
    """features a stage, window and image (Z, Y, X). The image has the plans' spacing: nothing is resampled,
    and windows that overlap by half make 27 of it."""

    features: tuple[int, ...]
    strides: tuple[tuple[int, int, int], ...]
    flat: int
    window: tuple[int, int, int]
    image: tuple[int, int, int]
    spacing: tuple[float, float, float] = (4.4, 0.45, 0.45)


LARGE = Size(
    (32, 64, 128, 256, 320, 320),
    ((1, 1, 1), (1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2)),
    2,
    (20, 256, 256),
    (36, 512, 512),
)
SMALL = Size((8, 16, 32), ((1, 1, 1), (1, 2, 2), (2, 2, 2)), 1, (8, 32, 32), (14, 64, 64))


def write_folder(root: Path, size: Size) -> tuple[Path, int]:
    """The folder with plans.json, dataset.json and fold_0, and how many parameters the network has."""
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    root.mkdir(parents=True)
    architecture = _architecture(size)
    torch.manual_seed(0)
    network = PlainConvUNet(
        input_channels=2,
        num_classes=3,
        **{
            **architecture["arch_kwargs"],
            "conv_op": nn.Conv3d,
            "norm_op": nn.InstanceNorm3d,
            "nonlin": nn.LeakyReLU,
        },
        deep_supervision=True,
    )
    (root / "plans.json").write_text(json.dumps(_plans(size, architecture)), encoding="utf-8")
    (root / "dataset.json").write_text(json.dumps(_DATASET), encoding="utf-8")
    (root / "fold_0").mkdir()
    held = {
        "network_weights": network.state_dict(),
        "init_args": {"configuration": "3d_fullres", "fold": 0},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(held, root / "fold_0" / "checkpoint_final.pth")
    return root, sum(p.numel() for p in network.parameters())


_DATASET: dict[str, Any] = {
    "channel_names": {"0": "T1", "1": "T2"},
    "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}


def _architecture(size: Size) -> dict[str, Any]:
    stages = len(size.features)
    return {
        "network_class_name": _UNET,
        "arch_kwargs": {
            "n_stages": stages,
            "features_per_stage": list(size.features),
            "conv_op": "torch.nn.modules.conv.Conv3d",
            "kernel_sizes": [[1, 3, 3] if n < size.flat else [3, 3, 3] for n in range(stages)],
            "strides": [list(stride) for stride in size.strides],
            "n_conv_per_stage": [2] * stages,
            "n_conv_per_stage_decoder": [2] * (stages - 1),
            "conv_bias": True,
            "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
            "norm_op_kwargs": {"eps": 1e-05, "affine": True},
            "dropout_op": None,
            "dropout_op_kwargs": None,
            "nonlin": "torch.nn.LeakyReLU",
            "nonlin_kwargs": {"inplace": True},
        },
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    }


def _plans(size: Size, architecture: dict[str, Any]) -> dict[str, Any]:
    resampling = "resample_data_or_seg_to_shape"
    linear = {"is_seg": False, "order": 1, "order_z": 0, "force_separate_z": None}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "spacing": list(size.spacing),
        "patch_size": list(size.window),
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [False, False],
        "resampling_fn_data": resampling,
        "resampling_fn_seg": resampling,
        "resampling_fn_probabilities": resampling,
        "resampling_fn_data_kwargs": {**linear, "order": 3},
        "resampling_fn_seg_kwargs": {**linear, "is_seg": True},
        "resampling_fn_probabilities_kwargs": linear,
        "architecture": architecture,
        "batch_dice": False,
    }
    intensity = {"mean": 120.0, "std": 40.0, "percentile_00_5": 20.0, "percentile_99_5": 250.0}
    return {
        "dataset_name": "Dataset501_NPC",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": {"3d_fullres": configuration},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {str(channel): intensity for channel in range(2)},
    }
