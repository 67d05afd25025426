"""From a trained folder to a bundle that says what nnU-Net's own predictor says."""

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nnunet_folder as trained
import nnunet_peer as peer
import numpy as np
import outside
import pytest
import SimpleITK as sitk
import torch
from cli import run
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine import Options, Session
from npc_edge.engine.errors import NpcEdgeError, OutputError, UsageError
from npc_edge.engine.model import acceptance
from npc_edge.engine.model.bundle import load
from npc_edge.export.nnunet import NnunetJob, describe, export_nnunet, find_folds
from npc_edge.export.nnunet_network import Checkpoint
from npc_edge.export.nnunet_plans import read_plans
from npc_edge.export.sign import public_bytes

AGREE = 0.999  # of all voxels
SOFTMAX = 2e-3  # half precision leaves 1e-3 between two logits near 1; measured: 2e-4

PLANS: dict[str, dict[str, Any]] = {
    "anisotropic": trained.plans(),
    "isotropic": trained.plans(
        {"3d_fullres": trained.configuration(**trained.ISOTROPIC, use_mask_for_norm=[True, False])}
    ),
    "transposed CT": trained.plans(
        {
            "3d_fullres": trained.configuration(
                normalization_schemes=["CTNormalization", "RescaleTo01Normalization"]
            )
        },
        transpose_forward=[2, 0, 1],
        transpose_backward=[1, 2, 0],
    ),
}
COARSE = trained.plans(
    {"3d_fullres": trained.configuration(spacing=[6.5, 2.1, 2.1])}
)  # what is exported: quick
IMAGES: dict[str, dict[str, Any]] = {
    "thick slices": {"shape": (14, 60, 50), "spacing": (1.1, 1.1, 5.2)},
    "oblique, rows reversed, with a border": {
        "shape": (14, 60, 50),
        "spacing": (1.1, 1.1, 5.2),
        "direction": peer.turned(17, left_handed=True),
        "border": 5,
    },
    "thin slices, tilted": {
        "shape": (30, 40, 44),
        "spacing": (1.1, 1.1, 1.3),
        "direction": peer.turned(9),
        "border": 4,
    },
    "smaller than a window": {"shape": (5, 25, 70), "spacing": (0.9, 0.9, 3.0)},
}


@pytest.fixture(scope="module")
def nnunet() -> None:
    outside.package("nnunetv2.inference.predict_from_raw_data")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A trained folder with two folds for each of the plans."""
    outside.package("dynamic_network_architectures.architectures.unet")
    root = tmp_path_factory.mktemp("trained")
    wanted = {**PLANS, "coarse": COARSE}
    return {name: trained.write(root / name, plans, folds=("0", "1")) for name, plans in wanted.items()}


@pytest.fixture(scope="module")
def key() -> Ed25519PrivateKey:
    return Ed25519PrivateKey.generate()


@pytest.fixture(scope="module")
def exported(
    folders: dict[str, Path], key: Ed25519PrivateKey, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The coarse ensemble as a signed bundle."""
    out = tmp_path_factory.mktemp("bundles") / "npc"
    return export_nnunet(NnunetJob(folders["coarse"], out), key)


