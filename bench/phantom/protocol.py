"""What a site would have acquired: vendor habits, sequence parameters and geometry, drawn from the seed.

The protocol follows published nasopharynx protocols (1.5 and 3 T, field of view 210-240 mm, axial T1 and T2
turbo spin echo of 3-6 mm slices with 0-1 mm gap); the names of sequences are the vendors' own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom.acquire import Imperfections
from npc_edge.bench.phantom.signal import FatSuppression, SequenceParameters
from npc_edge.bench.phantom.vendors import VENDORS, Habits, Vendor
from npc_edge.engine.errors import UsageError
from npc_edge.engine.geometry import Geometry

Stage = Literal["none", "T1", "T2", "T3", "T4"]
Role = Literal["T1", "T2", "T1C", "LOCALIZER"]

_COVERAGE_MM = (132.0, 156.0)  # from above the cavernous sinus to the hypopharynx
_STACK_BELOW_MM = (2.0, 10.0)  # the middle of the stack lies this far below the nasopharynx's centre


@dataclass(frozen=True)
class PhantomSpec:
    """Everything a phantom study is made from; equal specs give equal bytes.

    fat_sat: True suppresses fat on T2, False never does, None leaves it to the seed (about one in three).
    matrix, slices: None leaves them to the seed.
    """

    stage: Stage = "none"
    seed: int = 0
    vendor: Vendor = "siemens"
    with_contrast: bool = False
    fat_sat: bool | None = None
    enhanced: bool = False
    oblique: bool = False
    reversed: bool = False
    matrix: int | None = None
    slices: int | None = None
    defect: str | None = None

    def __post_init__(self) -> None:
        """Raise UsageError for what no scanner could do."""
        if self.stage not in get_args(Stage):
            raise UsageError(f"no stage {self.stage!r}", "choose none, T1, T2, T3 or T4")
        if self.vendor not in get_args(Vendor):
            raise UsageError(f"no vendor {self.vendor!r}", "choose siemens, ge, philips or uih")
        if self.seed < 0:
            raise UsageError("the seed is negative", "use 0 or more")
        if self.matrix is not None and not (64 <= self.matrix <= 1024 and self.matrix % 2 == 0):
            raise UsageError(f"matrix {self.matrix} is out of range", "use an even number from 64 to 1024")
        if self.slices is not None and not 4 <= self.slices <= 200:
            raise UsageError(f"{self.slices} slices are out of range", "use 4 to 200")


@dataclass(frozen=True)
class SeriesPlan:
    """One series: what its headers say and how it is acquired. geometry is None for the localizer."""

    role: Role
    number: int
    description: str
    sequence_name: str
    parameters: SequenceParameters
    scanning_sequence: tuple[str, ...]
    variant: tuple[str, ...]
    options: tuple[str, ...]
    image_type: tuple[str, ...]
    echo_train: int
    start_s: float  # acquisition start, seconds since midnight
    flaws: Imperfections
    geometry: Geometry | None = None
    thickness_mm: float = 5.0
    resolution_mm: float = 0.9
    shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)  # the head has moved this little since the T1


@dataclass(frozen=True, eq=False)
class Protocol:
    """The whole examination. head: (4, 4) affine from the head's frame to the scanner's, both LPS mm."""

    vendor: Vendor
    manufacturer: str
    model: str
    software: str
    field_t: float
    head: NDArray[np.float64]
    series: tuple[SeriesPlan, ...]

    def plan(self, role: Role) -> SeriesPlan:
        """The series of a role; raises KeyError when the protocol has none."""
        for series in self.series:
            if series.role == role:
                return series
        raise KeyError(role)


def draw_protocol(spec: PhantomSpec) -> Protocol:
    """The examination of a spec. What is drawn depends on the seed and vendor alone, never on the options."""
    rng = np.random.default_rng([spec.seed, sum(spec.vendor.encode()), 71])
    habits = VENDORS[spec.vendor]
    model, field_t = habits.models[int(rng.integers(len(habits.models)))]
    head = _pose(rng)
    stack = _stack(spec, rng, head)
    start = 8 * 3600.0 + 600.0 * float(rng.integers(0, 48))
    plans = [_localizer(habits, field_t, start)]
    t2_first = bool(rng.integers(2))
    for order, role in enumerate(("T2", "T1") if t2_first else ("T1", "T2")):
        draw = _t1 if role == "T1" else _t2
        own = np.random.default_rng([spec.seed, order, ord(role[1])])
        plans.append(draw(spec, habits, field_t, stack, (2 + order, start + 60 + 300 * order, own)))
    if spec.with_contrast:
        own = np.random.default_rng([spec.seed, 1000])
        plans.append(_t1c(habits, next(p for p in plans if p.role == "T1"), start + 900, own))
    return Protocol(spec.vendor, habits.manufacturer, model, habits.software, field_t, head, tuple(plans))


@dataclass(frozen=True, eq=False)
class _Stack:
    """The slice stack that T1 was planned with; T2 is planned on it with small changes."""

    centre: NDArray[np.float64]
    direction: NDArray[np.float64]
    fov_mm: float
    matrix: int
    slices: int
    spacing_mm: float
    gap_mm: float

    def geometry(self, fov_mm: float, matrix: int) -> Geometry:
        """The stack's grid for a field of view and a matrix."""
        pixel = round(fov_mm / matrix, 5)
        shape = (self.slices, matrix, matrix)
        half = np.array(
            [(matrix - 1) / 2 * pixel, (matrix - 1) / 2 * pixel, (self.slices - 1) / 2 * self.spacing_mm]
        )
        origin = self.centre - self.direction @ half
        return Geometry.from_parts(shape, (pixel, pixel, self.spacing_mm), origin.tolist(), self.direction)


