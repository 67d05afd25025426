"""Trained folders as nnU-Net v2 leaves them, with tiny networks of random weights."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

UNET = "dynamic_network_architectures.architectures.unet.PlainConvUNet"
ANISOTROPIC = {"spacing": [4.0, 1.3, 1.3], "patch_size": [8, 32, 32]}
ISOTROPIC = {"spacing": [1.5, 1.5, 1.5], "patch_size": [16, 24, 24]}


def configuration(**changes: Any) -> dict[str, Any]:
    """3d_fullres of a three-stage U-Net, as nnU-Net 2.8 plans it."""
    flat = [[1, 3, 3], [3, 3, 3], [3, 3, 3]]
    base: dict[str, Any] = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        **ANISOTROPIC,
        "normalization_schemes": ["ZScoreNormalization"] * 2,
        "use_mask_for_norm": [False, False],
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": {"is_seg": False, "order": 3, "order_z": 0, "force_separate_z": None},
        "resampling_fn_seg_kwargs": {"is_seg": True, "order": 1, "order_z": 0, "force_separate_z": None},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": {
            "is_seg": False,
            "order": 1,
            "order_z": 0,
            "force_separate_z": None,
        },
        "architecture": {
            "network_class_name": UNET,
            "arch_kwargs": {
                "n_stages": 3,
                "features_per_stage": [8, 16, 32],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": flat,
                "strides": [[1, 1, 1], [1, 2, 2], [2, 2, 2]],
                "n_conv_per_stage": [2, 2, 2],
                "n_conv_per_stage_decoder": [2, 2],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": False,
    }
    return {**base, **changes}


def plans(configurations: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "dataset_name": "Dataset501_NPC",
        "plans_name": "nnUNetPlans",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "image_reader_writer": "SimpleITKIO",
        "configurations": configurations or {"3d_fullres": configuration()},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            str(channel): {
                "mean": 120.0 + channel,
                "std": 40.0,
                "percentile_00_5": 20.0,
                "percentile_99_5": 250.0,
            }
            for channel in range(2)
        },
    }
    return {**base, **changes}


def dataset(**changes: Any) -> dict[str, Any]:
    base: dict[str, Any] = {
        "channel_names": {"0": "T1", "1": "T2"},
        "labels": {"background": 0, "GTVp": 1, "GTVn": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
    }
    return {**base, **changes}


def write(
    root: Path,
    given: Mapping[str, Any] | None = None,
    about: Mapping[str, Any] | None = None,
    folds: Sequence[str] = ("0",),
    name: str = "3d_fullres",
) -> Path:
    """A trained folder; fold i is seeded with i, and biased so that no label wins everywhere."""
    from dynamic_network_architectures.architectures import unet

    given, about = given or plans(), about or dataset()
    folder = root / f"nnUNetTrainer__nnUNetPlans__{name}"
    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(given))
    (folder / "dataset.json").write_text(json.dumps(about))
    architecture = given["configurations"]["3d_fullres"]["architecture"]
    arguments = {
        **architecture["arch_kwargs"],
        "conv_op": torch.nn.Conv3d,
        "norm_op": torch.nn.InstanceNorm3d,
        "nonlin": torch.nn.LeakyReLU,
    }
    for number, fold in enumerate(folds):
        torch.manual_seed(number)
        network = getattr(unet, architecture["network_class_name"].rpartition(".")[2])(
            input_channels=len(about["channel_names"]),
            num_classes=len([label for label in about["labels"] if label != "ignore"]),
            **arguments,
            deep_supervision=True,
        )
        with torch.no_grad():
            seen = network.eval()(torch.randn(1, len(about["channel_names"]), 8, 32, 32))[0]
            network.decoder.seg_layers[-1].bias -= seen.mean(dim=(0, 2, 3, 4))
        checkpoint(folder / f"fold_{fold}", network.state_dict(), name)
    return folder


def checkpoint(folder: Path, weights: Mapping[str, torch.Tensor], name: str = "3d_fullres") -> Path:
    """What a trainer saves beside the weights, NumPy numbers and a device among it."""
    folder.mkdir(parents=True, exist_ok=True)
    held = {
        "network_weights": weights,
        "optimizer_state": {"state": {}, "param_groups": [{"lr": 0.01}]},
        "grad_scaler_state": None,
        "logging": {
            "mean_fg_dice": [np.float64(0.5), np.float32(0.6)],
            "epoch_end_timestamps": [1.5],
            "lrs": np.arange(2.0),
        },
        "_best_ema": np.float64(0.7),
        "current_epoch": 3,
        "init_args": {"configuration": name, "fold": 0, "device": torch.device("cpu"), "plans": {}},
        "trainer_name": "nnUNetTrainer",
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(held, folder / "checkpoint_final.pth")
    return folder / "checkpoint_final.pth"
