"""TensorRT engines that this site built: in `engines/` of the state directory, each with its recorded hash.

<key>.engine is the plan, <key>.json says what it was built from and its SHA-256, <key>.kernels is what the
runtime compiled for it on first use. <key> is a hash of everything that decides whether a plan fits. An
engine file is code: nothing is handed out whose hash is not the recorded one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from pydantic import ValidationError

from npc_edge.engine.errors import OutputError
from npc_edge.engine.files import replace_whole
from npc_edge.engine.model.manifest import Sha256, Strict


@dataclass(frozen=True)
class EngineKey:
    """What an engine fits: the ONNX file it was made from (its precision, window and weights are in there),
    the runtime and its version, the GPU's compute capability, and the CUDA version of the driver."""

    artefact_sha256: str
    runtime: str
    runtime_version: str
    capability: str
    driver: str

    def name(self) -> str:
        """The stem of the engine's files."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class _Record(Strict):
    schema_version: str = "1"
    artefact_sha256: Sha256
    runtime: str
    runtime_version: str
    capability: str
    driver: str
    sha256: Sha256


class EngineCache:
    """The engines of a state directory. Reading never raises: what cannot be trusted is not there."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def sha256(self, key: EngineKey) -> str | None:
        """The recorded hash of an engine; None where there is no record of exactly this key."""
        try:
            record = _Record.model_validate_json(self._path(key, "json").read_bytes())
        except (OSError, ValidationError):
            return None
        said = record.model_dump(exclude={"schema_version", "sha256"})
        return record.sha256 if said == asdict(key) and self._path(key, "engine").is_file() else None

    def read(self, key: EngineKey) -> bytes | None:
        """The plan, its hash checked; None where it is absent, or not the recorded one: that is forgotten."""
        recorded = self.sha256(key)
        if recorded is None:
            return None
        try:
            plan = self._path(key, "engine").read_bytes()
        except OSError:
            return None
        if not hmac.compare_digest(hashlib.sha256(plan).hexdigest(), recorded):
            self.drop(key)
            return None
        return plan

    def publish(self, key: EngineKey, plan: bytes) -> str:
        """Keep a plan; returns its SHA-256. The record comes last: a plan without one is not there."""
        digest = hashlib.sha256(plan).hexdigest()
        record = _Record(**asdict(key), sha256=digest)
        try:
            self._root.mkdir(mode=0o700, exist_ok=True)
            self.drop(key)
            replace_whole(self._path(key, "engine"), plan)
            replace_whole(self._path(key, "json"), record.model_dump_json(indent=1).encode())
        except OSError as error:
            raise OutputError(
                f"the engine cannot be kept in {self._root}: {error.strerror}", "free space there, or --state"
            ) from error
        return digest

    def obtain(self, key: EngineKey, build: Callable[[], bytes]) -> bytes:
        """The plan that is kept, or the one `build` makes, kept from now on."""
        held = self.read(key)
        if held is None:
            held = build()
            self.publish(key, held)
        return held

    def drop(self, key: EngineKey) -> None:
        """Forget an engine and what was compiled for it; the record goes first."""
        with suppress(OSError):
            for kind in ("json", "engine", "kernels"):
                self._path(key, kind).unlink(missing_ok=True)

    def kernels(self, key: EngineKey) -> bytes:
        """What the runtime compiled for an engine and gave us to keep; empty where there is nothing. The
        runtime checks it against version, driver and GPU before it takes any of it."""
        try:
            return self._path(key, "kernels").read_bytes()
        except OSError:
            return b""

    def keep_kernels(self, key: EngineKey, blob: bytes) -> None:
        """Keep it for the next process; a place that cannot be written costs that one its time, no more."""
        with suppress(OSError):
            replace_whole(self._path(key, "kernels"), blob)

    def _path(self, key: EngineKey, kind: str) -> Path:
        return self._root / f"{key.name()}.{kind}"
