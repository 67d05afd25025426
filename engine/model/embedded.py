"""The bundle inside this package, and the hash that makes it trusted. Rewritten by `export.pack.embed`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "4b25eb38cb2e9f605572ac54aa457c24940123f403658ced198cc581eb909bd0"
"""SHA-256 of the embedded bundle's manifest.json; empty when none is embedded."""

EMBEDDED = Path(__file__).resolve().parent.parent / "demo_bundle"
