"""A bundle: what a network is, what it wants and who vouches for it. Nothing in it runs before it is checked.

A directory: manifest.json, which holds the SHA-256 of every other file; SIGNATURE, 64 bytes of Ed25519 over
manifest.json; and the files it lists, nothing else.
"""

from __future__ import annotations

import hashlib
import hmac
import posixpath
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from npc_edge.engine.errors import BundleError
from npc_edge.engine.model import embedded
from npc_edge.engine.model.manifest import Artefact, Manifest, NetworkSpec
from npc_edge.engine.model.onnx_external import external_files

MANIFEST, SIGNATURE = "manifest.json", "SIGNATURE"
_MANIFEST_BYTES = 16 * 2**20
_COPY_AGAIN = "copy the bundle again from where it came"


@dataclass(frozen=True)
class Bundle:
    """A checked bundle. trusted: signed by a known key, or the embedded one; else allowed by the user."""

    root: Path
    manifest: Manifest
    manifest_sha256: str
    trusted: bool

    @property
    def name(self) -> str:
        """Name and version, e.g. "npc-demo 1"."""
        return f"{self.manifest.name} {self.manifest.version}"

    def network(self, name: str) -> NetworkSpec:
        """The network of that name; BundleError when there is none."""
        for network in self.manifest.networks:
            if network.name == name:
                return network
        raise BundleError(f"the bundle has no network {name}")

    def find(self, network: str, precision: str) -> Artefact | None:
        """A network's ONNX artefact in a precision of the manifest ("fp32", "int8-u8s8" …), None without."""
        artefacts = self.network(network).artefacts
        wanted = (a for a in artefacts if a.precision == precision and a.format == "onnx")
        return next(wanted, None)

    def artefact(self, network: str, precision: str) -> Path:
        """Path of a network's ONNX artefact, its hash checked again. BundleError when absent or altered."""
        found = self.find(network, precision)
        if found is None:
            raise BundleError(f"the bundle has no {precision} artefact of network {network}")
        return self.file(found.file)

    def file(self, name: str) -> Path:
        """Path of a listed file, its hash checked once more."""
        path = self.root / name
        if name not in self.manifest.files or _sha256(path) != self.manifest.files[name]:
            raise BundleError(f"{name} of the bundle is not the file its manifest lists", _COPY_AGAIN)
        return path


def load(path: Path | None, keys: Sequence[bytes | Path] = (), allow_unsigned: bool = False) -> Bundle:
    """Check a bundle and open it. path None: the embedded one, trusted by its hash.

    keys: trusted Ed25519 public keys, 32 raw bytes, PEM, or a file of either. allow_unsigned: accept a bundle
    nobody vouches for; its hashes must still match. Raises BundleError, before anything is deserialised.
    """
    root = (embedded.EMBEDDED if path is None else path).absolute()
    if not (root / MANIFEST).is_file():
        if path is None:
            raise BundleError("this installation has no embedded bundle", "name one with --bundle")
        raise BundleError(f"{path} is not a bundle: it has no {MANIFEST}", "name the folder that holds one")
    text = _read(root / MANIFEST, _MANIFEST_BYTES)
    digest = hashlib.sha256(text).hexdigest()
    trusted = hmac.compare_digest(digest, embedded.EMBEDDED_SHA256)
    if path is None and not trusted:
        raise BundleError("the embedded bundle was altered", "install npc-edge again")
    if not trusted:
        trusted = _vouched(root, text, keys, allow_unsigned)
    manifest = _parse(text)
    _check_files(root, manifest)
    return Bundle(root, manifest, digest, trusted)


def public_key(key: bytes | Path) -> bytes:
    """The 32 raw bytes of an Ed25519 public key given raw, as PEM, or as a file of either; BundleError."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    data = _read(key, 4096) if isinstance(key, Path) else key
    if len(data) == 32:
        return data
    try:
        loaded = serialization.load_pem_public_key(data)
    except (ValueError, UnsupportedAlgorithm):
        loaded = None
    if not isinstance(loaded, Ed25519PublicKey):
        where = key.name if isinstance(key, Path) else "a trusted key"
        raise BundleError(f"{where} is not an Ed25519 public key", "make keys with npc-edge keygen")
    return loaded.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def _vouched(root: Path, text: bytes, keys: Sequence[bytes | Path], allow_unsigned: bool) -> bool:
    """True when a trusted key signed the manifest; False when not but allowed; BundleError otherwise."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if not (root / SIGNATURE).is_file():
        if allow_unsigned:
            return False
        raise BundleError("the bundle is not signed", "run it with --allow-unsigned if you trust it")
    signature = _read(root / SIGNATURE, 4096)
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(public_key(key)).verify(signature, text)
        except InvalidSignature:
            continue
        return True
    if allow_unsigned:
        return False
    raise BundleError(
        "the bundle is not signed by a trusted key, or was altered",
        "put its maker's .pub into keys/ of the state directory, or run it with --allow-unsigned",
    )


def _parse(text: bytes) -> Manifest:
    try:
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise BundleError(f"{MANIFEST} is not valid: {where}: {first['msg']}") from error


def _check_files(root: Path, manifest: Manifest) -> None:
    """Every listed file whole, nothing unlisted, no links, no ONNX data from elsewhere."""
    present = set(_walk(root, root))
    allowed = set(manifest.files) | {MANIFEST, SIGNATURE}
    if unlisted := sorted(present - allowed):
        raise BundleError(f"{unlisted[0]} is in the bundle but not in its manifest", _COPY_AGAIN)
    if missing := sorted(set(manifest.files) - present):
        raise BundleError(f"{missing[0]} is missing from the bundle", _COPY_AGAIN)
    for name, digest in manifest.files.items():
        if not hmac.compare_digest(_sha256(root / name), digest):
            raise BundleError(f"{name} of the bundle was altered or cut short", _COPY_AGAIN)
    for network in manifest.networks:
        for artefact in network.artefacts:
            if artefact.format == "onnx":
                _check_external(root, artefact.file, manifest)


def _check_external(root: Path, name: str, manifest: Manifest) -> None:
    for location in external_files(_read(root / name)):
        # No listed name holds "..", "." or a leading slash, so a location with one of these never matches.
        if posixpath.join(posixpath.dirname(name), location) not in manifest.files:
            raise BundleError(f"{name} reads data from outside the bundle")


def _walk(root: Path, folder: Path) -> Iterator[str]:
    """Names of all files, relative with slashes; BundleError for a link or anything that is no plain file."""
    try:
        entries = sorted(folder.iterdir())
    except OSError as error:
        raise BundleError(f"the bundle cannot be read: {error.strerror}") from error
    for entry in entries:
        name = entry.relative_to(root).as_posix()
        if entry.is_symlink():
            raise BundleError(f"{name} is a link: a bundle holds plain files only")
        if entry.is_dir():
            yield from _walk(root, entry)
        elif entry.is_file():
            yield name
        else:
            raise BundleError(f"{name} is not a plain file")


def _read(path: Path, limit: int | None = None) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read() if limit is None else file.read(limit + 1)
    except OSError as error:
        raise BundleError(f"{path.name} of the bundle cannot be read: {error.strerror}") from error
    if limit is not None and len(data) > limit:
        raise BundleError(f"{path.name} is too large")
    return data


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise BundleError(f"{path.name} of the bundle cannot be read: {error.strerror}") from error
