"""Weights are tensors, never code; what does not fit is named."""

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_networks import SmallNet, small
from torch import nn

from npc_edge.engine.errors import UsageError
from npc_edge.export.weights import apply_weights, build_network, load_weights


def same(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return all(torch.equal(ours[name], theirs[name]) for name in theirs)


def wrapped(how: str, state: dict[str, Any]) -> Any:
    return {
        "plain": state,
        "state_dict": {"epoch": 3, "state_dict": state},
        "model": {"model": state, "optimizer": {"lr": 0.1}},
        "network_weights": {"network_weights": state, "trainer_name": "x"},
        "module": {f"module.{name}": value for name, value in state.items()},
        "both": {"state_dict": {f"module._orig_mod.{name}": value for name, value in state.items()}},
    }[how]


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("plain", []),
        ("state_dict", ['under "state_dict"']),
        ("model", ['under "model"']),
        ("network_weights", ['under "network_weights"']),
        ("module", ['"module."']),
        ("both", ['under "state_dict"', '"module."', '"_orig_mod."']),
    ],
)
def test_wrappers_are_taken_off_and_said(tmp_path: Path, how: str, said: list[str]) -> None:
    torch.save(wrapped(how, dict(small(1).state_dict())), tmp_path / "w.pt")
    network = small(2)
    told = apply_weights(network, load_weights(tmp_path / "w.pt"), "w.pt")
    assert same(network, small(1))
    assert len(told) == len(said)
    assert all(words in line for words, line in zip(said, told, strict=True))


def test_a_network_whose_own_names_begin_so_keeps_them(tmp_path: Path) -> None:
    class Holder(nn.Module):
        def __init__(self, seed: int) -> None:
            super().__init__()
            self.module = small(seed)

    torch.save(Holder(1).state_dict(), tmp_path / "w.pt")
    network = Holder(2)
    assert apply_weights(network, load_weights(tmp_path / "w.pt"), "w.pt") == ()
    assert same(network, Holder(1))


def test_safetensors_and_half_precision(tmp_path: Path) -> None:
    halves = {n: t.half() if t.is_floating_point() else t for n, t in small(1).state_dict().items()}
    save_file(halves, tmp_path / "w.safetensors")
    network = small(2)
    told = apply_weights(network, load_weights(tmp_path / "w.safetensors"), "w.safetensors")
    assert told == ("weights stored as float16 are used as float32",)
    assert network.first.weight.dtype == torch.float32
    assert torch.equal(network.first.weight, halves["first.weight"].float())


class Payload:
    """A pickle that makes a file where it is loaded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)


@pytest.mark.parametrize("how", ["pickle", "torch", "in a checkpoint", "whole module"])
def test_a_pickle_that_is_no_weights_is_not_run(tmp_path: Path, how: str) -> None:
    mark, path = tmp_path / "mark", tmp_path / "w.pt"
    if how == "pickle":
        path.write_bytes(pickle.dumps(Payload(mark)))
    elif how == "torch":
        torch.save(Payload(mark), path)
    elif how == "in a checkpoint":
        torch.save({"state_dict": small().state_dict(), "hook": Payload(mark)}, path)
    else:
        torch.save(small(), path)
    with pytest.raises(UsageError, match="holds more than tensors") as caught:
        load_weights(path)
    assert "\n" not in caught.value.one_line()
    assert not mark.exists()


def test_the_payload_would_run(tmp_path: Path) -> None:
    """Or the test above could not fail."""
    pickle.loads(pickle.dumps(Payload(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_what_is_no_file_of_weights(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with pytest.raises(UsageError, match="no weights at"):
        load_weights(path)
    for content in (b"", b"not weights at all", bytes(range(256))):
        path.write_bytes(content)
        with pytest.raises(UsageError) as caught:
            load_weights(path)
        assert "\n" not in caught.value.one_line()
    if name == "w.pt":
        torch.save(small().state_dict(), path)
    else:
        save_file(small().state_dict(), path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UsageError, match="cut short"):
        load_weights(path)


@pytest.mark.parametrize(
    ("held", "said"),
    [(torch.zeros(3), "a Tensor"), ({}, "nothing"), ({"epoch": 3, "lr": 0.1}, "epoch, lr"), ([1], "a list")],
)
def test_tensors_without_a_state_dict(tmp_path: Path, held: Any, said: str) -> None:
    torch.save(held, tmp_path / "w.pt")
    with pytest.raises(UsageError, match=said):
        load_weights(tmp_path / "w.pt")


def test_names_and_shapes_that_do_not_fit_are_named(tmp_path: Path) -> None:
    path, network = tmp_path / "w.pt", small(2)

    def complaint(state: dict[str, Any]) -> str:
        torch.save(state, path)
        with pytest.raises(UsageError) as caught:
            apply_weights(network, load_weights(path), path.name)
        assert same(network, small(2)), "nothing was copied"
        return caught.value.one_line()

    whole = dict(small(1).state_dict())
    lacking = {name: value for name, value in whole.items() if not name.startswith("tumour")}
    assert "lacks tumour.weight, tumour.bias" in complaint(lacking)
    strange = {**whole, **{f"aux.{k}": torch.zeros(1) for k in range(5)}}
    assert "holds aux.0, aux.1, aux.2 and 2 more, unknown to the network" in complaint(strange)
    wrong = {**whole, "score.weight": torch.zeros(1, 5)}
    assert "score.weight is (1, 5), not (1, 4)" in complaint(wrong)
    broken = {**whole, "score.bias": torch.tensor([float("nan")])}
    assert "not finite in score.bias" in complaint(broken)


def test_counters_of_batches_are_not_needed(tmp_path: Path) -> None:
    state = {n: t for n, t in small(1).state_dict().items() if not n.endswith("num_batches_tracked")}
    torch.save(state, tmp_path / "w.pt")
    network = small(2)
    assert "batch counters" in apply_weights(network, load_weights(tmp_path / "w.pt"), "w.pt")[0]
    assert torch.equal(network.first.weight, small(1).first.weight)


def test_a_factory_is_found_in_the_current_folder_too(tmp_path: Path) -> None:
    (tmp_path / "my_own_net.py").write_text(
        "from torch import nn\n\ndef build():\n    return nn.Conv3d(1, 1, 1)\n"
    )
    assert isinstance(build_network("my_own_net:build", tmp_path), nn.Conv3d)
    assert isinstance(build_network("small_networks:small"), SmallNet)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("small_networks", "is not MODULE:FACTORY"),
        ("small_networks:", "is not MODULE:FACTORY"),
        ("no_such_module:build", "no module no_such_module"),
        ("small_networks.deeper:build", "no module small_networks.deeper"),
        ("small_networks:nothing", "has no factory nothing"),
        ("small_networks:WINDOW", "has no factory WINDOW"),
        ("small_networks:not_a_network", "returned a str, not a torch.nn.Module"),
        ("small_networks:broken", "failed: RuntimeError: the moon is in the wrong house"),
        ("bad_syntax:build", "failed: SyntaxError"),
        ("needs_more:build", "needs no_such_library_at_all, which is not installed"),
    ],
)
def test_a_factory_that_is_not_there_or_fails(tmp_path: Path, name: str, said: str) -> None:
    (tmp_path / "bad_syntax.py").write_text("def build(:\n")
    (tmp_path / "needs_more.py").write_text("import no_such_library_at_all\n")
    with pytest.raises(UsageError) as caught:
        build_network(name, tmp_path)
    assert said in caught.value.one_line()
    assert "\n" not in caught.value.one_line()
