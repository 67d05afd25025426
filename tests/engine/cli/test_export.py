"""export as a person calls it: a bundle that runs, or one clear line and the right exit code."""

import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import pytest
import tiny_bundle
import torch
from cli import PROGRAM, run
from small_networks import SPEC, small

TESTS = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """w.pt, n.onnx, spec.toml and site.key, with its .pub in a state directory."""
    folder = tmp_path_factory.mktemp("shelf")
    torch.save(small(1).state_dict(), folder / "w.pt")
    onnx.save(tiny_bundle.npc(), str(folder / "n.onnx"))
    (folder / "spec.toml").write_text(SPEC)
    assert run("keygen", folder / "site").returncode == 0
    (folder / "state" / "keys").mkdir(parents=True)
    (folder / "site.pub").rename(folder / "state" / "keys" / "site.pub")
    return folder


def export(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """From the folder of this test's networks, as a user stands beside their own."""
    return subprocess.run(
        [*PROGRAM, "export", *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=TESTS,
        timeout=300,
        check=False,
    )


def complaint(ran: subprocess.CompletedProcess[str], code: int) -> str:
    assert ran.returncode == code, ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("npc-edge: ")
    assert "Traceback" not in ran.stderr
    return line


def test_torch_makes_a_signed_bundle_that_verifies(shelf: Path, tmp_path: Path) -> None:
    ran = export(
        shelf,
        *("torch", "--network", "small_networks:small", "--weights", shelf / "w.pt"),
        *("--spec", shelf / "spec.toml", "--key", shelf / "site.key", "--out", tmp_path / "b"),
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.count("\n") == 1
    assert "exporting npc" in ran.stderr
    verified = run("verify", tmp_path / "b", "--state", shelf / "state", "--json")
    assert verified.returncode == 0, verified.stderr
    assert '"trusted": true' in verified.stdout


def test_onnx_makes_a_bundle_unsigned_only_when_asked(shelf: Path, tmp_path: Path) -> None:
    common = ("onnx", shelf / "n.onnx", "--spec", shelf / "spec.toml", "--out", tmp_path / "b")
    assert "--unsigned" in complaint(export(shelf, *common), 2)
    assert not (tmp_path / "b").exists()
    ran = export(shelf, *common, "--unsigned")
    assert ran.returncode == 0, ran.stderr
    assert run("verify", tmp_path / "b", "--state", shelf / "state").returncode == 4
    assert "already" in complaint(export(shelf, *common, "--unsigned"), 6)


class Payload:
    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


def test_what_is_wrong_ends_in_one_line_and_no_bundle(shelf: Path, tmp_path: Path) -> None:
    (tmp_path / "evil.pt").write_bytes(pickle.dumps(Payload(tmp_path / "mark")))
    (tmp_path / "spec.toml").write_text(SPEC.replace('licence = "Apache-2.0"\n', ""))

    def torch_with(**changes: str | Path) -> subprocess.CompletedProcess[str]:
        given = {
            "network": "small_networks:small",
            "weights": shelf / "w.pt",
            "spec": shelf / "spec.toml",
            "key": shelf / "site.key",
            "out": tmp_path / "b",
            **changes,
        }
        words = [word for name, value in given.items() for word in (f"--{name}", value)]
        return export(shelf, "torch", *words)

    assert "more than tensors" in complaint(torch_with(weights=tmp_path / "evil.pt"), 2)
    assert not (tmp_path / "mark").exists()
    assert "licence is missing" in complaint(torch_with(spec=tmp_path / "spec.toml"), 2)
    assert "no factory nothing" in complaint(torch_with(network="small_networks:nothing"), 2)
    assert "not an Ed25519 private key" in complaint(torch_with(key=shelf / "w.pt"), 2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["evil.pt", "spec.toml"]


@pytest.mark.parametrize(
    ("command", "lacking", "extra"),
    [("torch", "torch", "export"), ("onnx", "onnx", "export"), ("monai", "monai", "export,monai")],
)
def test_5_is_a_plain_install(shelf: Path, tmp_path: Path, command: str, lacking: str, extra: str) -> None:
    """As where the package is not installed: its import fails."""
    arguments = ["export", command, "--spec", str(shelf / "spec.toml"), "--unsigned", "--out", "b"]
    arguments += {
        "torch": ["--network", "a:b", "--weights", str(shelf / "w.pt")],
        "onnx": [str(shelf / "n.onnx")],
        "monai": [str(tmp_path)],
    }[command]
    code = f"import sys; sys.modules[{lacking!r}] = None\n"
    code += f"from npc_edge.engine.cli.app import main; main({arguments!r})"
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert f"pip install 'npc-edge[{extra}]'" in complaint(ran, 5)
    assert list(tmp_path.iterdir()) == []
