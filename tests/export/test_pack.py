"""Packing: whole or not at all, and only what the engine will accept."""

import hashlib
import json
import stat
import sys
from pathlib import Path

import pytest
import tiny_bundle
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from npc_edge.engine.errors import BundleError, OutputError, UsageError
from npc_edge.engine.model.bundle import load
from npc_edge.export.pack import embed, pack
from npc_edge.export.sign import public_bytes, read_key, write_keys


def digests(folder: Path) -> dict[str, str]:
    return {
        p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest()
        for p in folder.rglob("*")
        if p.is_file()
    }


def test_the_manifest_holds_the_hash_of_every_other_file(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    parts = digests(root)
    key = Ed25519PrivateKey.generate()
    pack(root, tiny_bundle.manifest(), key)
    assert json.loads((root / "manifest.json").read_text())["files"] == parts
    assert set(digests(root)) == {*parts, "manifest.json", "SIGNATURE"}
    assert len((root / "SIGNATURE").read_bytes()) == 64
    key.public_key().verify((root / "SIGNATURE").read_bytes(), (root / "manifest.json").read_bytes())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_packing_again_replaces_manifest_and_signature(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    keys = [Ed25519PrivateKey.generate() for _ in range(2)]
    pack(root, tiny_bundle.manifest(), keys[0])
    (root / "model_card.md").write_text("more")
    pack(root, tiny_bundle.manifest(version="2"), keys[1])
    assert load(root, [public_bytes(keys[1])]).name == "tiny 2"
    with pytest.raises(BundleError):
        load(root, [public_bytes(keys[0])])
    pack(root, tiny_bundle.manifest(), None)
    assert not (root / "SIGNATURE").exists()


def test_more_files_join_only_with_the_manifest(tmp_path: Path) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    pack(root, tiny_bundle.manifest(), None)
    before = digests(root)
    (tmp_path / "notes").write_text("measured")
    with pytest.raises(BundleError):
        pack(root, tiny_bundle.manifest(surprise=1), None, {"docs/notes.md": tmp_path / "notes"})
    with pytest.raises(OutputError):
        pack(root, tiny_bundle.manifest(), None, {"docs/notes.md": tmp_path / "nowhere"})
    assert digests(root) == before
    pack(root, tiny_bundle.manifest(), None, {"docs/notes.md": tmp_path / "notes"})
    assert load(root, allow_unsigned=True).file("docs/notes.md").read_text() == "measured"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle", "notes"]


@pytest.mark.parametrize("fault", ["missing artefact", "unknown key", "link", "name"])
def test_what_the_engine_would_refuse_is_not_packed(tmp_path: Path, fault: str) -> None:
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    manifest = tiny_bundle.manifest()
    if fault == "missing artefact":
        (root / "artefacts" / "npc.fp32.onnx").unlink()
    elif fault == "unknown key":
        manifest["surprise"] = 1
    elif fault == "link":
        (root / "card").symlink_to(root / "model_card.md")
    else:
        (root / "name with spaces").write_text("")
    before = digests(root)
    with pytest.raises(BundleError):
        pack(root, manifest, Ed25519PrivateKey.generate())
    assert digests(root) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bundle"]


def test_what_is_not_there_cannot_be_packed(tmp_path: Path) -> None:
    with pytest.raises(OutputError):
        pack(tmp_path / "nowhere", tiny_bundle.manifest(), None)
    assert list(tmp_path.iterdir()) == []


def test_embedding_makes_the_engine_trust_that_very_manifest(tmp_path: Path) -> None:
    engine = tmp_path / "engine"
    (engine / "model").mkdir(parents=True)
    (engine / "model" / "embedded.py").write_text('A = 1\nEMBEDDED_SHA256 = ""\nB = 2\n')
    root = tiny_bundle.write_parts(tmp_path / "bundle")
    for version in ("1", "2"):
        pack(root, tiny_bundle.manifest(version=version), Ed25519PrivateKey.generate())
        digest = embed(root, engine)
        assert digest == hashlib.sha256((root / "manifest.json").read_bytes()).hexdigest()
        text = (engine / "model" / "embedded.py").read_text()
        assert text == f'A = 1\nEMBEDDED_SHA256 = "{digest}"\nB = 2\n'
        assert load(engine / "demo_bundle", allow_unsigned=True).name == f"tiny {version}"
    assert not (engine / "demo_bundle" / "SIGNATURE").exists()
    assert sorted(p.name for p in engine.iterdir()) == ["demo_bundle", "model"]
    assert [p.name for p in (engine / "model").iterdir()] == ["embedded.py"]


def test_keys_are_private_and_never_overwritten(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "site.v1")
    assert (private.name, public.name) == ("site.v1.key", "site.v1.pub")
    if sys.platform != "win32":
        assert stat.S_IMODE(private.stat().st_mode) == 0o600
    before = private.read_bytes()
    with pytest.raises(OutputError, match="already"):
        write_keys(tmp_path / "site.v1")
    private.unlink()
    with pytest.raises(OutputError, match="already"):
        write_keys(tmp_path / "site.v1")
    assert not private.exists()
    private.write_bytes(before)
    assert len(public_bytes(read_key(private))) == 32
    for bad in (public, tmp_path / "nowhere.key"):
        with pytest.raises(UsageError):
            read_key(bad)
    with pytest.raises(OutputError):
        write_keys(tmp_path / "no folder" / "site")
