"""What the peer is given for nothing: which series plays which role, and the headers that the writers copy.

The engine's own reading finds both, and its time counts it; MONAI has nothing for either. Plain install.
"""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pydicom
from pydicom.errors import InvalidDicomError

from npc_edge.engine.errors import Refusal, UsageError
from npc_edge.engine.model.manifest import Manifest
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.read import Reader
from npc_edge.engine.study.select import select
from npc_edge.engine.types import Selection, Study, Volume, Watch

_FILE = "given.pickle"


@dataclass(frozen=True, eq=False)
class Given:
    """folders: sequence → a folder with the files of its series alone, as MONAI's reader wants it.
    volumes: sequence → grid and source slices; the voxels are left out."""

    study: Study
    selection: Selection
    volumes: Mapping[str, Volume]
    folders: Mapping[str, Path]


def gather(path: Path, manifest: Manifest, scratch: Path) -> Given:
    """Read a study once with the engine, and copy the chosen series' files, each to a folder.

    UsageError for what MONAI's reader does not read so (a zip, multi-frame objects), Refusal as the engine's.
    """
    if not path.is_dir():
        raise UsageError(f"{path} is no folder", "--against torch wants a folder of DICOM files")
    with Reader() as reader:
        study = reader.read(path)
        if study.problems:
            raise Refusal(*study.problems[0])
        selection = select(study, manifest.sequences, manifest.reference_sequence)
        volumes = {}
        for name, index in selection.chosen.items():
            suppressed = selection.verdicts[index].fat_suppression
            volumes[name] = assemble(study.series[index], index, reader, suppressed, Watch())
    wanted = {piece.sop_instance_uid: name for name, v in volumes.items() for piece in v.slices}
    if len(wanted) != sum(len(volume.slices) for volume in volumes.values()):
        raise UsageError("the study holds multi-frame objects", "--against torch wants one slice a file")
    folders = {name: scratch / name for name in volumes}
    for folder in folders.values():
        folder.mkdir(parents=True)
    for file in sorted(path.rglob("*")):
        sequence = wanted.pop(_object(file), None)
        if sequence is not None:
            shutil.copyfile(file, folders[sequence] / f"{len(wanted):05}.dcm")
    empty = np.empty((0, 0, 0), dtype=np.float32)
    bare = {name: replace(volume, voxels=empty) for name, volume in volumes.items()}
    return Given(study, selection, bare, folders)


def _object(file: Path) -> str:
    """A file's SOP Instance UID, "" when it is no DICOM object."""
    if not file.is_file():
        return ""
    try:
        held = pydicom.dcmread(file, specific_tags=["SOPInstanceUID"], stop_before_pixels=True)
    except InvalidDicomError:
        return ""
    return str(held.get("SOPInstanceUID", ""))


def save(given: Given, scratch: Path) -> None:
    """For processes of the same bench."""
    (scratch / _FILE).write_bytes(pickle.dumps(given))


def load(scratch: Path) -> Given:
    """What `save` of this bench wrote into a folder only it writes to."""
    held = pickle.loads((scratch / _FILE).read_bytes())
    assert isinstance(held, Given)
    return held
