"""MONAI bundles: what the engine reproduces gives the same answer, everything else is refused by name."""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("monai", reason="monai is not installed")

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BundleError, UsageError
from npc_edge.engine.findings.segment import segment
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.prepare import prepare
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.types import Options, Predictions, Volume, Watch
from npc_edge.export.monai_bundle import Oriented, bundle_of_monai, plan
from npc_edge.export.monai_config import read_config
from npc_edge.export.sign import public_bytes

NETWORK = {
    "_target_": "BasicUNet",
    "spatial_dims": 3,
    "in_channels": 2,
    "out_channels": 3,
    "features": [4, 4, 4, 4, 4, 4],
}
ROI = [16, 32, 48]  # along MONAI's axes: x, y, z

INFERENCE: dict[str, Any] = {
    "image_key": "image",
    "network_def": NETWORK,
    "network": "$@network_def.to(@device)",
    "device": "$torch.device('cuda:0' if torch.cuda.is_available() else 'cpu')",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "LoadImaged", "keys": "@image_key"},
            {"_target_": "EnsureChannelFirstd", "keys": "@image_key"},
            {"_target_": "Orientationd", "keys": "@image_key", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "@image_key", "pixdim": [1.5, 1.0, 2.0], "mode": "bilinear"},
            {"_target_": "NormalizeIntensityd", "keys": "@image_key", "nonzero": True, "channel_wise": True},
            {"_target_": "EnsureTyped", "keys": "@image_key"},
        ],
    },
    "inferer": {
        "_target_": "SlidingWindowInferer",
        "roi_size": ROI,
        "sw_batch_size": 4,
        "overlap": 0.5,
        "mode": "gaussian",
    },
    "postprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Activationsd", "keys": "pred", "softmax": True},
            {"_target_": "Invertd", "keys": "pred", "transform": "@preprocessing"},
            {"_target_": "AsDiscreted", "keys": "pred", "argmax": True},
            {"_target_": "SaveImaged", "keys": "pred", "output_dir": "$@output_dir"},
        ],
    },
}
METADATA = {
    "version": "0.3.1",
    "intended_use": "research",
    "data_source": "somewhere",
    "network_data_format": {"inputs": {"image": {"channel_def": {"0": "T1", "1": "T2"}}}},
}
SPEC = """
name = "from-monai"
licence = "Apache-2.0"
evidence = "retrospective"
task = "segmentation"
sequences = [{ name = "t1", roles = ["T1"] }, { name = "t2", roles = ["T2"] }]
reference_sequence = "t1"
tumour = { threshold = 0.5 }
provenance = {}
network = { name = "net" }
"""


def unet() -> torch.nn.Module:
    from monai.networks.nets.basic_unet import BasicUNet

    torch.manual_seed(0)
    arguments = {key: value for key, value in NETWORK.items() if key != "_target_"}
    network = BasicUNet(**arguments)  # type: ignore[arg-type]
    assert isinstance(network, torch.nn.Module)
    return network.eval()


def write(folder: Path, inference: dict[str, Any] = INFERENCE, spec: str = SPEC) -> Path:
    (folder / "configs").mkdir(parents=True)
    (folder / "configs" / "inference.json").write_text(json.dumps(inference))
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA))
    (folder / "spec.toml").write_text(spec)
    return folder


def changed(*path: Any, value: Any) -> dict[str, Any]:
    document = copy.deepcopy(INFERENCE)
    place: Any = document
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return document


def step(name: str, **arguments: Any) -> dict[str, Any]:
    return {"_target_": name, "keys": "image", **arguments}


PRE, POST = ("preprocessing", "transforms"), ("postprocessing", "transforms")


