"""A home for the tests: what a program keeps for its user, it keeps there, never with whoever runs them."""

import os
import tempfile
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session", autouse=True)
def home() -> Iterator[None]:
    """An empty home folder for this process and all it starts."""
    before = {name: os.environ.get(name) for name in ("HOME", "USERPROFILE")}
    with tempfile.TemporaryDirectory(prefix="npc-edge-home-") as folder:
        os.environ |= dict.fromkeys(before, folder)
        yield
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
