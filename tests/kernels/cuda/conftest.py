"""The kernels' bodies compiled by g++ once, launched by the same operations that launch them on a GPU."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from outside import tool

from npc_edge.kernels.cuda import host
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.guarded import Guarded

# Undefined behaviour, an index beyond an array's end too, stops the test.
SANITIZED = ("-O1", "-fsanitize=undefined", "-fno-sanitize-recover=all")


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tool("g++")
    return host.build(tmp_path_factory.mktemp("kernels"), SANITIZED)


@pytest.fixture(params=[1, 3], ids=["one thread", "three threads"])
def operations(library: Path, request: pytest.FixtureRequest) -> Iterator[Operations]:
    """After every test, no kernel has written beside an array."""
    launcher = Guarded(host.HostLauncher(library, threads=request.param))
    yield Operations(launcher)
    launcher.check_guards()


@pytest.fixture(scope="module")
def serial(library: Path) -> Operations:
    """One for all examples of a property; its guards are looked at by the test itself."""
    return Operations(Guarded(host.HostLauncher(library)))
