"""The bundle inside this package, and the hash that makes it trusted. Rewritten by `export.pack.embed`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "dcb16f2bb2d19c64cb44352b3cef5ff848fbf1ba17347c39dd83fb0882bbada3"
"""SHA-256 of the embedded bundle's manifest.json; empty when none is embedded."""

EMBEDDED = Path(__file__).resolve().parent.parent / "demo_bundle"