def rotation(x_deg: float, y_deg: float, z_deg: float) -> NDArray[np.float64]:
    """(3, 3) rotation matrix: about x, then y, then z, in degrees."""
    matrix = np.eye(3)
    for axis, angle in enumerate(np.radians([x_deg, y_deg, z_deg])):
        c, s = np.cos(angle), np.sin(angle)
        step = np.eye(3)
        i, j = [(1, 2), (2, 0), (0, 1)][axis]
        step[i, i] = step[j, j] = c
        step[i, j], step[j, i] = -s, s
        matrix = step @ matrix
    return matrix


def _pose(rng: np.random.Generator) -> NDArray[np.float64]:
    """Where the head lies in the scanner: a few degrees off, anywhere near the isocentre."""
    head = np.eye(4)
    head[:3, :3] = rotation(rng.normal(0, 4.0), rng.normal(0, 1.8), rng.normal(0, 2.2))
    head[:3, 3] = [rng.normal(0, 6), rng.uniform(-35, 25), rng.uniform(-60, 60)]
    return head


def _stack(spec: PhantomSpec, rng: np.random.Generator, head: NDArray[np.float64]) -> _Stack:
    """Coverage first, as a technologist plans it; the pixel stays within 0.4-0.9 mm."""
    coverage = float(rng.uniform(*_COVERAGE_MM))
    drawn_spacing, gap_share = float(rng.uniform(3.6, 5.6)), float(rng.uniform(0.0, 0.2))
    drawn_matrix = int(rng.choice([256, 288, 320, 384, 448, 512]))
    tilt = rotation(float(rng.choice([-1, 1]) * rng.uniform(8, 20)), rng.uniform(-5, 5), rng.uniform(-4, 4))
    middle = [rng.normal(0, 4), -11 + rng.normal(0, 6), -rng.uniform(*_STACK_BELOW_MM)]
    fov = float(rng.uniform(212, 238))
    slices = spec.slices or max(24, min(40, round(coverage / drawn_spacing)))
    spacing = round(float(np.clip(coverage / slices, 3.0, 6.6)), 2)
    gap = round(min(1.0, gap_share * spacing, max(0.0, spacing - 3.0)), 2)
    matrix = spec.matrix or drawn_matrix
    if spec.matrix is None or spec.matrix >= 240:
        fov = float(np.clip(fov, 0.41 * matrix, 0.9 * matrix))
    return _Stack(
        centre=head[:3, :3] @ np.array(middle) + head[:3, 3],
        direction=tilt if spec.oblique else np.eye(3),
        fov_mm=round(fov, 1),
        matrix=matrix,
        slices=slices,
        spacing_mm=spacing,
        gap_mm=gap,
    )


def _flaws(rng: np.random.Generator, field_t: float) -> Imperfections:
    noise = float(rng.uniform(0.008, 0.022)) * (1.0 if field_t > 2 else 1.35)
    moved = float(rng.uniform(0.15, 0.8)) if rng.random() < 0.35 else 0.0
    bias = float(rng.uniform(0.1, 0.35))
    return Imperfections(noise, bias, moved, float(rng.uniform(0.1, 0.7)), int(rng.random() < 0.5))


_Drawn = tuple[int, float, np.random.Generator]  # series number, start in seconds, the series' own stream


def _t1(spec: PhantomSpec, habits: Habits, field_t: float, stack: _Stack, drawn: _Drawn) -> SeriesPlan:
    number, start, rng = drawn
    train = int(rng.integers(2, 6))
    parameters = SequenceParameters(
        "T1", te_ms=round(float(rng.uniform(8, 18)), 1), tr_ms=float(rng.integers(430, 780)), field_t=field_t
    )
    return SeriesPlan(
        role="T1",
        number=number,
        description=_one(habits.t1, rng),
        sequence_name=habits.sequence_name.format(train),
        parameters=parameters,
        scanning_sequence=("SE",),
        variant=("SK", "SP"),
        options=(),
        image_type=habits.image_type,
        echo_train=train,
        start_s=start,
        flaws=_flaws(rng, field_t),
        geometry=stack.geometry(stack.fov_mm, stack.matrix),
        thickness_mm=round(stack.spacing_mm - stack.gap_mm, 2),
        resolution_mm=float(rng.uniform(0.65, 0.9)),
    )


