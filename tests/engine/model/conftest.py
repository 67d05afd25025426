"""A signed tiny bundle, made once: tests copy it before they change a byte."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from signed import Signed

from npc_edge.engine.model.bundle import Bundle
from npc_edge.export.pack import pack
from npc_edge.export.sign import public_bytes


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Signed:
    root = tiny_bundle.write_parts(tmp_path_factory.mktemp("made") / "bundle")
    key = Ed25519PrivateKey.generate()
    pack(root, tiny_bundle.manifest(), key)
    return Signed(root, key, public_bytes(key))


@pytest.fixture
def signed(made: Signed, tmp_path: Path) -> Signed:
    """A copy to damage."""
    shutil.copytree(made.root, tmp_path / "bundle")
    return Signed(tmp_path / "bundle", made.key, made.public)


@pytest.fixture
def repack(signed: Signed) -> Callable[..., Bundle]:
    """Pack the copy again with a changed manifest, then load it."""

    def again(**changes: object) -> Bundle:
        pack(signed.root, tiny_bundle.manifest(**changes), signed.key)
        return signed.load()

    return again
