"""The ways a phantom study can be damaged, each with what a reader must make of it.

One for every pitfall of the field that can be made. `expected` holds the reason codes that are a right
answer; `HANDLED` among them means that a result is one too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npc_edge.bench.phantom import damage, damage_files, damage_series
from npc_edge.engine.errors import UsageError

HANDLED = "handled"


@dataclass(frozen=True)
class Defect:
    """A way to damage a written study, and the right answers to it."""

    name: str
    what: str
    damage: Callable[[Path, np.random.Generator], None]
    expected: frozenset[str]

    @property
    def handled(self) -> bool:
        """Whether a result is a right answer."""
        return HANDLED in self.expected

    @property
    def codes(self) -> frozenset[str]:
        """The reason codes that are right answers."""
        return self.expected - {HANDLED}

    @property
    def expected_words(self) -> str:
        """The right answers on one line."""
        return " or ".join(([HANDLED] if self.handled else []) + sorted(self.codes))


def find(name: str) -> Defect:
    """The defect of that name; UsageError when there is none."""
    if name not in DEFECTS:
        raise UsageError(f"no defect {name!r}", "npc-edge phantom --defect list names them")
    return DEFECTS[name]


_Damage = Callable[[Path, np.random.Generator], None]

_TABLE: tuple[tuple[_Damage, str, str], ...] = (
    (damage.missing_slice, "MISSING_SLICES", "a slice from the middle of T1 is not there"),
    (damage.duplicate_slice, "DUPLICATE_SLICES", "two different T1 images at one position"),
    (damage.copied_file, "handled", "one T1 file lies in the folder twice"),
    (damage.false_duplicate_instance_number, "handled", "every T1 image has InstanceNumber 1"),
    (damage.too_few_slices, "TOO_FEW_SLICES", "four slices of T1 and T2"),
    (damage.fov_truncated, "FOV_TRUNCATED OUT_OF_DOMAIN", "the lower half of T1 and T2 was not sent"),
    (damage.non_uniform_spacing, "NON_UNIFORM_SPACING", "the distance between T1 slices grows"),
    (damage.mixed_orientation, "MIXED_ORIENTATION", "one T1 slice is tilted by 16 degrees"),
    (damage.localizer_in_series, "handled MIXED_ORIENTATION", "the localizer is in the T1 series"),
    (damage.thickness_not_spacing, "handled", "SliceThickness and SpacingBetweenSlices are wrong"),
    (damage.empty_orientation, "UNREADABLE NO_T1", "ImageOrientationPatient of T1 is empty"),
    (
        damage.flipped_axes,
        "handled",
        "T1 rows run from the back of the head to the front, as its headers say",
    ),
    (damage.different_frame_of_reference, "handled GEOMETRY_MISMATCH", "T2 has its own frame of reference"),
    (damage.moved_between_series, "handled GEOMETRY_MISMATCH", "the head moved by 12 mm before T2"),
    (damage.moved_far, "GEOMETRY_MISMATCH", "T2 lies 40 cm away from T1"),
    (damage.rescale_absent, "handled", "no rescale tags"),
    (damage.rescale_per_slice, "handled", "slope differs from slice to slice of T1"),
    (damage.two_patients, "MULTIPLE_PATIENTS", "T2 is another patient's"),
    (damage.two_studies, "MULTIPLE_STUDIES", "T2 is from a later examination"),
    (damage.gbk_name, "handled", "the name is in GBK, with no character set named"),
    (damage.anonymised_dates, "handled", "every date is the word anonymized"),
    (damage.path_patient_id, "handled", "PatientID and texts hold ../, NUL and 10 kB"),
    (damage.path_uids, "handled HOSTILE_FILE", "study and series UID hold ../, NUL and 2 kB"),
    (damage.script_in_text, "handled", "names and descriptions hold HTML scripts"),
    (damage.child, "handled POPULATION_MISMATCH", "the patient is six years old"),
    (damage_series.no_mr, "NO_MR", "every image is CT"),
    (damage_series.no_t1, "NO_T1", "there is no T1"),
    (damage_series.no_t2, "NO_T2", "there is no T2"),
    (damage_series.contrast_only, "CONTRAST_ONLY", "the only T1 is contrast-enhanced"),
    (damage_series.stale_contrast_tag, "handled", "T1 names an agent that was given after it"),
    (damage_series.subtraction_series, "handled", "a derived series that looks like T1 comes first"),
    (damage_series.dwi_lookalike, "handled", "a turbo-spin-echo DWI that looks like T2 comes first"),
    (damage_series.non_image_object, "handled", "a raw-data object is in the T1 series"),
    (damage_series.foreign_files, "handled", "files that are not DICOM lie in the folder"),
    (damage_series.mosaic, "MOSAIC", "T1 is one tiled image"),
    (damage_series.uih_grid, "MOSAIC", "T1 is one tiled image, said in United Imaging's private element"),
    (damage_files.no_preamble, "handled", "files begin with the meta information"),
    (damage_files.bare_dataset, "handled", "files have neither preamble nor meta information"),
    (damage_files.truncated, "UNREADABLE MISSING_SLICES", "a T1 file ends within its pixels"),
    (damage_files.big_endian, "handled", "explicit VR big endian"),
    (damage_files.implicit_vr, "handled", "implicit VR little endian"),
    (damage_files.deflated, "handled", "deflated"),
    (damage_files.rle, "handled", "RLE"),
    (damage_files.jpegls, "handled", "JPEG-LS lossless"),
    (damage_files.j2k, "handled", "JPEG 2000 lossless"),
    (damage_files.nested_sequences, "HOSTILE_FILE", "sequences nested 400 deep in a T1 file"),
    (damage_files.deflate_bomb, "HOSTILE_FILE", "a T1 file inflates to 400 MB"),
    (damage_files.rle_forged_size, "HOSTILE_FILE UNREADABLE", "an RLE T1 file claims 60000 x 60000 pixels"),
    (damage_files.too_large, "TOO_LARGE", "T1 has 8192 x 8192 pixels a slice"),
)

DEFECTS: dict[str, Defect] = {
    name: Defect(name, what, function, frozenset(expected.split()))
    for function, expected, what in _TABLE
    for name in [function.__name__.replace("_", "-")]
}
