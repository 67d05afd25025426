"""The staging rules as data: what each structure stands for, and from which measure on it counts.

The rules live in `t_category_rules.json`, thresholds, wording and the reason of each beside it.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from npc_edge.engine.errors import BundleError

Category = Literal["T1", "T2", "T3", "T4"]
Edition = Literal["ajcc8", "ajcc9"]
Need = Literal["node_label", "marrow_t1", "contrast", "sinus_signal"]
Lies = Literal["superior", "inferior", "anterior", "lateral"]

CATEGORIES: tuple[Category, ...] = ("T1", "T2", "T3", "T4")
EDITIONS: tuple[Edition, ...] = ("ajcc8", "ajcc9")


class _Data(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, populate_by_name=True)


class EditionText(_Data):
    name: str
    wording: dict[Category, str]


class Limits(_Data):
    """The mask depth_mm deep in plane on `slices` neighbouring slices is unequivocal when a core of it, as
    deep on core_slices, has at least `probability`. Less than contact_mm deep is contact, not evidence."""

    depth_mm: float = Field(gt=0)
    slices: int = Field(ge=1)
    core_slices: int = Field(ge=1)
    probability: float = Field(gt=0, lt=1)
    contact_mm: float = Field(ge=0)
    why: str


class StructureRule(_Data):
    """needs: what the evidence must have besides the overlap. named_in: editions that name the structure;
    under another it is at most equivocal. lies: where it leaves the field of view when it is not seen."""

    structure: str
    category: Category
    kind: str = Field(alias="class")
    needs: tuple[Need, ...] = ()
    named_in: tuple[Edition, ...] = EDITIONS
    lies: Lies | None = None
    why: str


class SurfaceRule(_Data):
    """Soft tissue beyond the outer surface of `of`, `clearance_mm` further out. anterior: weight of the
    anterior direction beside the lateral one. reach_mm: how far the surface is continued past the muscle."""

    structure: str
    of: str
    category: Category
    kind: str = Field(alias="class")
    edition: Edition
    anterior: float
    clearance_mm: float
    reach_mm: float
    why: str


class CranialNerveRule(_Data):
    structure: str
    category: Category
    not_supplied_limits: bool
    why: str


class NodeRule(_Data):
    structure: str
    component_fraction: float = Field(gt=0, le=1)
    why: str


class SignalRules(_Data):
    """Ratios of MR signal; see `npc_edge.engine.findings.signal`."""

    muscles: tuple[str, ...]
    fat: tuple[str, ...]
    fat_over_muscle: float
    marrow_percentile: float
    marrow_contrast: float
    replaced: float
    like_width: float
    like_share: float
    like_gain: float
    sclerosis_t1: float
    sclerosis_t2: float
    fluid_t2: float
    fluid_t1: float
    air: float
    enough_voxels: int
    why: str


class Rules(_Data):
    """The whole rule file. visible_mm3: less of a structure than this counts as not seen."""

    version: str
    about: str
    editions: dict[Edition, EditionText]
    classes: dict[str, Limits]
    structures: tuple[StructureRule, ...]
    surfaces: tuple[SurfaceRule, ...]
    cranial_nerves: CranialNerveRule
    node: NodeRule
    visible_mm3: float
    signal: SignalRules

    def limits(self, rule: StructureRule | SurfaceRule) -> Limits:
        return self.classes[rule.kind]


@lru_cache(maxsize=1)
def load_rules() -> Rules:
    """The engine's rule file."""
    text = files("npc_edge.engine.findings").joinpath("t_category_rules.json").read_text(encoding="utf-8")
    return Rules.model_validate_json(text)


def rules_for(version: str) -> Rules:
    """The rules a bundle asks for by version; BundleError when this engine has another."""
    rules = load_rules()
    if rules.version != version:
        raise BundleError(
            f"the bundle asks for staging rules {version}, this engine has {rules.version}",
            "use the engine the bundle was made for, or export the bundle again",
        )
    return rules


def highest(categories: list[Category]) -> Category | None:
    """The highest of some T categories, None of none."""
    return max(categories, key=CATEGORIES.index, default=None)
