"""The bundle inside this package, and the hash that makes it trusted. Rewritten by `export.pack.embed`."""

from __future__ import annotations

from pathlib import Path

EMBEDDED_SHA256 = "22818c49caf0a019b66cfbfd0758e7102ab302638e78859fdc315ef36c4a36f2"
"""SHA-256 of the embedded bundle's manifest.json; empty when none is embedded."""

EMBEDDED = Path(__file__).resolve().parent.parent / "demo_bundle"