def _t2(spec: PhantomSpec, habits: Habits, field_t: float, stack: _Stack, drawn: _Drawn) -> SeriesPlan:
    number, start, rng = drawn
    fat = _fat_suppression(spec, rng)
    other_matrix, other_fov = rng.random() < 0.4, rng.random() < 0.4
    matrix, fov = stack.matrix, stack.fov_mm
    if other_matrix and spec.matrix is None:
        matrix = int(rng.choice([m for m in (256, 320, 384, 512) if 0.4 <= fov / m <= 0.92]))
    if other_fov:
        fov = round(min(fov * float(rng.uniform(0.96, 1.05)), max(fov, 0.9 * matrix)), 1)
    train = int(rng.integers(9, 22))
    te = float(rng.integers(52, 75)) if fat == "stir" else float(rng.integers(76, 112))
    ti = None
    if fat == "stir":
        ti = float(rng.integers(155, 172) if field_t < 2 else rng.integers(200, 228))
    parameters = SequenceParameters(
        "T2", te_ms=te, tr_ms=float(rng.integers(2900, 5600)), field_t=field_t, fat_suppression=fat, ti_ms=ti
    )
    words = habits.t2 if fat == "none" else habits.t2_suppressed[fat]
    water = ("W",) if fat == "dixon_water" else ()
    return SeriesPlan(
        role="T2",
        number=number,
        description=_one(words, rng),
        sequence_name=habits.sequence_name.format(train),
        parameters=parameters,
        scanning_sequence=("SE", "IR") if fat == "stir" else ("SE",),
        variant=("SK", "SP", "MP") if fat == "stir" else ("SK", "SP"),
        options=habits.options_suppressed if fat == "spectral" else (),
        image_type=habits.image_type + water,
        echo_train=train,
        start_s=start,
        flaws=_flaws(rng, field_t),
        geometry=stack.geometry(fov, matrix),
        thickness_mm=round(stack.spacing_mm - stack.gap_mm, 2),
        resolution_mm=float(rng.uniform(0.6, 0.85)),
        shift_mm=(float(rng.normal(0, 0.2)), float(rng.normal(0, 0.2)), float(rng.normal(0, 0.2))),
    )


def _t1c(habits: Habits, t1: SeriesPlan, start: float, rng: np.random.Generator) -> SeriesPlan:
    """The T1 again after the injection, with or without fat suppression."""
    suppressed = rng.random() < 0.6
    parameters = SequenceParameters(
        "T1C",
        te_ms=t1.parameters.te_ms,
        tr_ms=t1.parameters.tr_ms,
        field_t=t1.parameters.field_t,
        fat_suppression="spectral" if suppressed else "none",
        enhancement=float(rng.uniform(0.7, 1.3)),
    )
    return SeriesPlan(
        role="T1C",
        number=4,
        description=_one(habits.t1c_suppressed if suppressed else habits.t1c, rng),
        sequence_name=t1.sequence_name,
        parameters=parameters,
        scanning_sequence=t1.scanning_sequence,
        variant=t1.variant,
        options=habits.options_suppressed if suppressed else (),
        image_type=t1.image_type,
        echo_train=t1.echo_train,
        start_s=start,
        flaws=_flaws(rng, t1.parameters.field_t),
        geometry=t1.geometry,
        thickness_mm=t1.thickness_mm,
        resolution_mm=t1.resolution_mm,
        shift_mm=(float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3)), float(rng.normal(0, 0.3))),
    )


def _localizer(habits: Habits, field_t: float, start: float) -> SeriesPlan:
    rng = np.random.default_rng(len(habits.manufacturer))
    return SeriesPlan(
        role="LOCALIZER",
        number=1,
        description=_one(habits.localizer, rng),
        sequence_name="*fl2d1" if habits.manufacturer == "SIEMENS" else "",
        parameters=SequenceParameters("T1", te_ms=5.0, tr_ms=300.0, field_t=field_t),
        scanning_sequence=("GR",),
        variant=("SP",),
        options=(),
        image_type=habits.image_type,
        echo_train=1,
        start_s=start,
        flaws=Imperfections(noise=0.03),
        thickness_mm=8.0,
        resolution_mm=1.9,
    )


def _fat_suppression(spec: PhantomSpec, rng: np.random.Generator) -> FatSuppression:
    """None, or one of the ways: mostly spectral, at times STIR or Dixon water."""
    suppressed, way = rng.random() < 0.35, rng.random()
    if spec.fat_sat is False or (spec.fat_sat is None and not suppressed):
        return "none"
    return "spectral" if way < 0.72 else "stir" if way < 0.88 else "dixon_water"


def _one(words: tuple[str, ...], rng: np.random.Generator) -> str:
    return words[int(rng.integers(len(words)))]
