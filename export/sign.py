"""Ed25519 keys and signatures. A private key is a PKCS #8 PEM file of mode 0600; its .pub is PEM too."""

from __future__ import annotations

import os
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import OutputError, UsageError


def write_keys(stem: Path) -> tuple[Path, Path]:
    """Make a key pair: stem.key (mode 0600) and stem.pub. OutputError when either is there already."""
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    paths = stem.with_name(stem.name + ".key"), stem.with_name(stem.name + ".pub")
    for path in paths:
        if path.exists():
            raise OutputError(f"{path} is there already", "a key is never overwritten: choose another name")
    try:
        for path, data, mode in zip(paths, (private, public), (0o600, 0o644), strict=True):
            with os.fdopen(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode), "wb") as file:
                file.write(data)
    except OSError as error:
        raise OutputError(f"the key cannot be written: {error.strerror}") from error
    return paths


def read_key(path: Path) -> Ed25519PrivateKey:
    """A private key written by `write_keys`. UsageError when it is none."""
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise UsageError(f"the key {path} cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path} is not an Ed25519 private key", "make one with npc-edge keygen")
    return key


def public_bytes(key: Ed25519PrivateKey) -> bytes:
    """The 32 raw bytes of the public half."""
    return key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
