"""nnU-Net's own preprocessing and prediction as data: what `export nnunet` read from the plans.

Names are nnU-Net's. Axes are those of the image array as nnU-Net reads it (z, y, x of SimpleITK), then of
the transposed array, in which windows, spacing and mirroring are given.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from npc_edge.engine.model.strict import Strict

Axis = Annotated[int, Field(ge=0, le=2)]
Order = Literal[0, 1, 3]


class NnunetResampling(Strict):
    """A spline of `order`; or, slice by slice across the coarse axis, `order` in plane and `order_z` along.

    Slice by slice where force_separate_z says so, or, where it is None, when the largest spacing, of the
    image or else of the network, exceeds anisotropy_threshold times the smallest and one axis alone has it.
    """

    order: Order
    order_z: Order = 0
    force_separate_z: bool | None = None
    anisotropy_threshold: float = Field(default=3.0, gt=0)


class NnunetIntensity(Strict):
    """Foreground statistics of the training set, for CTNormalization."""

    mean: float
    std: float = Field(ge=0)
    percentile_00_5: float
    percentile_99_5: float


class NnunetChannel(Strict):
    """How one channel is normalised, before it is resampled. use_mask_for_norm: within the non-zero mask."""

    scheme: Literal[
        "ZScoreNormalization",
        "CTNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    ]
    use_mask_for_norm: bool = False
    intensity: NnunetIntensity | None = None

    @model_validator(mode="after")
    def _complete(self) -> NnunetChannel:
        if self.scheme == "CTNormalization" and self.intensity is None:
            raise ValueError("CTNormalization needs the training set's intensities")
        return self


class NnunetScheme(Strict):
    """What happens around the network: transpose, crop to non-zero, normalise, resample; windows with steps
    of (1 - overlap) of themselves; logits back by the same way.

    transpose: transpose_forward of the plans. channels: in the network's order. mirror_axes: axes flipped
    in all combinations and averaged, empty for none. rows_reversed: a DICOM series is turned over along its
    columns first, which is how dcm2niix writes the NIfTI files that such networks are trained on; an image
    that comes as NIfTI is always taken as stored.
    """

    transpose: tuple[Axis, Axis, Axis] = (0, 1, 2)
    data: NnunetResampling
    logits: NnunetResampling
    channels: tuple[NnunetChannel, ...] = Field(min_length=1)
    mirror_axes: tuple[Axis, ...] = ()
    rows_reversed: bool = True

    @model_validator(mode="after")
    def _axes(self) -> NnunetScheme:
        if sorted(self.transpose) != [0, 1, 2] or len(set(self.mirror_axes)) != len(self.mirror_axes):
            raise ValueError("transpose must name each axis once, mirror_axes none twice")
        return self