def test_its_numbers_become_the_spec_s(tmp_path: Path) -> None:
    config, spec = plan(write(tmp_path), tmp_path / "spec.toml")
    network = spec.network
    assert (network.spacing, network.window, network.overlap) == ((2.0, 1.0, 1.5), (48, 32, 16), 0.5)
    assert network.resampling == "linear-unsmoothed"
    assert network.normalisation.method == "zscore-nonzero"
    assert network.inputs == ("t1", "t2")
    assert [(output.name, output.kind) for output in network.outputs] == [("segmentation", "segmentation")]
    assert (spec.version, spec.provenance.training_data) == ("0.3.1", "somewhere")
    assert spec.tumour is not None
    assert (spec.tumour.rule, spec.tumour.threshold) == ("argmax", 0.5)
    assert config.notes == ()


def by_threshold(value: float) -> dict[str, Any]:
    """The same bundle with a sigmoid and a threshold at its end."""
    inference = changed(*POST, 0, value=step("Activationsd", sigmoid=True))
    inference["postprocessing"]["transforms"][2] = step("AsDiscreted", threshold=value)
    return inference


def test_a_threshold_is_no_argmax(tmp_path: Path) -> None:
    spec = SPEC.replace("tumour = { threshold = 0.5 }", "")
    _, made = plan(write(tmp_path, by_threshold(0.3), spec), tmp_path / "spec.toml")
    assert made.tumour is not None
    assert (made.tumour.rule, made.tumour.threshold) == ("threshold", 0.3)
    assert [output.kind for output in made.network.outputs] == ["tumour"]


@pytest.mark.parametrize(
    ("inference", "tumour", "said"),
    [
        (INFERENCE, '{ rule = "threshold", threshold = 0.5 }', "tumour.rule is threshold, the MONAI bundle"),
        (None, '{ rule = "argmax", threshold = 0.3 }', "tumour.rule is argmax, the MONAI bundle says thresh"),
        (None, "{ threshold = 0.4 }", "tumour.threshold is 0.4, the MONAI bundle says 0.3"),
        (None, "0.3", "tumour"),
    ],
)
def test_a_spec_that_makes_another_mask_is_refused(
    tmp_path: Path, inference: dict[str, Any] | None, tumour: str, said: str
) -> None:
    spec = SPEC.replace("{ threshold = 0.5 }", tumour)
    with pytest.raises(UsageError) as caught:
        plan(write(tmp_path, inference or by_threshold(0.3), spec), tmp_path / "spec.toml")
    assert said in caught.value.one_line()


def test_yaml_is_read_too(tmp_path: Path) -> None:
    yaml = pytest.importorskip("yaml", reason="pyyaml is not installed")
    write(tmp_path)
    (tmp_path / "configs" / "inference.json").unlink()
    (tmp_path / "configs" / "inference.yaml").write_text(yaml.safe_dump(INFERENCE))
    assert plan(tmp_path, tmp_path / "spec.toml")[1].network.window == (48, 32, 16)


