"""What an environment weighs: asked of this one, which holds more than the plain install."""

import sys
from argparse import ArgumentParser
from pathlib import Path

import pytest

from npc_edge.bench import install_size


def ran(*arguments: str) -> int:
    parser = ArgumentParser()
    install_size.add_arguments(parser)
    return install_size.main(parser.parse_args(list(arguments)))


def test_what_npc_edge_requires_is_weighed_and_nothing_else() -> None:
    found = install_size.weigh(Path(sys.executable), ("npc-edge",))
    there = set(found["distributions"])
    assert {"npc-edge", "numpy", "simpleitk", "pydicom", "highdicom", "onnxruntime"} <= there
    assert not there & {"torch", "onnx", "scipy", "pytest", "pip"}
    assert found["total_mb"] == pytest.approx(
        sum(row["mb"] for row in found["distributions"].values()), abs=0.1
    )
    assert 400 < found["total_mb"] <= 800


def test_an_environment_with_torch_is_no_plain_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("--plain") == 1
    assert "torch" in capsys.readouterr().err


def test_too_much_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("--of", "npc-edge", "--most", "1") == 1
    printed = capsys.readouterr()
    assert "more than 1" in printed.err
    assert "| simpleitk |" in printed.out


def test_enough_room_is_fine() -> None:
    assert ran("--of", "npc-edge", "--most", "800") == 0
