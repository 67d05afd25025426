"""The bundle inside this package, and the hash that makes it trusted. Rewritten by `export.pack.embed`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "99048bc974c2967f055f4a415407b43a970f11bc153479482756d2daafd6ac0c"
"""SHA-256 of the embedded bundle's manifest.json; empty when none is embedded."""

EMBEDDED = Path(__file__).resolve().parent.parent / "demo_bundle"
