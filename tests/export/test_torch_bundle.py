"""A network becomes a bundle the engine runs and verifies, or nothing is left behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from small_networks import WINDOW, SmallNet, small, tables
from torch import Tensor, nn

from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.engine.model import acceptance
from npc_edge.engine.model.bundle import load
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.types import Options
from npc_edge.export.make_bundle import Made, Origin, golden_image
from npc_edge.export.sign import public_bytes
from npc_edge.export.spec import make_spec
from npc_edge.export.torch_bundle import bundle_of_module, bundle_of_weights

KEY = Ed25519PrivateKey.generate()
SPEC = make_spec(tables(), "here")


def quiet(line: str) -> None:
    assert "\n" not in line


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("torch")
    torch.save({"state_dict": small(1).state_dict()}, folder / "w.pt")
    result = bundle_of_weights("small_networks:small", folder / "w.pt", SPEC, folder / "b", KEY, quiet)
    assert sorted(path.name for path in folder.iterdir()) == ["b", "w.pt"]
    return result


def test_the_bundle_is_signed_whole_and_verifies(made: Made) -> None:
    bundle = load(made.root, [public_bytes(KEY)])
    assert bundle.trusted
    assert set(bundle.manifest.files) == {"artefacts/npc.fp32.onnx", "golden/npc.a.npz", "model_card.md"}
    (result,) = acceptance.verify(bundle, Options(backend="onnxruntime", threads=1))
    assert (result.status, len(result.cases)) == ("passed", 1)


def test_its_network_says_what_pytorch_says(made: Made) -> None:
    image = torch.randn(1, 2, *WINDOW, generator=torch.Generator().manual_seed(3))
    with torch.no_grad():
        expected = small(1).eval()(image)
    with open_runner(load(made.root, [public_bytes(KEY)]), "npc", Options()) as runner:
        found = runner.infer({"image": image.numpy()})
    for name, value in zip(SPEC.output_names, expected, strict=True):
        np.testing.assert_allclose(found[name], value.numpy(), atol=1e-5)


def test_what_was_measured_is_in_manifest_and_card(made: Made) -> None:
    manifest = load(made.root, [public_bytes(KEY)]).manifest
    (parity,) = manifest.networks[0].artefacts[0].parity
    assert parity == made.parity
    assert 0 <= parity.max_relative_error < 1e-4
    assert parity.dice == 1.0
    assert manifest.provenance.tools["exporter"] == "torch.onnx dynamo"
    assert manifest.provenance.tools["torch"].startswith("2.13.0")
    assert len(manifest.provenance.tools["weights_sha256"]) == 64
    card = (made.root / "model_card.md").read_text()
    for words in (
        "# small 1",
        "Research use only",
        f"{parity.max_relative_error:.1e}",
        'from under "state_dict"',
    ):
        assert words in card
    assert "no T category" in card


def test_the_golden_input_is_normalised_and_not_flat() -> None:
    for method in ("percentile", "zscore"):
        network = {**tables()["network"], "normalisation": {"method": method}}
        image = golden_image(make_spec(tables(network=network), "here"))
        assert image.shape == (1, 2, *WINDOW)
        assert image.dtype == np.float32
        assert image.std() > 0.1
        assert np.abs(image[:, :, 0]).max() == np.abs(image[..., -1]).max() == 0
        assert np.array_equal(image, acceptance.storable(image))
        assert method != "percentile" or (image.min() >= 0 and image.max() <= 1)


class InADict(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net = small()

    def forward(self, image: Tensor) -> dict[str, Tensor]:
        tumour, anatomy, score = self.net(image)
        return {"detection": score, "anatomy": anatomy, "tumour": tumour}


def test_outputs_in_a_mapping_are_taken_by_name_and_unsigned_is_possible(tmp_path: Path) -> None:
    result = bundle_of_module(InADict(), SPEC, tmp_path / "b", None, Origin({}), quiet)
    bundle = load(result.root, allow_unsigned=True)
    assert not bundle.trusted
    with pytest.raises(BundleError, match="not signed"):
        load(result.root)


class Wrong(SmallNet):
    """Outputs that are not what the spec says."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def forward(self, image: Tensor) -> Any:
        tumour, anatomy, score = super().forward(image)
        if self.how == "half size":
            return tumour[..., ::2], anatomy, score
        if self.how == "two classes":
            return tumour, anatomy, torch.cat([score, score], 1)
        return tumour, anatomy


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("half size", "output tumour has shape"),
        ("two classes", r"output detection has shape \(1, 2\)"),
        ("one missing", "has 2 outputs, not the 3 named"),
    ],
)
def test_outputs_that_are_not_the_spec_s_leave_nothing(tmp_path: Path, how: str, said: str) -> None:
    with pytest.raises(BundleError, match=said):
        bundle_of_module(Wrong(how), SPEC, tmp_path / "b", KEY, Origin({}), quiet)
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("years of work")
    with pytest.raises(OutputError, match="is there already"):
        bundle_of_module(small(), SPEC, tmp_path / "b", KEY, Origin({}), quiet)
    assert [path.name for path in tmp_path.rglob("*.txt")] == ["thesis.txt"]


FULL = """
import resource, sys
from pathlib import Path
from small_networks import small, tables
from npc_edge.engine.errors import OutputError
from npc_edge.export.make_bundle import Origin
from npc_edge.export.spec import make_spec
from npc_edge.export.torch_bundle import bundle_of_module
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), int(sys.argv[2])))
try:
    bundle_of_module(small(), make_spec(tables(), "x"), Path(sys.argv[1]) / "b", None, Origin({}), print)
except OutputError as error:
    print("refused:", error.one_line())
"""


@pytest.mark.parametrize("room", [1500, 6000], ids=["no room for the network", "no room for the golden case"])
def test_a_full_disk_leaves_nothing(tmp_path: Path, room: int) -> None:
    """A limit on the size of a file fails a write as a full disk does."""
    ran = subprocess.run(
        [sys.executable, "-c", FULL, tmp_path, str(room)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        check=False,
    )
    assert ran.stdout.splitlines()[-1].startswith("refused:"), ran.stdout + ran.stderr[-1000:]
    assert "written" in ran.stdout.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
