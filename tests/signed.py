"""A packed bundle with the key that signed it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.model.bundle import Bundle, load


@dataclass(frozen=True)
class Signed:
    """root: the bundle's folder. public: 32 raw bytes."""

    root: Path
    key: Ed25519PrivateKey
    public: bytes

    def load(self) -> Bundle:
        return load(self.root, [self.public])
