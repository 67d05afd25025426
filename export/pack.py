"""A folder of files becomes a bundle: hashed, described, signed, and checked as the engine will check it."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import ValidationError

from npc_edge.engine.errors import BundleError, OutputError
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.manifest import Manifest
from npc_edge.export.sign import public_bytes


def pack(
    root: Path,
    manifest_without_files: Mapping[str, Any],
    key: Ed25519PrivateKey | None,
    more: Mapping[str, Path] | None = None,
) -> None:
    """Write manifest.json, with the hash of every file under root, and SIGNATURE; without a key, none.

    All happens in a copy beside root that takes root's place only when the engine accepts it. A manifest.json
    or SIGNATURE already there is replaced. more: files to add, by their names in the bundle. Raises
    BundleError (the manifest or a file is not valid; root is untouched), OutputError.
    """
    staging = root.with_name(f".{root.name}.{secrets.token_hex(4)}")
    try:
        shutil.copytree(root, staging, symlinks=True)
        for name in (bundles.MANIFEST, bundles.SIGNATURE):
            (staging / name).unlink(missing_ok=True)
        for name, source in (more or {}).items():
            (staging / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, staging / name)
        text = _manifest_text(staging, manifest_without_files)
        _write(staging / bundles.MANIFEST, text)
        if key is not None:
            _write(staging / bundles.SIGNATURE, key.sign(text))
        keys = [] if key is None else [public_bytes(key)]
        bundles.load(staging, keys, allow_unsigned=key is None)
        replace(staging, root)
    except OSError as error:
        raise OutputError(f"the bundle cannot be written: {reason(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def embed(bundle: Path, engine: Path) -> str:
    """Put an unsigned or signed bundle into the engine's source folder and make the engine trust its hash.

    engine: the folder that holds demo_bundle/ and model/embedded.py. Returns the manifest's SHA-256.
    """
    loaded = bundles.load(bundle, allow_unsigned=True)
    target, source = engine / "demo_bundle", engine / "model" / "embedded.py"
    staging = engine / f".demo_bundle.{secrets.token_hex(4)}"
    text, count = re.subn(
        r'^EMBEDDED_SHA256 = ".*"$',
        f'EMBEDDED_SHA256 = "{loaded.manifest_sha256}"',
        source.read_text(),
        flags=re.M,
    )
    if count != 1:
        raise OutputError(f"{source} has no line EMBEDDED_SHA256 to rewrite")
    try:
        # A signature says nothing about a bundle that is trusted by its hash.
        shutil.copytree(bundle, staging, ignore=shutil.ignore_patterns(bundles.SIGNATURE))
        replace(staging, target)
        fresh = source.with_name(f".{source.name}.{secrets.token_hex(4)}")
        _write(fresh, text.encode())
        fresh.replace(source)
    except OSError as error:
        raise OutputError(f"the bundle cannot be embedded: {reason(error)}") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return loaded.manifest_sha256


def reason(error: OSError) -> str:
    """Why a file could not be written. Copying a folder gathers its faults as text: the first is given."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return re.sub(r"^\[Errno \d+\] ", "", str(error.args[0][0][-1])).partition(": '")[0]
    return error.strerror or str(error)


def _manifest_text(folder: Path, manifest: Mapping[str, Any]) -> bytes:
    files = {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
    try:
        return (
            Manifest.model_validate({**manifest, "files": files}).model_dump_json(indent=2) + "\n"
        ).encode()
    except ValidationError as error:
        raise BundleError(f"the manifest is not valid: {error}") from error


def _write(path: Path, data: bytes) -> None:
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(staging: Path, root: Path) -> None:
    """Put a folder in another's place; the old one comes back if the last step fails. OSError."""
    old = root.with_name(f".{root.name}.{secrets.token_hex(4)}.old")
    if root.exists():
        root.rename(old)
    try:
        staging.rename(root)
    except OSError:
        if old.exists():
            old.rename(root)
        raise
    shutil.rmtree(old, ignore_errors=True)
