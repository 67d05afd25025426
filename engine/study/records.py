"""The child's records → the frozen values of `types.py`, grouped into series that can be one stack."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from npc_edge.engine.errors import Refusal
from npc_edge.engine.study.stack import ANGLE_TOLERANCE_DEG, MIN_SLICES, stack
from npc_edge.engine.types import Acquisition, Frame, Series

_TUPLES = ("image_type", "sequence", "variant", "scan_options")


@dataclass(frozen=True)
class Image:
    """One frame with what splitting a series needs besides."""

    frame: Frame
    image_type: tuple[str, ...]
    stack_id: str
    acquisition_number: int | None
    acquisition: Acquisition
    head: tuple[
        str, str, str, str, str
    ]  # series UID, SOP class, modality, frame of reference, transfer syntax
    number: int | None


def images_of(record: dict[str, Any], source: int) -> list[Image]:
    """The frames of one record, in the order of `headers._frame`."""
    fields: dict[str, Any] = dict(record["acquisition"])
    fields |= {k: tuple(fields[k]) for k in _TUPLES}
    acquisition = Acquisition(**fields)
    shape = (record["pixels"]["rows"], record["pixels"]["columns"])
    head = tuple(record[k] for k in ("series", "class", "modality", "frame_of_reference", "syntax"))
    images = []
    for row in record["frames"]:
        index, instance, position, orientation, spacing, slope, intercept = row[:7]
        time, b_value, temporal, echo, image_type, stack_id, acquisition_number = row[7:]
        frame = Frame(
            sop_instance_uid=record["sop"],
            source=source,
            number=index,
            instance_number=instance,
            shape=shape,
            position=tuple(position) if position else None,
            row=tuple(orientation[:3]) if orientation else None,
            column=tuple(orientation[3:]) if orientation else None,
            pixel_spacing=tuple(spacing) if spacing else None,
            slope=slope,
            intercept=intercept,
            time_s=time,
            b_value=b_value,
            temporal_position=temporal,
            echo_time_ms=echo,
        )
        words = tuple(image_type.split("\\")) if image_type else ()
        images.append(Image(frame, words, stack_id, acquisition_number, acquisition, head, record["number"]))
    return images


def series_of(images: Iterable[Image]) -> tuple[Series, ...]:
    """Group by series, split what cannot be one stack, and order by series number."""
    groups: dict[Hashable, list[Image]] = defaultdict(list)
    for image in images:
        groups[image.head[:3]].append(image)
    made = [_series(part) for group in groups.values() for part in split(group)]
    return tuple(sorted(made, key=lambda s: (s.number is None, s.number or 0, s.acquisition.time_s or 0.0)))


def split(images: list[Image]) -> list[list[Image]]:
    """Part what differs in what is pictured; what differs in place only where each part is regular.

    A part of one or two frames is no stack but a fault: then the series stays whole, and is refused by name.
    """
    parts = [images]
    for key in _KINDS:
        parts = [piece for part in parts for piece in _parted(part, key, lambda p: len(p) >= 3)]
    for key in _PLACES:
        parts = [
            piece
            for part in parts
            for piece in (_parted(part, key, _regular) if not _regular(part) else [part])
        ]
    return parts


def _parted(
    images: list[Image], key: Callable[[list[Image]], list[Hashable]], good: Callable[[list[Image]], bool]
) -> list[list[Image]]:
    groups: dict[Hashable, list[Image]] = defaultdict(list)
    for image, value in zip(images, key(images), strict=True):
        groups[value].append(image)
    pieces = list(groups.values())
    return pieces if len(pieces) > 1 and all(good(piece) for piece in pieces) else [images]


def _regular(images: list[Image]) -> bool:
    try:
        stack([image.frame for image in images], MIN_SLICES)
    except Refusal:
        return False
    return True


def clusters(values: Sequence[float | None], relative: float, absolute: float) -> list[Hashable]:
    """A cluster number for each value: neighbours closer than the tolerance share one; None is its own."""
    known = sorted({v for v in values if v is not None})
    number: dict[float | None, int] = {None: -1}
    current = 0
    for before, value in zip([None, *known], known, strict=False):
        if before is not None and value - before > max(absolute, relative * abs(value)):
            current += 1
        number[value] = current
    return [number[v] for v in values]


def _orientations(images: list[Image]) -> list[Hashable]:
    """A group number for each frame: frames within the tolerance of a group's first one share it."""
    first: list[tuple[float, ...]] = []
    found: list[Hashable] = []
    limit = ANGLE_TOLERANCE_DEG * 0.01745
    for image in images:
        axes = (image.frame.row or ()) + (image.frame.column or ())
        match = (
            i
            for i, other in enumerate(first)
            if len(other) == len(axes) and all(abs(a - b) <= limit for a, b in zip(axes, other, strict=True))
        )
        group = next(match, None)
        if group is None:
            group = len(first)
            first.append(axes)
        found.append(group)
    return found


# What is pictured: matrix, kind of image, echo, diffusion weighting, phase, the enhanced object's stack.
_KINDS: tuple[Callable[[list[Image]], list[Hashable]], ...] = (
    lambda images: [i.frame.shape for i in images],
    lambda images: [i.image_type for i in images],
    lambda images: clusters([i.frame.echo_time_ms for i in images], 0.03, 0.3),
    lambda images: clusters([i.frame.b_value for i in images], 0.02, 5.0),
    lambda images: [i.frame.temporal_position for i in images],
    lambda images: [i.stack_id for i in images],
)
_PLACES: tuple[Callable[[list[Image]], list[Hashable]], ...] = (
    _orientations,
    lambda images: [i.acquisition_number for i in images],
)


def _series(images: list[Image]) -> Series:
    first = images[0]
    uid, sop_class, modality, frame_of_reference, syntax = first.head
    frames = tuple(image.frame for image in images)
    times = [f.time_s for f in frames if f.time_s is not None]
    acquisition = replace(
        first.acquisition,
        image_type=first.image_type,
        echo_time_ms=first.frame.echo_time_ms or first.acquisition.echo_time_ms,
        time_s=min(times) if times else first.acquisition.time_s,
    )
    return Series(uid, first.number, modality, sop_class, frame_of_reference, acquisition, frames, syntax)
