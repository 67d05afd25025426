"""Identity of a run, and the UIDs that follow from it.

Same fingerprint and same patient module: the same UIDs and the same content. Anything else: new UIDs.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version

import numpy as np

from npc_edge.engine.types import Options, RunnerInfo, Study, Volume
from npc_edge.engine.version import VERSION

# Libraries whose version may change a voxel or the layout of a file.
_LIBRARIES = ("numpy", "SimpleITK", "pydicom", "highdicom")


@dataclass(frozen=True)
class Ran:
    """What ran: the runner of every network, for a locator moves the window and so every voxel; where voxel
    operations ran, and how many windows went together, for a device rounds otherwise."""

    runners: tuple[RunnerInfo, ...]
    voxels: str = "cpu"
    together: Mapping[str, int] = field(default_factory=dict)


def fingerprint(
    study: Study | None,
    volumes: Mapping[str, Volume],
    options: Options,
    bundle_sha256: str,
    ran: Ran,
) -> str:
    """Hex SHA-256 over the source images, the bundle, what ran it, versions and the options that matter.

    The options' backend, device and precision are wishes; `ran` holds what they became. NIfTI input has no
    UIDs: its voxels and affine stand in for them. Before assembly (a refusal) every image counts.
    """
    payload: dict[str, object] = {
        "sources": _sources(study, volumes),
        "bundle": bundle_sha256,
        "runners": [asdict(runner) for runner in ran.runners],
        "voxels": ran.voxels,
        "together": dict(ran.together),
        "version": VERSION,
        "libraries": {name: _version(name) for name in _LIBRARIES},
        "options": {
            "context": options.context,
            "cranial_nerves": options.cranial_nerves,
            "prevalence": options.prevalence,
        },
    }
    text = json.dumps(payload, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _sources(study: Study | None, volumes: Mapping[str, Volume]) -> object:
    if volumes:
        return {name: _volume_identity(volume) for name, volume in volumes.items()}
    if study is None:
        return []
    return sorted(f"{frame.sop_instance_uid}#{frame.number}" for s in study.series for frame in s.frames)


def _volume_identity(volume: Volume) -> object:
    if volume.slices:
        return [f"{piece.sop_instance_uid}#{piece.frame_number}" for piece in volume.slices]
    digest = hashlib.sha256(np.ascontiguousarray(volume.voxels).data)
    digest.update(np.ascontiguousarray(volume.geometry.affine).data)
    return [list(volume.geometry.shape), digest.hexdigest()]


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"


@dataclass(frozen=True)
class Uids:
    """Hands out the UIDs of a run's DICOM objects, one per purpose, always the same for the same run.

    The patient module is part of the seed, not of the fingerprint: a name corrected in the PACS must give
    new objects, and result.json must hold nothing derived from a name.
    """

    fingerprint: str
    patient_module: bytes

    def uid(self, purpose: str) -> str:
        """A UID of the form 2.25.<uuid> for e.g. 'seg.sop'."""
        seed = hashlib.sha256(self.patient_module).hexdigest()
        digest = hashlib.sha256(f"{self.fingerprint}|{seed}|{purpose}".encode()).digest()
        return f"2.25.{uuid.UUID(bytes=digest[:16], version=5).int}"
