"""Of PyTorch's ways the fastest runs the studies; one that does not run is left out, and said."""

import pytest

from npc_edge.bench.peers.networks import Variant, variants
from npc_edge.engine.errors import BackendError

pytest.importorskip("monai")


@pytest.mark.filterwarnings("ignore")  # of MONAI, about readers that are not installed
def test_the_fastest_runs_but_a_new_process_compiles_nothing() -> None:
    from npc_edge.bench.peers.torch_role import quickest

    taken = {"fp32": 4.0, "tf32": 3.0, "fp16": 2.0, "autocast": 2.5}

    def seconds(way: Variant) -> float:
        if way.precision == "tf32" and way.channels_last:
            raise RuntimeError("CUDA out of memory\nmore of it")
        return taken[way.precision] / (2 if way.compiled else 1)

    best, left_out = quickest(variants("cuda"), seconds)
    assert best["warm"] == Variant("fp16", True, "cuda", "default")
    assert best["cold"] == Variant("fp16", False, "cuda")
    assert left_out == {"torch tf32 channels_last_3d cuda": "CUDA out of memory"}


@pytest.mark.filterwarnings("ignore")
def test_no_way_at_all_is_an_error() -> None:
    from npc_edge.bench.peers.torch_role import quickest

    def fails(way: Variant) -> float:
        raise RuntimeError("no kernel image")

    with pytest.raises(BackendError, match=r"in no way here.*no kernel image"):
        quickest(variants("cpu"), fails)
