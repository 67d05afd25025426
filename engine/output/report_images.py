"""Which slices the report shows: the tumour's extent, and one picture for every piece of evidence."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from npc_edge.calibration.markup import Markup, tag
from npc_edge.engine.output import wording
from npc_edge.engine.output.figures import Frame, Outline, Painter
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.types import StructureEvidence

_EXTENT_MM = 150.0
_DETAIL_MM = 100.0
_EXTENT_SLICES = 5


@dataclass(frozen=True)
class Shot:
    """One figure to make: slice, the (y, x) voxel in its middle, its size, caption, and outlines to add."""

    z: int
    centre: tuple[float, float]
    size_mm: float
    words: str
    outlines: tuple[Outline, ...] = ()
    wide: bool = False
    anchor: str | None = None


class Images:
    """The figures of one run. Sequences: the reference first, then one other (T2 where the bundle has it)."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome
        self.masks = outcome.segmentation
        self.painter = Painter(outcome.reference_volume.geometry)
        others = [name for name in outcome.volumes if name != outcome.reference]
        others.sort(key=lambda name: not name.lower().startswith("t2"))
        self.sequences = [str(outcome.reference), *others[:1]]

    def extent(self) -> list[Markup]:
        """The largest slice wide, then top, bottom and evenly between; without a tumour, where was looked."""
        slices = extent_slices(self.masks.tumour)
        if not slices:
            return self._looked_at()
        areas = _areas(self.masks.tumour)
        top = slices[-1] if self._ascends() else slices[0]
        bottom = slices[0] if self._ascends() else slices[-1]
        largest = max(slices, key=lambda z: int(areas[z]))
        made = [self._figure(Shot(largest, self._centre, _EXTENT_MM, "largest cross-section", wide=True))]
        for z in slices:
            if z != largest:
                words = {top: "upper end", bottom: "lower end"}.get(z, "between")
                made.append(self._figure(Shot(z, self._centre, _EXTENT_MM, words)))
        return made

    def evidence(self) -> list[Markup]:
        """One figure per piece of evidence, the structure outlined beside the tumour."""
        staging = self.outcome.concluded.staging
        items = staging.evidence if staging is not None else ()
        return [self._evidence_figure(number, item) for number, item in enumerate(items, 1)]

    def _evidence_figure(self, number: int, item: StructureEvidence) -> Markup:
        z = min(max(item.source_slice, 0), self.masks.tumour.shape[0] - 1)
        structure = self.structure_on(item, z)
        both = structure & (self.masks.tumour[z] > 0)
        centre = _middle(both) or _middle(self.masks.tumour[z] > 0) or _middle(structure) or self._centre
        name = wording.structure(item.structure, item.side)
        words = f"{name}, {item.status} ({item.category})" if item.category else f"{name}, {item.status}"
        outlines = (Outline(structure, "structure"),)
        return self._figure(Shot(z, centre, _DETAIL_MM, words, outlines, anchor=f"evidence-{number}"))

    def structure_on(self, item: StructureEvidence, z: int) -> NDArray[np.bool_]:
        """(Y, X) bool: where slice z shows the structure, on the side concerned."""
        labels = [label for label in self.outcome.manifest.labels if label.structure == item.structure]
        wanted = [label.code for label in labels if label.side in (item.side, "paired", "midline")]
        shown = np.asarray(np.isin(self.masks.structures[z], wanted))
        paired = any(label.side == "paired" for label in labels)
        if paired and item.side in ("left", "right"):
            y, x = np.nonzero(shown)
            index = np.column_stack([x, y, np.full(x.size, z)])
            is_left = self.painter.grid.to_world(index)[:, 0] > self._middle_mm
            shown[y, x] = is_left == (item.side == "left")
        return shown

    @cached_property
    def _middle_mm(self) -> float:
        """LPS x of the anatomy's middle, from every 97th of its voxels: good enough for a picture."""
        grid, found, skip = self.painter.grid, [], 0
        for z, codes in enumerate(self.masks.structures):
            here = np.flatnonzero(codes > 0)
            y, x = np.divmod(here[skip::97], codes.shape[1])
            found.append(np.column_stack([x, y, np.full(x.size, z)]))
            skip = (skip - len(here)) % 97
        places = np.concatenate(found)
        return float((grid.to_world(places)[:, 0].mean()) if len(places) else grid.centre[0])

    def _looked_at(self) -> list[Markup]:
        """Slices through the nasopharynx, or the middle of the window where no label says where it is."""
        codes = [label.code for label in self.outcome.manifest.labels if label.structure == "nasopharynx"]
        place = np.isin(self.masks.structures, codes)
        if not place.any():
            place = self.masks.covered
        levels = np.flatnonzero(place.any(axis=(1, 2)))
        if not len(levels):
            return []
        chosen = sorted({int(levels[int(q * (len(levels) - 1))]) for q in (0.25, 0.5, 0.75)})
        centre = _middle(place[chosen[len(chosen) // 2]]) or self._centre
        return [
            self._figure(Shot(z, centre, _EXTENT_MM, "level of the nasopharynx", wide=i == 0))
            for i, z in enumerate(chosen)
        ]

    def _figure(self, shot: Shot) -> Markup:
        frame = Frame.around(self.painter.grid, shot.z, shot.centre, shot.size_mm)
        outlines = [*shot.outlines, Outline(self.masks.tumour[shot.z] > 0, "tumour")]
        drawn = self.painter.lines(outlines, frame)
        label = self._label(shot.z)
        panels = [
            self.painter.panel(volume, frame, drawn, name.upper(), f"{name.upper()}, {label}: {shot.words}")
            for name, volume in ((name, self.outcome.volumes[name]) for name in self.sequences)
        ]
        pair = tag("div", panels, class_="pair" if len(panels) > 1 else "pair single")
        caption = tag("figcaption", tag("b", label), " · ", shot.words)
        return tag("figure", pair, caption, id=shot.anchor, class_="wide" if shot.wide else None)

    def _label(self, z: int) -> str:
        piece = self.outcome.source_slice(z)
        number = self.outcome.series_number(self.outcome.reference_volume)
        return wording.image_label(number, None if piece is None else piece.instance_number, z)

    @cached_property
    def _centre(self) -> tuple[float, float]:
        """(y, x) that all extent pictures share, to be compared: the tumour's, or the slice's middle."""
        found = _middle(np.asarray(self.masks.tumour.max(axis=0) > 0))
        return found or (self.masks.tumour.shape[1] / 2, self.masks.tumour.shape[2] / 2)

    def _ascends(self) -> bool:
        """True when a higher slice index lies further towards the head (or, off axial, further along)."""
        return bool(self.painter.grid.normal[int(np.argmax(np.abs(self.painter.grid.normal)))] > 0)


def extent_slices(tumour: NDArray[np.uint8]) -> list[int]:
    """Slice indices: first, last, largest, and evenly between, five at most."""
    areas = _areas(tumour)
    levels = np.flatnonzero(areas)
    if not len(levels):
        return []
    spread = np.linspace(0, len(levels) - 1, min(_EXTENT_SLICES, len(levels)))
    chosen = {int(levels[round(at)]) for at in spread.tolist()}
    largest = int(np.argmax(areas))
    if largest not in chosen:
        inner = chosen - {int(levels[0]), int(levels[-1])}
        chosen -= {min(inner, key=lambda z: abs(z - largest))} if inner else set()
        chosen.add(largest)
    return sorted(chosen)


def _areas(mask: NDArray[np.uint8]) -> NDArray[np.intp]:
    """(Z,) voxels on each slice. Slice by slice: along axes NumPy would widen every voxel first."""
    return np.array([np.count_nonzero(picture) for picture in mask], dtype=np.intp)


def _middle(mask: NDArray[np.bool_]) -> tuple[float, float] | None:
    """(y, x) of the bounding box's middle; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return None
    return float(rows[0] + rows[-1]) / 2, float(columns[0] + columns[-1]) / 2