@pytest.mark.parametrize(
    ("inference", "said"),
    [
        (changed(*PRE, 5, value=step("CropForegroundd", source_key="image")), "CropForeground is not a step"),
        (changed(*PRE, 5, value=step("ScaleIntensityRanged", a_min=0)), "ScaleIntensityRange is not a step"),
        (changed(*PRE, 4, value=step("EnsureTyped")), "has no NormalizeIntensity"),
        (changed(*PRE, 2, value=step("EnsureTyped")), "without an Orientation before it"),
        (changed(*PRE, 4, "channel_wise", value=False), "channel_wise"),
        (changed(*PRE, 4, "subtrahend", value=[1.0, 2.0]), "NormalizeIntensity.subtrahend"),
        (changed(*PRE, 3, "mode", value="nearest"), "Spacing.mode nearest"),
        (changed(*PRE, 3, "align_corners", value=True), "Spacing.align_corners True"),
        (changed(*PRE, 3, "min_pixdim", value=[1, 1, 1]), "Spacing.min_pixdim"),
        (changed(*PRE, 3, "pixdim", value="$[1, 1, 1]"), "Spacing.pixdim"),
        (changed(*PRE, 3, value=step("Orientationd", axcodes="RAS")), "does not come where"),
        (changed("inferer", "_target_", value="SaliencyInferer"), "SaliencyInferer is not an inferer"),
        (changed("inferer", "mode", value="constant"), "SlidingWindowInferer.mode is not reproduced"),
        (changed("inferer", "sigma_scale", value=0.25), "SlidingWindowInferer.sigma_scale 0.25"),
        (
            changed(*POST, 3, value=step("KeepLargestConnectedComponentd")),
            "KeepLargestConnectedComponent is not",
        ),
        (changed(*POST, 2, value=step("AsDiscreted", argmax=True, threshold=0.5)), "a mask of a mask"),
        (changed(*POST, 3, value=step("AsDiscreted", argmax=True)), "a mask of a mask"),
        (changed("network_def", "features", value="$print('run')"), "is a program"),
        (changed("network_def", "features", value="@nowhere"), "refers to @nowhere"),
        (changed("network_def", value="$scripts.net()"), "defines no network"),
    ],
)
def test_what_is_not_reproduced_is_refused_by_name(
    tmp_path: Path, inference: dict[str, Any], said: str
) -> None:
    with pytest.raises(BundleError) as caught:
        read_config(write(tmp_path, inference))
    assert said in caught.value.one_line()


def test_what_may_be_left_out_is_noted(tmp_path: Path) -> None:
    inference = changed("inferer", "mode", value="constant")
    inference["postprocessing"]["transforms"].append(step("KeepLargestConnectedComponentd"))
    accept = ("SlidingWindowInferer.mode", "KeepLargestConnectedComponent")
    notes = read_config(write(tmp_path, inference), accept).notes
    assert all(any(note.startswith(f"MONAI's {name} is left out") for note in notes) for name in accept)


@pytest.mark.parametrize(
    ("addition", "said"),
    [
        ("window = [48, 32, 32]", "network.window is [48, 32, 32], the MONAI bundle says [48, 32, 16]"),
        ('normalisation = { method = "zscore" }', "network.normalisation is"),
        ('inputs = ["t1"]', "network.inputs are 1, the MONAI bundle has 2"),
        ('outputs = [{ name = "pred", kind = "tumour" }]', "not of the MONAI bundle's kind segmentation"),
    ],
)
def test_two_that_disagree_are_refused(tmp_path: Path, addition: str, said: str) -> None:
    spec = SPEC.replace('network = { name = "net" }', f'[network]\nname = "net"\n{addition}')
    with pytest.raises(UsageError) as caught:
        plan(write(tmp_path, spec=spec), tmp_path / "spec.toml")
    assert said in caught.value.one_line()


def test_a_network_of_the_maker_s_own_code_is_not_run(tmp_path: Path) -> None:
    folder = write(tmp_path, changed("network_def", "_target_", value="os.mkdir"))
    config, spec = plan(folder, folder / "spec.toml")
    with pytest.raises(BundleError, match=r"os\.mkdir, code of its own that is not run"):
        bundle_of_monai(folder, config, spec, tmp_path / "out", None, lambda line: None)
    assert not (tmp_path / "out").exists()


def test_no_bundle_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no MONAI bundle"):
        read_config(tmp_path)


