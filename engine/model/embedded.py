"""The bundle inside this package, and the hash that makes it trusted. Rewritten by `export.pack.embed`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "c6901b77447ab7dc97e4d6dfc17d8f84543da2af822fbd0bbea6f4b7fe53b586"
"""SHA-256 of the embedded bundle's manifest.json; empty when none is embedded."""

EMBEDDED = Path(__file__).resolve().parent.parent / "demo_bundle"
