"""Whether a TensorRT takes the card is asked of it, and its words are kept."""

from functools import partial
from typing import Any

from fake_tensorrt import HostMemory, module

from npc_edge.bench.gpu_tensorrt import acceptance
from npc_edge.engine.errors import BackendError
from npc_edge.engine.gpu import Gpus
from npc_edge.engine.model.runners.tensorrt_build import Runtime, TensorRt

CARD = Gpus(("sm90",), "", ("NVIDIA H100",), (80_000.0,), "13.0")


def loaded(runtime: Runtime, card: str = "SM90") -> TensorRt:
    made: Any = module(rtx=True)
    made.ComputeCapability = type("ComputeCapability", (), {"__members__": {"NONE": 0, card: 1}})
    return TensorRt(made, "tensorrt-rtx", "1.7")


def asked(plan: bytes, card: str = "SM90") -> dict[str, Any]:
    return acceptance(
        "rtx", 0, partial(loaded, card=card), build=lambda trt: plan, memory=HostMemory, gpus=CARD
    )


def test_a_card_that_runs_a_network_is_taken_whatever_is_listed() -> None:
    row = asked(b"plan")
    assert row["accepts"] is True
    assert row["listed"] is True
    row = asked(b"plan", card="SM86")
    assert row["accepts"] is True
    assert row["listed"] is False
    assert row["lists"] == ["sm86"]


def test_what_does_not_load_is_refused_in_its_own_words() -> None:
    row = asked(b"bad plan")
    assert row["accepts"] is False
    assert row["at"] == "run"
    assert "does not load" in row["words"]


def test_what_does_not_build_is_refused_too() -> None:
    def refuses(trt: TensorRt) -> bytes:
        raise BackendError("sm90 is not supported")

    row = acceptance("rtx", 0, loaded, build=refuses, memory=HostMemory, gpus=CARD)
    assert (row["accepts"], row["at"], row["words"]) == (False, "build", "sm90 is not supported")


def test_without_it_or_without_a_gpu_nothing_was_asked() -> None:
    def missing(runtime: Runtime) -> TensorRt:
        raise BackendError("tensorrt-rtx is not installed")

    assert acceptance("rtx", 0, missing)["words"] == "tensorrt-rtx is not installed"
    row = acceptance("rtx", 0, loaded, gpus=Gpus((), "no NVIDIA driver is installed"))
    assert row["accepts"] is None
    assert "no NVIDIA driver" in row["words"]