@pytest.mark.parametrize("codes", ["RAS", "LPS", "SAL"])
def test_axes_are_turned_and_turned_back(codes: str) -> None:
    """A network that returns its input shows whether the way back is the way in."""
    from npc_edge.export.monai_config import _AXES

    axes = tuple(_AXES[code] for code in codes)
    image = torch.arange(2 * 3 * 4 * 5).float().reshape(1, 2, 3, 4, 5)
    seen: list[torch.Tensor] = []

    class Looks(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    (back,) = Oriented(Looks(), axes)(image)
    assert torch.equal(back, image)
    if codes == "RAS":  # MONAI's first axis is x, running to the right; the engine's last runs to the left
        assert torch.equal(seen[0][0, 0, :, 0, 0], image[0, 0, 0, -1, :].flip(0))


def test_the_bundle_says_what_monai_says(tmp_path: Path) -> None:
    """MONAI's own transforms and network on an image against the engine's way to the same grid."""
    from monai.data.meta_tensor import MetaTensor
    from monai.transforms.compose import Compose
    from monai.transforms.intensity.dictionary import NormalizeIntensityd
    from monai.transforms.post.array import AsDiscrete
    from monai.transforms.spatial.dictionary import Orientationd, Spacingd

    folder = write(tmp_path / "monai")
    (folder / "models").mkdir()
    torch.save(unet().state_dict(), folder / "models" / "model.pt")
    key = Ed25519PrivateKey.generate()
    config, spec = plan(folder, folder / "spec.toml")
    made = bundle_of_monai(folder, config, spec, tmp_path / "out", key, lambda line: None)
    assert made.parity is not None
    assert made.parity.max_relative_error < 1e-4

    # Sizes whose grids have the same middle for both: (n - 1) x spacing / pixdim + 1 = 16, 32, 48.
    size, spacing = (21, 63, 48), (1.125, 0.5, 2.0)
    rng = np.random.default_rng(1)
    voxels = [rng.uniform(10, 200, size).astype(np.float32) for _ in range(2)]
    for array in voxels:
        array[:2] = 0
    # x and y run to the left and back in LPS; NIfTI's world is RAS.
    affine = np.diag([-spacing[0], -spacing[1], spacing[2], 1.0])
    steps = Compose(
        [
            Orientationd(keys="image", axcodes="RAS", labels=(("L", "R"), ("P", "A"), ("I", "S"))),
            Spacingd(keys="image", pixdim=(1.5, 1.0, 2.0), mode="bilinear"),
            NormalizeIntensityd(keys="image", nonzero=True, channel_wise=True),
        ]
    )
    image = MetaTensor(torch.from_numpy(np.stack(voxels)), affine=torch.from_numpy(affine))
    seen = torch.as_tensor(np.asarray(steps({"image": image})["image"]))[None]
    assert seen.shape == (1, 2, 16, 32, 48)
    with torch.no_grad():
        expected = unet()(seen)

    shape = (size[2], size[1], size[0])
    geometry = Geometry.from_parts(shape, spacing, (0.0, 0.0, 0.0))
    volumes = {
        name: Volume(np.ascontiguousarray(array.T), geometry)
        for name, array in zip(("t1", "t2"), voxels, strict=True)
    }
    bundle = load(made.root, [public_bytes(key)])
    prepared = prepare(volumes, bundle.network("net"), None, "t1")
    assert prepared.array.shape == (1, 2, 48, 32, 16)

    def on_our_axes(values: torch.Tensor) -> Any:
        return values.flip(2, 3).permute(0, 1, 4, 3, 2).numpy()

    np.testing.assert_allclose(prepared.array, on_our_axes(seen), atol=1e-3)
    with open_runner(bundle, "net", Options()) as runner:
        found = runner.infer({"image": prepared.array})["segmentation"]
    theirs = on_our_axes(expected)
    assert np.abs(found - theirs).max() < 1e-3 * np.abs(theirs).max()
    # On the model's own grid nothing is interpolated: the mask is MONAI's argmax, but where labels are alike.
    seen_by = Volume(np.zeros(prepared.geometry.shape, np.float32), prepared.geometry)
    mask = segment(Predictions({"segmentation": found}, prepared.geometry), seen_by, bundle.manifest, Watch())
    wanted = torch.from_numpy(np.ascontiguousarray(theirs))
    largest = AsDiscrete(argmax=True)(wanted[0])[0].numpy() == 1
    assert 0.05 < largest.mean() < 0.95
    assert (mask.tumour.astype(bool) != largest).mean() < 1e-3
    assert ((mask.tumour_probability >= 0.5) != largest).mean() > 0.01  # a threshold would say otherwise
