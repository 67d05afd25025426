"""GPUs: those that answer, or the reason why none does; never both, never neither."""

import re

from npc_edge.engine.gpu import find_gpus


def test_gpus_or_the_reason_why_there_are_none() -> None:
    found = find_gpus()
    assert bool(found.capabilities) != bool(found.why)
    assert all(re.fullmatch(r"sm\d{2,3}", name) for name in found.capabilities)
    assert find_gpus() == found
