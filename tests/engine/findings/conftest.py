"""A boxy head whose every structure is a box, and bundles to read it with: hand-made cases for the rules."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from npc_edge.engine.findings.sides import sided_labels
from npc_edge.engine.findings.stage import stage
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import LabelSpec, Manifest
from npc_edge.engine.types import Detection, Options, Segmentation, Staging, State3, Volume

GRID = Geometry.centred((0.0, 0.0, 0.0), (1.0, 1.0, 5.0), (16, 120, 140))

# name: x (towards the left), y (towards the back), z (up), mm; a paired one is given on the left
PAIRED: dict[str, tuple[int, ...]] = {
    "parapharyngeal_space": (12, 22, -5, 15, -25, 15),
    "carotid_space": (14, 24, 15, 25, -25, 15),
    "medial_pterygoid": (22, 30, -5, 10, -25, 0),
    "lateral_pterygoid": (22, 38, -15, 8, 0, 20),
    "prevertebral_muscle": (0, 14, 10, 18, -40, 5),
    "pterygoid_process": (12, 20, -20, -5, -10, 15),
    "pterygopalatine_fossa": (12, 20, -28, -20, 0, 15),
    "petrous_apex": (14, 26, 15, 28, 15, 25),
    "foramina": (26, 32, 0, 6, 20, 30),
    "maxillary_sinus": (20, 40, -50, -28, -10, 10),
    "cavernous_sinus": (12, 20, -5, 15, 25, 35),
    "orbit": (15, 45, -60, -30, 20, 40),
    "inferior_orbital_fissure": (20, 30, -30, -24, 10, 20),
    "parotid": (40, 52, 5, 25, -25, 10),
    "retropharyngeal_node": (14, 20, 8, 14, -10, 5),
}
MIDLINE: dict[str, tuple[int, ...]] = {
    "intracranial": (-60, 60, -30, 50, 25, 40),
    "nasopharynx": (-12, 12, -5, 10, -10, 15),
    "oropharynx": (-12, 12, -5, 10, -25, -10),
    "hypopharynx": (-10, 10, -5, 10, -40, -25),
    "nasal_cavity": (-12, 12, -35, -5, -10, 15),
    "cervical_vertebra": (-12, 12, 18, 35, -40, -15),
    "clivus": (-12, 12, 10, 25, 5, 25),
    "sphenoid_sinus": (-12, 12, -10, 10, 15, 25),
    "ethmoid_sinus": (-10, 10, -35, -10, 15, 25),
}
BOXES = MIDLINE | PAIRED
ORDER = tuple(BOXES)

BONES = ("clivus", "petrous_apex", "cervical_vertebra", "pterygoid_process")
MUSCLES = ("medial_pterygoid", "lateral_pterygoid", "prevertebral_muscle")
SINUSES = ("sphenoid_sinus", "ethmoid_sinus", "maxillary_sinus")
SIGNAL = {  # T1, T2
    "tumour": (120.0, 100.0),
    "muscle": (100.0, 40.0),
    "marrow": (260.0, 90.0),
    "fat": (300.0, 150.0),
    "air": (5.0, 5.0),
    "fluid": (60.0, 320.0),
    "sclerosis": (40.0, 30.0),
    "other": (110.0, 80.0),
}


def tissue_of(structure: str) -> str:
    if structure in BONES:
        return "marrow"
    if structure in MUSCLES:
        return "muscle"
    if structure in SINUSES:
        return "air"
    return "fat" if structure == "parapharyngeal_space" else "other"


def label_specs(leave_out: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    return [
        {
            "code": code,
            "name": name,
            "structure": name,
            "side": "paired" if name in PAIRED else "midline",
            "colour": (1, 2, 3),
        }
        for code, name in enumerate(ORDER, 1)
        if name not in leave_out
    ]


def manifest(leave_out: tuple[str, ...] = (), **changes: Any) -> Manifest:
    """A demo-like bundle: T1 and T2, perhaps T1C; `leave_out` labels; changes to top-level fields."""
    fields: dict[str, Any] = {
        "name": "test",
        "version": "1",
        "licence": "Apache-2.0",
        "intended_use": "tests",
        "evidence": "synthetic",
        "task": "npc",
        "sequences": [
            {"name": "t1", "roles": ["T1"]},
            {"name": "t2", "roles": ["T2", "T2FS"]},
            {"name": "t1c", "roles": ["T1C"]},
        ],
        "reference_sequence": "t1",
        "networks": [
            {
                "name": "npc",
                "region": "whole",
                "inputs": ["t1", "t2"],
                "spacing": (4, 1, 1),
                "window": (32, 144, 144),
                "normalisation": {"method": "percentile"},
                "outputs": [
                    {"name": "tumour", "kind": "tumour"},
                    {"name": "anatomy", "kind": "anatomy"},
                    {"name": "score", "kind": "detection"},
                ],
                "artefacts": [{"precision": "fp32", "file": "artefacts/npc.fp32.onnx"}],
            }
        ],
        "labels": label_specs(leave_out),
        "tumour": {"threshold": 0.5},
        "staging": {"rules": "1", "thresholds": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)},
        "provenance": {"training_data": "none", "commit": "none", "recipe": "none", "tools": {}},
        "files": {"artefacts/npc.fp32.onnx": "0" * 64},
    }
    return Manifest.model_validate(fields | changes)


def mm_mask(x0: float, x1: float, y0: float, y1: float, z0: float, z1: float) -> NDArray[np.bool_]:
    """Voxels of GRID whose centres lie in a box given in mm."""
    lines = []
    for axis, (low, high) in enumerate(((x0, x1), (y0, y1), (z0, z1))):
        centres = GRID.origin[axis] + GRID.spacing[axis] * np.arange(GRID.shape[2 - axis])
        lines.append((centres >= low) & (centres < high))
    return lines[2][:, None, None] & lines[1][:, None] & lines[0]


@dataclass
class Head:
    """An anatomy, a tumour painted into it, and its T1 and T2."""

    leave_out: tuple[str, ...] = ()
    structures: NDArray[np.uint8] = field(init=False)
    probability: NDArray[np.float32] = field(init=False)
    t1: NDArray[np.float32] = field(init=False)
    t2: NDArray[np.float32] = field(init=False)

    def __post_init__(self) -> None:
        self.structures = np.zeros(GRID.shape, dtype=np.uint8)
        self.probability = np.zeros(GRID.shape, dtype=np.float32)
        self.t1 = np.full(GRID.shape, SIGNAL["other"][0], dtype=np.float32)
        self.t2 = np.full(GRID.shape, SIGNAL["other"][1], dtype=np.float32)
        for code, name in enumerate(ORDER, 1):
            if name in self.leave_out:
                continue
            for side in ("left", "right") if name in PAIRED else ("midline",):
                mask = mm_mask(*self.box(name, side))
                self.structures[mask] = code + (100 if side == "right" else 0)
                self.signal(mask, tissue_of(name))

    @staticmethod
    def box(name: str, side: str) -> tuple[float, ...]:
        x0, x1, *rest = BOXES[name]
        return (-x1, -x0, *rest) if side == "right" else (x0, x1, *rest)

    def signal(self, mask: NDArray[np.bool_], tissue: str) -> None:
        self.t1[mask], self.t2[mask] = SIGNAL[tissue]

    def paint(self, mask: NDArray[np.bool_], probability: float = 1.0, tissue: str = "tumour") -> Head:
        self.probability[mask] = probability
        self.signal(mask, tissue)
        return self

    def on_the_wall(self) -> Head:
        """A tumour within the nasopharynx."""
        return self.paint(mm_mask(-10, 10, -3, 8, -10, 10))

    def into(self, name: str, side: str = "left", **how: Any) -> Head:
        """Tumour of `wide` mm in plane on `slices` slices in the middle of a structure's box."""
        wide, slices = how.pop("wide", 6.0), how.pop("slices", 2)
        x0, x1, y0, y1, z0, z1 = self.box(name, side)
        x, y = (x0 + x1) / 2, (y0 + y1) / 2
        start = z0 + 5 * max(0, round((z1 - z0) / 10 - slices / 2))
        mask = mm_mask(x - wide / 2, x + wide / 2, y - wide / 2, y + wide / 2, start, start + 5 * slices)
        return self.paint(mask, **how)

    def segmentation(self, bundle: Manifest) -> Segmentation:
        tumour = (self.probability >= bundle.tumour.threshold).astype(np.uint8)
        return Segmentation(
            tumour,
            self.probability,
            self.structures,
            np.ones(GRID.shape, dtype=np.bool_),
            GRID,
            {label.code: label.name for label in sided_labels(bundle)},
            float(tumour.sum()) * GRID.voxel_mm3 / 1000,
            (0.0, 0.0, 0.0) if tumour.any() else None,
            int(tumour.any()),
        )

    def volumes(self, fat_suppression: State3 = "no", without: tuple[str, ...] = ()) -> dict[str, Volume]:
        out = {"t1": Volume(self.t1, GRID, fat_suppression), "t2": Volume(self.t2, GRID)}
        return {name: volume for name, volume in out.items() if name not in without}

    def enhanced(self) -> dict[str, Volume]:
        return self.volumes() | {"t1c": Volume(self.t1, GRID)}

    def stage(
        self,
        bundle: Manifest | None = None,
        volumes: dict[str, Volume] | None = None,
        detection: Detection | None = None,
        options: Options | None = None,
    ) -> Staging:
        bundle = bundle or manifest(self.leave_out)
        staging = stage(
            self.segmentation(bundle),
            self.volumes() if volumes is None else volumes,
            bundle,
            detection,
            options or Options(cranial_nerves="none"),
        )
        assert staging is not None
        return staging


class Cases:
    """What the tests build their cases from."""

    Head = Head
    grid = GRID
    paired = PAIRED
    order = ORDER
    manifest = staticmethod(manifest)
    mm_mask = staticmethod(mm_mask)

    @staticmethod
    def label(**fields: Any) -> LabelSpec:
        return LabelSpec.model_validate({"colour": (1, 1, 1)} | fields)


@pytest.fixture(scope="session")
def cases() -> type[Cases]:
    return Cases
