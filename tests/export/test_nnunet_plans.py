"""Plans and data set of a trained folder: what is read, and what is refused by name."""

import json
from pathlib import Path
from typing import Any

import nnunet_folder as trained
import pytest

from npc_edge.engine.errors import UsageError
from npc_edge.export.nnunet_plans import read_plans


def folder(root: Path, plans: dict[str, Any] | None = None, dataset: dict[str, Any] | None = None) -> Path:
    (root / "plans.json").write_text(json.dumps(plans or trained.plans()))
    (root / "dataset.json").write_text(json.dumps(dataset or trained.dataset()))
    return root


def test_what_the_plans_say_is_what_the_engine_gets(tmp_path: Path) -> None:
    held = trained.configuration(
        normalization_schemes=["CTNormalization", "ZScoreNormalization"], use_mask_for_norm=[False, True]
    )
    plans = trained.plans({"3d_fullres": held}, transpose_forward=[1, 0, 2], transpose_backward=[1, 0, 2])
    read = read_plans(folder(tmp_path, plans), "3d_fullres")
    assert (read.dataset, read.spacing, read.patch) == ("Dataset501_NPC", (4.0, 1.3, 1.3), (8, 32, 32))
    assert (read.channels, read.labels) == (("T1", "T2"), ("GTVp", "GTVn"))
    assert read.scheme.transpose == (1, 0, 2)
    ct, mr = read.scheme.channels
    assert ct.intensity is not None
    assert (ct.intensity.mean, ct.intensity.percentile_99_5) == (120.0, 250.0)
    assert (mr.scheme, mr.use_mask_for_norm, mr.intensity) == ("ZScoreNormalization", True, None)
    assert (read.scheme.data.order, read.scheme.data.order_z, read.scheme.logits.order) == (3, 0, 1)
    assert read.scheme.data.force_separate_z is None
    assert read.scheme.data.anisotropy_threshold == 3


def test_a_configuration_may_inherit(tmp_path: Path) -> None:
    configurations = {
        "3d_fullres": trained.configuration(),
        "fine": {"inherits_from": "3d_fullres", "patch_size": [16, 64, 64]},
    }
    read = read_plans(folder(tmp_path, trained.plans(configurations)), "fine")
    assert (read.patch, read.spacing) == ((16, 64, 64), (4.0, 1.3, 1.3))


def test_channels_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    names = {str(n): f"C{n}" for n in (10, 2, 0, 1, 3, 4, 5, 6, 7, 8, 9)}
    held = trained.configuration(
        normalization_schemes=["ZScoreNormalization"] * 11, use_mask_for_norm=[False] * 11
    )
    read = read_plans(folder(tmp_path, trained.plans({"a": held}), trained.dataset(channel_names=names)), "a")
    assert read.channels == tuple(f"C{n}" for n in range(11))


def test_the_ignore_label_has_no_output(tmp_path: Path) -> None:
    labels = {"background": 0, "node": 2, "tumour": 1, "ignore": 3}
    assert read_plans(folder(tmp_path, dataset=trained.dataset(labels=labels)), "3d_fullres").labels == (
        "tumour",
        "node",
    )


def test_old_plans_name_a_unet_and_its_sizes(tmp_path: Path) -> None:
    held = trained.configuration(
        UNet_class_name="PlainConvUNet",
        UNet_base_num_features=8,
        unet_max_num_features=20,
        n_conv_per_stage_encoder=[2, 2, 2],
        n_conv_per_stage_decoder=[2, 2],
        conv_kernel_sizes=[[1, 3, 3], [3, 3, 3], [3, 3, 3]],
        pool_op_kernel_sizes=[[1, 1, 1], [1, 2, 2], [2, 2, 2]],
    )
    del held["architecture"]
    read = read_plans(folder(tmp_path, trained.plans({"3d_fullres": held})), "3d_fullres").architecture
    assert read.network_class == trained.UNET
    assert read.arguments["features_per_stage"] == [8, 16, 20]
    assert read.arguments["n_conv_per_stage"] == [2, 2, 2]


CONFIGURATIONS: list[tuple[dict[str, Any], str]] = [
    ({"patch_size": [32, 32], "spacing": [1.0, 1.0]}, "two-dimensional"),
    ({"previous_stage": "3d_lowres"}, "cascade"),
    ({"preprocessor_name": "MyPreprocessor"}, "MyPreprocessor"),
    ({"resampling_fn_data": "resample_torch_fornnunet"}, "resample_torch_fornnunet"),
    ({"resampling_fn_data_kwargs": {"order": 2}}, "order 2"),
    ({"resampling_fn_data_kwargs": {"surprise": 2}}, "surprise"),
    ({"normalization_schemes": ["ZScoreNormalization", "MyNormalization"]}, "MyNormalization"),
    ({"normalization_schemes": ["ZScoreNormalization"]}, "2 channels"),
    ({"spacing": [1.0, "wide", 1.0]}, "wide"),
]


@pytest.mark.parametrize(("change", "said"), CONFIGURATIONS)
def test_what_cannot_be_reproduced_is_refused_by_name(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    plans = trained.plans({"3d_fullres": trained.configuration(**change)})
    with pytest.raises(UsageError, match=said) as caught:
        read_plans(folder(tmp_path, plans), "3d_fullres")
    assert "\n" not in caught.value.one_line()


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ({"background": 0, "whole": [1, 2], "core": 2}, "regions"),
        ({"background": 0, "tumour": 2}, "not 0 for background"),
        ({"background": 0}, "not 0 for background"),
    ],
)
def test_labels_that_are_no_plain_labels_are_refused(
    tmp_path: Path, labels: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        read_plans(folder(tmp_path, dataset=trained.dataset(labels=labels)), "3d_fullres")


def test_other_readers_and_configurations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NibabelIOWithReorient"):
        read_plans(folder(tmp_path, trained.plans(image_reader_writer="NibabelIOWithReorient")), "3d_fullres")
    with pytest.raises(UsageError, match="no configuration 3d_lowres"):
        read_plans(folder(tmp_path), "3d_lowres")
    loop = {"a": {"inherits_from": "b"}, "b": {"inherits_from": "a"}}
    with pytest.raises(UsageError, match="no configuration"):
        read_plans(folder(tmp_path, trained.plans(loop)), "a")


def test_files_that_are_missing_or_broken_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"plans\.json cannot be read"):
        read_plans(tmp_path, "3d_fullres")
    folder(tmp_path)
    (tmp_path / "dataset.json").unlink()
    with pytest.raises(UsageError, match=r"dataset\.json cannot be read"):
        read_plans(tmp_path, "3d_fullres")
    (tmp_path / "dataset.json").write_text("{")
    with pytest.raises(UsageError, match="is not JSON"):
        read_plans(tmp_path, "3d_fullres")
    (tmp_path / "dataset.json").write_text("[]")
    with pytest.raises(UsageError, match="JSON object"):
        read_plans(tmp_path, "3d_fullres")
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": trained.dataset()["labels"]}))
    with pytest.raises(UsageError, match="channel_names"):
        read_plans(tmp_path, "3d_fullres")
