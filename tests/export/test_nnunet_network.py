"""A fold's checkpoint is read without running it, and fits its network or is refused."""

import dataclasses
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import nnunet_folder as trained
import outside
import pytest
import torch

from npc_edge.engine.errors import UsageError
from npc_edge.export.nnunet_network import build_network, read_checkpoint
from npc_edge.export.nnunet_plans import Architecture, read_plans

WEIGHTS = {"module._orig_mod.layer.weight": torch.arange(4.0)}


class Harmful:
    """What a pickle may do when it is opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


def test_a_trainers_log_is_read_beside_the_weights(tmp_path: Path) -> None:
    read = read_checkpoint(trained.checkpoint(tmp_path, WEIGHTS))
    assert (read.configuration, read.mirror_axes) == ("3d_fullres", (0, 1, 2))
    assert list(read.weights) == ["layer.weight"]
    assert read.weights["layer.weight"].tolist() == [0, 1, 2, 3]


def test_numbers_of_numpy_1_are_read_too(tmp_path: Path) -> None:
    path = trained.checkpoint(tmp_path, WEIGHTS)
    held = path.read_bytes()
    assert b"numpy._core.multiarray" in held
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, data in parts.items():
            archive.writestr(name, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray"))
    assert list(read_checkpoint(path).weights) == ["layer.weight"]


def test_a_pickle_that_is_no_weights_is_never_run(tmp_path: Path) -> None:
    made = tmp_path / "made"
    for number, write in enumerate((torch.save, lambda held, path: path.write_bytes(pickle.dumps(held)))):
        path = tmp_path / f"{number}.pth"
        write({"network_weights": Harmful(made)}, path)  # type: ignore[no-untyped-call]
        with pytest.raises(UsageError, match="not a file of weights"):
            read_checkpoint(path)
    assert not made.exists()


@pytest.mark.parametrize("held", [{"a": 1}, {"network_weights": {}}, [1, 2], {"network_weights": {"a": 1}}])
def test_other_files_of_torch_are_no_checkpoints(tmp_path: Path, held: Any) -> None:
    if isinstance(held, dict) and "network_weights" in held:
        held = {**held, "init_args": {"configuration": "x"}}
    torch.save(held, tmp_path / "a.pth")
    with pytest.raises(UsageError, match=r"not a checkpoint|no network weights"):
        read_checkpoint(tmp_path / "a.pth")


def test_broken_and_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read"):
        read_checkpoint(tmp_path / "nowhere.pth")
    path = trained.checkpoint(tmp_path, WEIGHTS)
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(UsageError, match="not a file of weights"):
        read_checkpoint(path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="not a file of weights"):
        read_checkpoint(path)


def test_the_network_of_the_plans_takes_the_weights(tmp_path: Path) -> None:
    outside.package("dynamic_network_architectures.architectures.unet")
    folder = trained.write(tmp_path)
    path = folder / "fold_0" / "checkpoint_final.pth"
    plans, checkpoint = read_plans(folder, "3d_fullres"), read_checkpoint(path)
    network = build_network(plans, checkpoint.weights, path)
    assert not network.training
    with torch.no_grad():
        made = network(torch.zeros(1, 2, 8, 32, 32))
    assert made.shape == (1, 3, 8, 32, 32)
    moved = trained.UNET.replace("unet.Plain", "somewhere_else.Plain")
    again = dataclasses.replace(
        plans, architecture=Architecture(moved, plans.architecture.arguments, plans.architecture.classes)
    )
    assert isinstance(build_network(again, checkpoint.weights, path), type(network))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"network_class": "os.system"}, "os.system of the plans is not known"),
        ({"network_class": trained.UNET + "X"}, "not in dynamic_network_architectures"),
        (
            {"network_class": "dynamic_network_architectures.architectures.unet.torch"},
            r"cannot be built|no PyTorch",
        ),
        ({"arguments": {"n_stages": 3}}, "cannot be built"),
        ({"arguments": {"conv_op": "os.system"}, "classes": ("conv_op",)}, "no layer of torch.nn"),
        ({"arguments": {"conv_op": "torch.nn.functional.relu"}, "classes": ("conv_op",)}, "no layer"),
    ],
)
def test_only_networks_and_layers_are_built(tmp_path: Path, change: dict[str, Any], said: str) -> None:
    outside.package("dynamic_network_architectures.architectures.unet")
    folder = trained.write(tmp_path)
    plans = read_plans(folder, "3d_fullres")
    broken = dataclasses.replace(plans, architecture=dataclasses.replace(plans.architecture, **change))
    with pytest.raises(UsageError, match=said):
        build_network(broken, {}, folder)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    outside.package("dynamic_network_architectures.architectures.unet")
    folder = trained.write(tmp_path)
    plans = read_plans(folder, "3d_fullres")
    with pytest.raises(UsageError, match="do not fit") as caught:
        build_network(plans, {"a": torch.zeros(1)}, folder)
    assert "\n" not in caught.value.one_line()
