"""Real heads: one real T1, its T2 simulated, as DICOM in many ways, healthy and with a mass. In-sample.

The head is Colin27 (`ch2.nii.gz` of Debian's mricron-data; McConnell Brain Imaging Centre). The recipe trains
on deformed copies of the same head, so this shows that a real head is not misread, and no more. The mass is
drawn here, by nothing the recipe uses. Run it as

    python -m npc_edge.bench real-heads
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.colin27 import CH2, Contrasts, read_head
from npc_edge.bench.machine import describe
from npc_edge.bench.phantom.acquire import Imperfections, acquire
from npc_edge.bench.phantom.dicom import Acquired, Identity, write_series
from npc_edge.bench.phantom.enhanced import write_enhanced_series
from npc_edge.bench.phantom.protocol import PhantomSpec, Protocol, SeriesPlan, draw_protocol, rotation
from npc_edge.bench.phantom.vendors import Vendor
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.session import RunResult, Session
from npc_edge.engine.types import Options

TITLE = "One real head (Colin27) in many acquisitions, T2 simulated. In-sample: the recipe saw this head"
MIDDLE_LPS = np.array([0.0, -12.0, -63.0])
"""The nasopharynx of this head (its air before the posterior wall), found by looking: LPS mm."""
BOTTOM_MM = -71.0
"""Where the data end, above the soft palate: stacks begin here."""

Plane = Literal["axial", "oblique", "coronal", "sagittal"]


@dataclass(frozen=True)
class Mass:
    """A lobulated mass: where its middle lies (offset from MIDDLE_LPS, mm) and how large it is (mm)."""

    offset: tuple[float, float, float]
    radius: float


@dataclass(frozen=True)
class Variant:
    """One way of acquiring the head. turned: degrees about x, y, z. mass None: as it is."""

    name: str
    plane: Plane = "axial"
    vendor: Vendor = "siemens"
    matrix: int = 320
    spacing_mm: float = 4.5
    slices: int = 28
    noise: float = 0.015
    reversed: bool = False
    enhanced: bool = False
    turned: tuple[float, float, float] = (0.0, 0.0, 0.0)
    mass: Mass | None = None


_WAYS = (
    Variant("plain"),
    Variant("fine", vendor="ge", matrix=512, spacing_mm=3.0, slices=36),
    Variant("coarse", vendor="philips", matrix=256, spacing_mm=6.0, slices=24),
    Variant("reversed", vendor="philips", reversed=True),
    Variant("enhanced", vendor="uih", enhanced=True),
    Variant("noisy", vendor="ge", noise=0.04),
    Variant("oblique", plane="oblique", vendor="uih", turned=(14.0, 3.0, -2.0)),
    Variant("oblique the other way", plane="oblique", turned=(-11.0, -3.0, 3.0)),
    Variant("head turned", vendor="ge", turned=(0.0, 4.0, 9.0), matrix=288),
    Variant("thin", vendor="philips", spacing_mm=2.5, slices=40, matrix=384),
    Variant("coronal", plane="coronal"),
    Variant("sagittal", plane="sagittal", vendor="ge"),
)
_MASSES = (
    Mass((11.0, 9.0, 0.0), 11.0),
    Mass((-11.0, 9.0, 0.0), 11.0),
    Mass((14.0, 7.0, -1.0), 13.0),
    Mass((-15.0, 8.0, 1.0), 12.0),
    Mass((0.0, 9.0, 2.0), 12.0),
    Mass((8.0, 8.0, 3.0), 10.0),
    Mass((-9.0, 10.0, -2.0), 14.0),
)


def variants() -> list[Variant]:
    """Every way of acquiring, healthy and with a mass: two dozen."""
    masses = [_MASSES[i % len(_MASSES)] for i in range(len(_WAYS))]
    with_mass = [replace(way, name=f"{way.name}, mass", mass=m) for way, m in zip(_WAYS, masses, strict=True)]
    return [*_WAYS, *with_mass]


# --- the mass ---------------------------------------------------------------------------------------------


def mass_fraction(mass: Mass, geometry: Geometry, seed: int) -> NDArray[np.float32]:
    """How much of each voxel is mass, (Z, Y, X) 0..1: a few overlapping balls with soft, uneven edges."""
    rng = np.random.default_rng([27, seed])
    centre = MIDDLE_LPS + np.array(mass.offset)
    box = _box(geometry, centre, 3.5 * mass.radius)
    z, y, x = np.mgrid[box]
    points = geometry.to_world(np.stack([x.ravel(), y.ravel(), z.ravel()], axis=1))
    field = np.zeros(points.shape[0])
    for _ in range(5):
        ball = centre + rng.normal(0, 0.4 * mass.radius, 3) * (1.0, 0.6, 0.8)
        reach = mass.radius * rng.uniform(0.55, 0.85)
        field += np.exp(-0.5 * ((points - ball) ** 2).sum(axis=1) / reach**2)
    field /= np.sort(field)[-int(4 / 3 * np.pi * mass.radius**3 / geometry.voxel_mm3)]
    fraction = np.zeros(geometry.shape, dtype=np.float32)
    fraction[box] = (1 / (1 + np.exp(-(field - 1) / 0.06))).reshape(z.shape)
    return fraction


def _box(geometry: Geometry, centre: NDArray[np.float64], reach_mm: float) -> tuple[slice, ...]:
    """The voxels within reach of a point, as slices (Z, Y, X)."""
    corners = centre + reach_mm * np.array(np.meshgrid(*[(-1, 1)] * 3)).reshape(3, -1).T
    index = geometry.to_index(corners)[:, ::-1]
    low = np.floor(index.min(axis=0)).clip(0).astype(int)
    high = np.ceil(index.max(axis=0)).astype(int) + 1
    return tuple(slice(a, min(b, n)) for a, b, n in zip(low, high, geometry.shape, strict=True))


def with_mass(head: Contrasts, fraction: NDArray[np.float32]) -> Contrasts:
    """The head with a mass in it: about as dark as muscle on T1, brighter than muscle on T2, uneven."""
    texture = np.random.default_rng(5).normal(1.0, 0.06, fraction.shape).astype(np.float32)
    t1, t2 = head.muscle_t1 * 0.95 * texture, head.muscle_t2 * 2.5 * texture
    return replace(head, t1=head.t1 + fraction * (t1 - head.t1), t2=head.t2 + fraction * (t2 - head.t2))


# --- the study --------------------------------------------------------------------------------------------


def write_variant(variant: Variant, head: Contrasts, out: Path, seed: int) -> float:
    """Write the variant as a DICOM study into `out`; returns the millilitres of its mass, 0 for none."""
    millilitres = 0.0
    if variant.mass is not None:
        fraction = mass_fraction(variant.mass, head.geometry, seed)
        millilitres = float(fraction.sum()) * head.geometry.voxel_mm3 / 1e3
        head = with_mass(head, fraction)
    spec = PhantomSpec(seed=seed, vendor=variant.vendor, fat_sat=False, reversed=variant.reversed)
    drawn = draw_protocol(spec)
    protocol = replace(
        drawn, series=tuple(_planned(p, variant) for p in drawn.series if p.geometry is not None)
    )
    write = write_enhanced_series if variant.enhanced else write_series
    for number, (plan, signal) in enumerate(zip(protocol.series, _signals(protocol, head), strict=True)):
        assert plan.geometry is not None
        rng = np.random.default_rng([seed, number])
        voxels = acquire(
            signal, head.geometry, plan.geometry, plan.thickness_mm, plan.resolution_mm, rng, plan.flaws
        )
        write(out, Identity(spec), protocol, Acquired(plan, ((plan.geometry, voxels),)))
    return millilitres


def _signals(protocol: Protocol, head: Contrasts) -> list[NDArray[np.float32]]:
    return [head.t1 if plan.role == "T1" else head.t2 for plan in protocol.series]


def _planned(plan: SeriesPlan, variant: Variant) -> SeriesPlan:
    """The vendor's series, on this variant's stack and with its noise; no words of another plane."""
    description = plan.description
    if variant.plane in ("coronal", "sagittal"):
        description = f"{plan.role.lower()}_tse_{variant.plane[:3]}"
    return replace(
        plan,
        description=description,
        geometry=_stack(variant),
        thickness_mm=round(0.9 * variant.spacing_mm, 2),
        resolution_mm=max(0.7, 230.0 / variant.matrix),
        flaws=Imperfections(noise=variant.noise, bias=0.15),
        shift_mm=(0.0, 0.0, 0.0),
    )


def _stack(variant: Variant) -> Geometry:
    """The stack's grid: from the data's lower end upwards, or through the nasopharynx."""
    columns = {
        "coronal": [[1, 0, 0], [0, 0, 1], [0, -1, 0]],
        "sagittal": [[0, 0, -1], [1, 0, 0], [0, -1, 0]],
    }.get(variant.plane, np.eye(3).tolist())
    direction = rotation(*variant.turned) @ np.array(columns, dtype=np.float64)
    pixel = round(230.0 / variant.matrix, 5)
    shape = (variant.slices, variant.matrix, variant.matrix)
    depth = (variant.slices - 1) * variant.spacing_mm
    middle = np.array([0.0, 0.0, BOTTOM_MM + 2.0 + depth / 2])
    if variant.plane in ("coronal", "sagittal"):
        middle = np.array([0.0, 5.0 if variant.plane == "coronal" else 0.0, -10.0])
    half = np.array([(variant.matrix - 1) / 2 * pixel, (variant.matrix - 1) / 2 * pixel, depth / 2])
    spacing = (pixel, pixel, variant.spacing_mm)
    return Geometry.from_parts(shape, spacing, (middle - direction @ half).tolist(), direction)


# --- judging ----------------------------------------------------------------------------------------------


def judge(variant: Variant, result: RunResult, millilitres: float) -> dict[str, Any]:
    """What came of a variant. verdict: right, unsure (indeterminate), refused or misjudged."""
    document = result.document
    finding = None if document.detection is None else document.detection.finding
    wrong = "suspicious" if variant.mass is None else "not_suspicious"
    verdict = "unsure" if finding == "indeterminate" else "misjudged" if finding == wrong else "right"
    apart = None
    if variant.mass is not None and document.tumour is not None and document.tumour.centroid_lps_mm:
        centre = MIDDLE_LPS + np.array(variant.mass.offset)
        apart = float(np.linalg.norm(np.array(document.tumour.centroid_lps_mm) - centre))
    return {
        "variant": asdict(variant),
        "verdict": "refused" if result.outcome == "no-result" else verdict,
        "reason": document.reasons[0].code if result.outcome == "no-result" else None,
        "finding": finding,
        "probability": None if document.detection is None else document.detection.probability,
        "mass_ml": millilitres,
        "found_ml": None if document.tumour is None else document.tumour.volume_ml,
        "centroid_apart_mm": apart,
    }


def summarise(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """How many were right, unsure, refused and misjudged with confidence."""
    verdicts = [row["verdict"] for row in rows]
    counts = {verdict: verdicts.count(verdict) for verdict in ("right", "unsure", "refused", "misjudged")}
    return {"title": TITLE, "variants": len(rows), **counts, "answered": len(rows) - counts["refused"]}


def table(summary: dict[str, Any], rows: Sequence[dict[str, Any]]) -> str:
    """The rows and the counts, as Markdown."""
    lines = [
        f"# {summary['title']}",
        "",
        "| variant | verdict | finding | probability | mass ml | found ml | centroid apart mm |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        cells = [row["finding"] or row["reason"], *(_number(row[k]) for k in _NUMBERS)]
        lines.append(f"| {row['variant']['name']} | {row['verdict']} | " + " | ".join(cells) + " |")
    counts = ", ".join(f"{summary[k]} {k}" for k in ("answered", "right", "unsure", "refused", "misjudged"))
    return "\n".join([*lines, "", f"{summary['variants']} variants: {counts}."])


_NUMBERS = ("probability", "mass_ml", "found_ml", "centroid_apart_mm")


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


# --- the command ------------------------------------------------------------------------------------------


def add_arguments(parser: ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("--head", type=Path, default=CH2, help="default: mricron-data's ch2.nii.gz")
    parser.add_argument("--bundle", type=Path, default=None, help="default: the embedded demo bundle")
    parser.add_argument("--allow-unsigned", action="store_true", help="run a bundle nobody signed")
    parser.add_argument("--only", default="", help="variants whose name holds this word")
    parser.add_argument("--keep", type=Path, default=None, help="keep the studies in this folder")
    parser.add_argument(
        "--out", type=Path, default=None, help="default: bench/results/<date>-real-heads.json"
    )


def _options(given: Namespace, scratch: Path) -> Options:
    return Options(state=scratch / "state", allow_unsigned=given.allow_unsigned)


def main(given: Namespace) -> int:
    """Run every variant, print the table and write it as JSON."""
    if not given.head.is_file():
        print(
            f"there is no {given.head}; install Debian's mricron-data, or name it with --head",
            file=sys.stderr,
        )
        return 2
    head = read_head(given.head)
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="npc-edge-bench-") as scratch,
        Session(given.bundle, _options(given, Path(scratch))) as session,
    ):
        for seed, variant in enumerate(variants()):
            if given.only not in variant.name:
                continue
            folder = (given.keep or Path(scratch)) / variant.name.replace(", ", "-").replace(" ", "-")
            millilitres = write_variant(variant, head, folder / "study", seed)
            begun = time.perf_counter()
            row = judge(variant, session.run(folder / "study"), millilitres)
            rows.append({**row, "seconds": time.perf_counter() - begun})
            print(f"{variant.name}: {row['verdict']}", file=sys.stderr, flush=True)
    summary = {"machine": describe(), **summarise(rows)}
    out = given.out or Path("bench/results") / f"{datetime.now(UTC):%Y-%m-%d}-real-heads.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**summary, "rows": rows}, indent=1) + "\n", encoding="utf-8")
    print(table(summary, rows))
    return 0
