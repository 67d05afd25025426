"""The state directory: what this machine keeps between runs. Mode 0700.

salt: 32 random bytes behind the study keys. keys/*.pub: the public keys whose bundles are trusted.
monitor.sqlite: a record of every run (`recorder.py`).
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import secrets
import sys
from dataclasses import dataclass
from pathlib import Path

from npc_edge.engine.errors import OutputError
from npc_edge.engine.files import create_whole
from npc_edge.engine.model.bundle import public_key

_SALT_BYTES = 32
_HINT = "name a folder you can write to with --state"


def default_path() -> Path:
    """The user's state directory, from the home folder alone; on Windows where %LOCALAPPDATA% usually is."""
    home = Path.home()
    if sys.platform == "win32":
        return home / "AppData" / "Local" / "npc-edge"
    return home / ".local" / "state" / "npc-edge"


@dataclass(frozen=True)
class State:
    """An open state directory."""

    root: Path
    salt: bytes

    @staticmethod
    def open(path: Path | None = None) -> State:
        """Open the directory, None for the user's, and make what is missing. OutputError when that fails."""
        try:
            root = default_path() if path is None else path
            root.parent.mkdir(parents=True, exist_ok=True)
            with contextlib.suppress(FileExistsError):
                root.mkdir(mode=0o700)
            if sys.platform != "win32" and root.stat().st_mode & 0o077:
                root.chmod(0o700)
            return State(root.absolute(), _salt(root))
        except RuntimeError as error:  # Path.home() without a home
            raise OutputError("there is no home folder for the state directory", _HINT) from error
        except OSError as error:
            raise OutputError(f"the state directory cannot be used: {error.strerror}", _HINT) from error

    def keys(self) -> tuple[bytes, ...]:
        """The trusted public keys, 32 raw bytes each. BundleError when a .pub is no Ed25519 key."""
        return tuple(public_key(path) for path in sorted((self.root / "keys").glob("*.pub")))

    def key_for(self, uid: str) -> str:
        """The study key of a UID: the first 32 hex digits of HMAC-SHA256(salt, UID). A pseudonym.

        Of anything else with a word and a colon in front, which no UID has: "accession:…".
        """
        return hmac.new(self.salt, uid.encode(), hashlib.sha256).hexdigest()[:32]


def _salt(root: Path) -> bytes:
    """Read the salt, made once: two processes that start together end up with the same one."""
    path = root / "salt"
    if not path.exists():
        create_whole(path, secrets.token_bytes(_SALT_BYTES))
    salt = path.read_bytes()
    if len(salt) != _SALT_BYTES:
        raise OutputError(
            f"the salt in {root} is damaged", "restore it, or delete it and accept new study keys"
        )
    return salt
