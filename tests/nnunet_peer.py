"""nnU-Net's own predictor on the images of a test, and the same images through the engine."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from numpy.typing import NDArray

from npc_edge.engine.model import nnunet
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.runner import Arrays, FakeRunner
from npc_edge.engine.study.nifti_input import read_nifti
from npc_edge.engine.types import Watch
from npc_edge.export.nnunet import NnunetJob, describe
from npc_edge.export.nnunet_network import build_network, read_checkpoint
from npc_edge.export.nnunet_plans import read_plans


def write_images(
    root: Path,
    shape: tuple[int, int, int],
    spacing: Sequence[float],
    direction: NDArray[np.float64] | None = None,
    border: int = 0,
    channels: Sequence[str] = ("t1", "t2"),
) -> dict[str, Path]:
    """Smooth heads with noise, one file a channel. shape (z, y, x) voxels, spacing (x, y, z) mm; border:
    voxels of nothing on each side in plane, and a hole within."""
    rng = np.random.default_rng(7)
    z, y, x = np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij")
    paths = {}
    blobs = [(rng.uniform(-0.7, 0.7, 3), rng.uniform(0.1, 0.4), rng.uniform(30, 90)) for _ in range(12)]
    tissue = sum(
        h * np.exp(-((z - c[0]) ** 2 + (y - c[1]) ** 2 + (x - c[2]) ** 2) / w**2) for c, w, h in blobs
    )
    for number, name in enumerate(channels):
        image = 60 + tissue if number == 0 else 230 - 0.8 * tissue
        image = image + rng.normal(0, 6, shape)
        if border:
            head = np.zeros(shape, dtype=np.bool_)
            head[1:, border:-border, 2 * border : -border] = True
            head[2:4, shape[1] // 2 : shape[1] // 2 + 3, shape[2] // 2 : shape[2] // 2 + 3] = False
            image = np.where(head, image, 0)
        held = sitk.GetImageFromArray(image.astype(np.float32))
        held.SetSpacing([float(s) for s in spacing])
        held.SetOrigin((12.0, -30.0, 44.0))
        held.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
        paths[name] = root / f"{name}.nii.gz"
        sitk.WriteImage(held, str(paths[name]))
    return paths


def turned(degrees: float, *, left_handed: bool = False) -> NDArray[np.float64]:
    """Direction columns of a grid tilted about two axes; left_handed: rows reversed, as dcm2niix writes."""
    c, s = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    tilt = np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    return np.asarray(tilt * ([1, -1, 1] if left_handed else [1, 1, 1]))


def predict_with_nnunet(
    folder: Path, images: Sequence[Path], folds: Sequence[str] = ("0",), *, mirroring: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Labels (z, y, x) and probabilities (K, z, y, x) of nnUNetPredictor, axes as the file stores them."""
    from nnunetv2.imageio.simpleitk_reader_writer import SimpleITKIO
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor
    from nnunetv2.utilities.get_network_from_plans import get_network_from_plans
    from nnunetv2.utilities.plans_handling.plans_handler import PlansManager

    about = json.loads((folder / "dataset.json").read_text())
    manager = PlansManager(json.loads((folder / "plans.json").read_text()))
    held = manager.get_configuration("3d_fullres")
    network = get_network_from_plans(
        held.network_arch_class_name,
        held.network_arch_init_kwargs,
        held.network_arch_init_kwargs_req_import,
        len(about["channel_names"]),
        manager.get_label_manager(about).num_segmentation_heads,
        deep_supervision=False,
    )
    weights = [
        torch.load(folder / f"fold_{fold}" / "checkpoint_final.pth", weights_only=False)["network_weights"]
        for fold in folds
    ]
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictor = nnUNetPredictor(
            use_mirroring=mirroring, device=torch.device("cpu"), allow_tqdm=False, verbose=False
        )
        predictor.manual_initialization(network, manager, held, weights, about, "nnUNetTrainer", (0, 1, 2))
        image, properties = SimpleITKIO().read_images([str(path) for path in images])
        return predictor.predict_single_npy_array(image, properties, save_or_return_probabilities=True)


def predict_with_engine(
    folder: Path, images: Mapping[str, Path], folds: Sequence[str] = ("0",), *, mirroring: bool = False
) -> NDArray[np.float32]:
    """Probabilities (K, z, y, x), axes as the file stores them; the networks run in PyTorch, all else is the
    engine's."""
    volumes = read_nifti(images)
    first = read_checkpoint(folder / "fold_0" / "checkpoint_final.pth")
    plans = read_plans(folder, first.configuration)
    job = NnunetJob(folder, folder / "unused", mirroring=mirroring)
    spec = NetworkSpec.model_validate(describe(job, plans, first, ["fold_0"])["networks"][0])
    runners = []
    for fold in folds:
        path = folder / f"fold_{fold}" / "checkpoint_final.pth"
        runners.append(FakeRunner(_torch(build_network(plans, read_checkpoint(path).weights, path))))
    reference = next(iter(images))
    prepared = nnunet.prepare(volumes, spec, reference)
    logits = nnunet.infer(runners, prepared, spec, Watch()).outputs["segmentation"][0].astype(np.float32)
    stored = volumes[reference].stored
    assert stored is not None
    return softmax(logits[:, ::-1] if stored.turned else logits)


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    powers = np.exp(logits - logits.max(axis=0))
    return np.asarray(powers / powers.sum(axis=0))


def _torch(network: torch.nn.Module) -> Any:
    def outputs(inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        with torch.no_grad():
            return {"segmentation": network(torch.from_numpy(inputs["image"].copy())).numpy()}

    return outputs


def shares(labels: NDArray[Any], count: int) -> list[float]:
    return [round(float(n) / labels.size, 3) for n in np.bincount(labels.ravel(), minlength=count)]


def all_mirrors(axes: Sequence[int]) -> list[tuple[int, ...]]:
    return [turn for n in range(1, len(axes) + 1) for turn in itertools.combinations(axes, n)]