@pytest.fixture(scope="module")
def session(exported: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    options = Options(state=tmp_path_factory.mktemp("state"), allow_unsigned=True, threads=1)
    with Session(exported, options) as opened:
        yield opened


def agreement(ours: Any, theirs: Any, told: str) -> float:
    """The share of equal voxels; says so, and that there is more than one label to agree on."""
    labels, probabilities = theirs
    share = float((ours.argmax(axis=0) == labels).mean())
    apart = float(np.abs(ours - probabilities).max())
    shares = peer.shares(labels, len(probabilities))
    print(f"{told}: {share:.2%} of voxels agree, softmax differs by {apart:.1e}; labels {shares}")
    assert max(shares) < 0.95
    assert apart <= SOFTMAX
    return share


@pytest.mark.parametrize("image", IMAGES)
@pytest.mark.parametrize("plans", PLANS)
def test_parity_with_nnunets_own_predictor(
    nnunet: None, folders: dict[str, Path], tmp_path: Path, plans: str, image: str
) -> None:
    images = peer.write_images(tmp_path, **IMAGES[image])
    theirs = peer.predict_with_nnunet(folders[plans], list(images.values()))
    ours = peer.predict_with_engine(folders[plans], images)
    assert agreement(ours, theirs, f"{plans}, {image}") >= AGREE


@pytest.mark.parametrize("plans", ["anisotropic", "isotropic"])
@pytest.mark.parametrize(
    ("image", "folds", "mirroring"),
    [
        ("oblique, rows reversed, with a border", ("0", "1"), False),
        ("smaller than a window", ("0",), True),
    ],
)
def test_parity_of_ensembles_and_mirror_images(
    nnunet: None,
    folders: dict[str, Path],
    tmp_path: Path,
    plans: str,
    image: str,
    folds: Sequence[str],
    mirroring: bool,
) -> None:
    images = peer.write_images(tmp_path, **IMAGES[image])
    theirs = peer.predict_with_nnunet(folders[plans], list(images.values()), folds, mirroring=mirroring)
    ours = peer.predict_with_engine(folders[plans], images, folds, mirroring=mirroring)
    assert agreement(ours, theirs, f"{plans}, folds {folds}, mirroring {mirroring}") >= AGREE


@pytest.mark.parametrize("image", ["thick slices", "oblique, rows reversed, with a border"])
def test_parity_of_the_bundle_from_file_to_mask(
    nnunet: None, folders: dict[str, Path], session: Session, tmp_path: Path, image: str
) -> None:
    """The whole way: ONNX Runtime, the session, and the masks as they are written."""
    images = peer.write_images(tmp_path, **IMAGES[image])
    labels, _ = peer.predict_with_nnunet(folders["coarse"], list(images.values()), ("0", "1"))
    result = session.run(images, tmp_path / "out")
    assert result.document.detection is None
    for name, values in (("tumour", labels == 1), ("structures", np.where(labels == 1, 0, labels))):
        written = sitk.ReadImage(str(tmp_path / "out" / f"{name}.nii.gz"))
        source = sitk.ReadImage(str(images["t1"]))
        # The engine writes right-handed grids: bring both to one orientation by their headers.
        here = sitk.Resample(written, source, sitk.Transform(), sitk.sitkNearestNeighbor)
        equal = sitk.GetArrayFromImage(here) == values
        print(f"{name}, {image}: {equal.mean():.3%} of voxels agree")
        assert equal.mean() >= AGREE


def test_parity_of_a_dicom_study_with_its_conversion_by_dcm2niix(
    nnunet: None, folders: dict[str, Path], session: Session, tmp_path: Path
) -> None:
    """A series from the scanner is handed to the network as dcm2niix would have written it."""
    tool = outside.tool("dcm2niix")
    made = run("phantom", tmp_path / "p", "--stage", "T2", "--seed", 3, "--matrix", 96, "--slices", 12)
    assert made.returncode == 0, made.stderr
    (tmp_path / "nifti").mkdir()
    command = [tool, "-f", "%p", "-o", str(tmp_path / "nifti"), str(tmp_path / "p" / "study")]
    subprocess.run(command, check=True, capture_output=True)
    images = {
        name: next(path for path in (tmp_path / "nifti").glob("*.nii") if name in path.name.lower())
        for name in ("t1", "t2")
    }
    sizes = {name: sitk.ReadImage(str(path)).GetSize() for name, path in images.items()}
    # Nothing is written: random weights make ten thousand specks, and as many contours.
    result = session.run(tmp_path / "p" / "study")
    assert result.findings is not None
    checks = {check.check: check for check in result.findings.quality}
    grids = sizes["t1"] == sizes["t2"]
    if not grids or checks["one_grid"].passed is None:
        t1 = sitk.ReadImage(str(images["t1"]), sitk.sitkFloat32)
        t2 = sitk.ReadImage(str(images["t2"]), sitk.sitkFloat32)
        moved = sitk.Resample(t2, t1, sitk.Transform(), sitk.sitkLinear)
        sitk.WriteImage(moved, str(images["t2"]))
    labels, _ = peer.predict_with_nnunet(folders["coarse"], list(images.values()), ("0", "1"))
    ours = result.findings.segmentation.tumour[:, ::-1]
    share = float((ours == (labels == 1)).mean())
    print(f"DICOM against dcm2niix: {share:.3%} of voxels agree; {checks['one_grid'].detail}")
    assert share >= AGREE


def test_a_bundle_without_anatomy_or_detection_invents_nothing(session: Session, tmp_path: Path) -> None:
    images = peer.write_images(tmp_path, **IMAGES["thick slices"])
    result = session.run(images, tmp_path / "out")
    held = json.loads((tmp_path / "out" / "result.json").read_text())
    assert held["outcome"] == "result"
    assert held["detection"] is None
    assert held["tumour"]["volume_ml"] > 0
    assert (held["staging"]["ajcc8"], held["staging"]["ajcc9"], held["staging"]["evidence"]) == (
        None,
        None,
        [],
    )
    whys = [gap["why"] for gap in held["staging"]["not_assessable"]]
    assert whys.count("the bundle predicts no anatomy under the tumour") > 10
    assert held["labels"]["structures.nii.gz"] == {"2": "GTVn"}
    assert {path.name for path in result.files} == {
        "result.json",
        "report.html",
        "tumour.nii.gz",
        "structures.nii.gz",
    }
    report = (tmp_path / "out" / "report.html").read_text()
    assert "not assessable (the bundle predicts no anatomy under the tumour" in report


def test_the_bundle_is_whole_and_verifies_itself(exported: Path, key: Ed25519PrivateKey) -> None:
    bundle = load(exported, [public_bytes(key)])
    assert bundle.trusted
    manifest = bundle.manifest
    assert (manifest.name, manifest.task, manifest.reference_sequence) == (
        "Dataset501_NPC",
        "segmentation",
        "t1",
    )
    assert [network.name for network in manifest.networks] == ["fold_0", "fold_1"]
    assert manifest.detection is None
    scheme = manifest.networks[0].nnunet
    assert scheme is not None
    assert (scheme.mirror_axes, scheme.rows_reversed) == ((), True)
    parity = [artefact.parity[0] for network in manifest.networks for artefact in network.artefacts]
    assert all(0 <= row.max_relative_error < 1e-4 for row in parity)
    results = acceptance.verify(bundle, Options(backend="onnxruntime", threads=1))
    assert [(result.file, result.status) for result in results] == [
        ("artefacts/fold_0.fp32.onnx", "passed"),
        ("artefacts/fold_1.fp32.onnx", "passed"),
    ]
    assert "Labels: GTVp, GTVn; the tumour is" in (exported / "model_card.md").read_text()
    assert list(exported.parent.iterdir()) == [exported]


def manifest_of(folder: Path, **changes: Any) -> dict[str, Any]:
    job = NnunetJob(folder, folder / "unused", **changes)
    held = Checkpoint({}, "3d_fullres", (0, 2))
    return describe(job, read_plans(folder, "3d_fullres"), held, ["fold_0"])


def write_jsons(folder: Path, **about: Any) -> Path:
    (folder / "plans.json").write_text(json.dumps(trained.plans()))
    (folder / "dataset.json").write_text(json.dumps(trained.dataset(**about)))
    return folder


def test_channels_and_labels_may_be_named(tmp_path: Path) -> None:
    labels = {"background": 0, "lesion": 1, "node left": 2, "GTVp": 3}
    folder = write_jsons(tmp_path, channel_names={"0": "CE-T1", "1": "T2FS"}, labels=labels)
    made = manifest_of(folder, roles={"ce-t1": "t1c"}, tumour="gtvp", mirroring=True, name="my net")
    assert made["name"] == "my_net"
    assert made["sequences"] == [{"name": "t1c", "roles": ["T1C"]}, {"name": "t2fs", "roles": ["T2FS"]}]
    assert tuple(made["networks"][0]["nnunet"]["mirror_axes"]) == (0, 2)
    assert [(one["code"], one["name"], one["structure"], one["side"]) for one in made["labels"]] == [
        (3, "GTVp", "tumour", "midline"),
        (1, "lesion", "lesion", "midline"),
        (2, "node_left", "node_left", "left"),
    ]


@pytest.mark.parametrize(
    ("about", "changes", "said"),
    [
        ({"channel_names": {"0": "CE-T1", "1": "T2"}}, {}, "--channel CE-T1=ROLE"),
        ({}, {"roles": {"T3": "T1C"}}, "no channel t3"),
        ({}, {"roles": {"T2": "T1"}}, "the same role"),
        ({}, {"tumour": "tonsil"}, "it has GTVp, GTVn"),
    ],
)
def test_names_that_mean_nothing_are_said(
    tmp_path: Path, about: Mapping[str, Any], changes: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(UsageError) as caught:
        manifest_of(write_jsons(tmp_path, **about), **changes)
    assert said in caught.value.one_line()


def test_mirroring_wants_a_model_trained_with_it(tmp_path: Path) -> None:
    folder = write_jsons(tmp_path)
    job = NnunetJob(folder, tmp_path / "out", mirroring=True)
    with pytest.raises(UsageError, match="without mirroring"):
        describe(job, read_plans(folder, "3d_fullres"), Checkpoint({}, "3d_fullres", ()), ["fold_0"])


def test_folds_are_found_as_nnunet_finds_them(tmp_path: Path) -> None:
    for fold in ("0", "3", "all", "empty"):
        (tmp_path / f"fold_{fold}").mkdir()
        if fold != "empty":
            (tmp_path / f"fold_{fold}" / "checkpoint_final.pth").write_bytes(b"")

    def names(*folds: str, checkpoint: str = "checkpoint_final.pth") -> list[str]:
        return [name for name, _ in find_folds(NnunetJob(tmp_path, tmp_path, folds, checkpoint))]

    assert names() == ["fold_0", "fold_3"]
    assert names("3") == ["fold_3"]
    assert names("all") == ["fold_all"]
    with pytest.raises(UsageError, match=r"there is no .*fold_1"):
        names("1")
    with pytest.raises(UsageError, match="named twice"):
        names("0", "0")
    with pytest.raises(UsageError, match="no fold with a checkpoint_best"):
        names(checkpoint="checkpoint_best.pth")
    for fold in ("0", "3"):
        shutil.rmtree(tmp_path / f"fold_{fold}")
    assert names() == ["fold_all"]


@pytest.mark.parametrize("fault", ["out is there", "no plans", "pickle", "other weights", "unwritable"])
def test_a_failed_export_leaves_nothing_behind(folders: dict[str, Path], tmp_path: Path, fault: str) -> None:
    folder, out = shutil.copytree(folders["anisotropic"], tmp_path / "model"), tmp_path / "out" / "bundle"
    out.parent.mkdir()
    kind: type[NpcEdgeError] = UsageError
    if fault == "out is there":
        out.mkdir()
        kind = OutputError
    elif fault == "no plans":
        (folder / "plans.json").unlink()
    elif fault == "pickle":
        (folder / "fold_0" / "checkpoint_final.pth").write_bytes(b"\x80\x04N.")
    elif fault == "other weights":
        trained.checkpoint(folder / "fold_0", {"a": torch.zeros(2)})
    else:
        out = tmp_path / "model" / "plans.json" / "bundle"  # a file is no folder
        kind = OutputError
    before = sorted(path for path in tmp_path.rglob("*"))
    with pytest.raises(kind) as caught:
        export_nnunet(NnunetJob(folder, out), None)
    assert "\n" not in caught.value.one_line()
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_the_command_says_in_one_line_what_is_wrong(tmp_path: Path) -> None:
    for arguments, said in (
        ([tmp_path, "--out", tmp_path / "b"], "plans.json cannot be read"),
        ([tmp_path, "--out", tmp_path / "b", "--channel", "T1"], "--channel wants NAME=ROLE"),
    ):
        ran = run("export", "nnunet", *arguments)
        assert ran.returncode == 2, ran.stderr
        assert said in ran.stderr
        assert ran.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
