"""The bundle's manifest as frozen, closed pydantic models: unknown keys are refused.

Everything that changes a number is here. Triples are (z, y, x) unless named otherwise, millimetres.
`npc-edge schema manifest` prints the JSON Schema made from these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from npc_edge.engine.model.calibrator import Calibrator as Calibrator
from npc_edge.engine.model.nnunet_scheme import NnunetScheme
from npc_edge.engine.model.strict import Strict as Strict

Role = Literal["T1", "T1C", "T2", "T2FS", "ADC"]
Precision = Literal["fp32", "fp16", "int8-u8s8", "int8-s8s8"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
RelativePath = Annotated[
    str, Field(pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*(/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*)*$")
]
Positive3 = tuple[Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)], Annotated[float, Field(gt=0)]]
Shape3 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class SequenceSpec(Strict):
    """An input sequence: its name in the network and the roles a series may play."""

    name: Name
    roles: tuple[Role, ...] = Field(min_length=1)  # accepted, best first


class Normalisation(Strict):
    """Per-sequence intensity normalisation over the resampled grid the network sees, where it holds data.

    percentile: clip to the [lower, upper] percentiles of the foreground (voxels above `foreground` times the
    mean of the positive ones), then scale these two to 0 and 1. zscore: subtract the mean, divide by the
    standard deviation. zscore-nonzero: the same over the voxels that are not 0; those that are stay 0. Voxels
    outside the volume become 0. Exactly `kernels.intensity.normalise`.
    """

    method: Literal["percentile", "zscore", "zscore-nonzero"]
    lower: float = Field(default=0.5, ge=0, le=100)
    upper: float = Field(default=99.5, ge=0, le=100)
    foreground: float = Field(default=0.1, ge=0, lt=1)


class OutputSpec(Strict):
    """A network output before activation. kind decides what the engine does with it.

    tumour: (1,1,Z,Y,X) logit, sigmoid. anatomy: (1,K,Z,Y,X), softmax, channel = label code. detection:
    (1,1) logit. heatmap: (1,1,Z,Y,X) logit whose soft-argmax is a point.
    segmentation: (1,K,Z,Y,X) softmax over all labels, channel = label code (nnU-Net).
    """

    name: Name
    kind: Literal["tumour", "anatomy", "detection", "heatmap", "segmentation"]


class Parity(Strict):
    """What was measured against the fp32 original for one (backend, execution precision, instruction set).

    dice: mean agreement of the tumour masks. delta_dice: mean fall of Dice against the truth. score_shift:
    mean shift of the calibrated probability. category_changes of cases, and the upper end of the one-sided
    95 % interval of their share.
    """

    backend: str
    precision: str
    isa: str
    max_relative_error: float
    dice: float | None = None
    score_shift: float | None = None
    delta_dice: float | None = None
    cases: int | None = None
    category_changes: int | None = None
    category_bound: float | None = None


class EngineSpec(Strict):
    """What a TensorRT engine was built for, and fits exactly. That it ever ran no manifest says: a site's
    acceptance record does (`engine.model.engines`)."""

    runtime: Literal["tensorrt-rtx", "tensorrt"]
    runtime_version: str = Field(min_length=1)
    compute_capability: Annotated[str, Field(pattern=r"^sm\d{2,3}$")]


class Artefact(Strict):
    """A network in one precision. parity: each (backend, execution precision, instruction set) that was
    measured and may run. engine: of a compiled artefact only."""

    precision: Precision
    file: RelativePath
    format: Literal["onnx", "engine"] = "onnx"
    parity: tuple[Parity, ...] = ()
    engine: EngineSpec | None = None

    @model_validator(mode="after")
    def _engine_says_for_what(self) -> Artefact:
        if (self.format == "engine") != (self.engine is not None):
            raise ValueError(
                f"{self.file}: `engine` belongs to artefacts of format engine, and to each of them"
            )
        return self


class NetworkSpec(Strict):
    """One network. Networks run in the order listed; region is `whole` or `around:<network>.<output>`.

    spacing (z, y, x) mm and window (Z, Y, X) voxels: the grid, axial LPS. It is resampled linearly after
    smoothing where it is coarser, linearly without, or with B-splines without. `whole`: centred on the
    reference volume, as large as it needs, in windows that overlap. `around`: one window centred on the point
    an earlier network found. inputs: sequence names in channel order.

    nnunet: the network is one fold of an nnU-Net, and what happens around it is nnU-Net's, not the above;
    spacing and window are then along its transposed axes, and `normalisation` and `resampling` say nothing.
    All networks of such a bundle are folds of one ensemble: each sees the same input, logits are averaged.
    """

    name: Name
    region: Annotated[str, Field(pattern=r"^(whole|around:[A-Za-z0-9._-]+)$")]
    inputs: tuple[Name, ...]
    spacing: Positive3
    window: Shape3
    overlap: float = Field(default=0.5, ge=0, lt=1)
    resampling: Literal["linear", "linear-unsmoothed", "bspline"] = "linear"
    normalisation: Normalisation | None = None
    nnunet: NnunetScheme | None = None
    outputs: tuple[OutputSpec, ...]
    artefacts: tuple[Artefact, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _one_way(self) -> NetworkSpec:
        if (self.normalisation is None) == (self.nnunet is None):
            raise ValueError(f"network {self.name} needs either a normalisation or an nnU-Net scheme")
        if self.nnunet is not None:
            fits = [output.kind for output in self.outputs] == ["segmentation"] and self.region == "whole"
            if not fits or len(self.nnunet.channels) != len(self.inputs):
                raise ValueError(f"network {self.name} is not a fold of an nnU-Net")
        return self

    @property
    def locates(self) -> bool:
        """True for a network that only says where to look."""
        return all(output.kind == "heatmap" for output in self.outputs)


class Code(Strict):
    value: str
    scheme: str
    meaning: str


class LabelSpec(Strict):
    """A label of the anatomy. paired: one class for both sides, told apart at the midline by the engine."""

    code: int = Field(ge=1, le=255)
    name: Name
    structure: str  # the staging rules' name for it, e.g. "clivus"
    side: Literal["left", "right", "midline", "paired"]
    colour: tuple[int, int, int]
    concept: Code | None = None


class OperatingPoint(Strict):
    sensitivity: float
    specificity: float
    on: str


class DetectionSpec(Strict):
    """Threshold on the calibrated probability and the mask that must agree with it.

    indeterminate_low..indeterminate_high: probabilities between them are `indeterminate`.
    mask_min_ml: a mask smaller than this counts as empty.
    """

    threshold: float = Field(gt=0, lt=1)
    indeterminate_low: float = Field(ge=0, le=1)
    indeterminate_high: float = Field(ge=0, le=1)
    mask_min_ml: float = Field(ge=0)
    operating_point: OperatingPoint


class TumourSpec(Strict):
    """How the tumour's probability becomes a mask: where it reaches the threshold; or, with rule `argmax` and
    one softmax over all labels, where the tumour is the largest."""

    rule: Literal["threshold", "argmax"] = "threshold"
    threshold: float = Field(gt=0, lt=1)
    min_component_ml: float = Field(ge=0, default=0.0)


class StagingSpec(Strict):
    """rules: version of the engine's rule file. thresholds: the sweep behind the distribution over T1-T4."""

    rules: str
    thresholds: tuple[float, ...]
    distribution_temperature: float = 1.0
    smoothing: float = 0.0


class FieldOfView(Strict):
    """mm that must lie inside every sequence around the located point."""

    inferior: float
    superior: float
    anterior: float
    posterior: float
    lateral: float


class Domain(Strict):
    """Reference distributions. Each feature: (low, high) limits outside of which a study is out of domain."""

    locator_confidence_min: float
    features: dict[str, tuple[float, float]] = Field(default_factory=dict)


class Provenance(Strict):
    training_data: str
    commit: str
    recipe: str
    tools: dict[str, str]
    credits: tuple[str, ...] = ()


def check_names(
    sequences: Sequence[SequenceSpec],
    reference: str,
    networks: Sequence[NetworkSpec],
    labels: Sequence[LabelSpec],
) -> None:
    """ValueError, which says where, when what is named is not there, or two are named alike."""
    names = [sequence.name for sequence in sequences]
    if len(set(names)) != len(names):
        raise ValueError("sequences: two have one name")
    if reference not in names:
        raise ValueError(f"reference_sequence: no sequence is named {reference}")
    for network in networks:
        if strangers := [name for name in network.inputs if name not in names]:
            raise ValueError(f"inputs of network {network.name}: no sequence is named {strangers[0]}")
    codes = [label.code for label in labels]
    if len(set(codes)) != len(codes):
        raise ValueError("labels: two have one code")


class Manifest(Strict):
    schema_version: Literal["1"] = "1"
    name: Name
    version: str
    licence: str
    intended_use: str
    evidence: Literal["synthetic", "retrospective", "prospective"]
    task: Literal["npc", "segmentation"]
    contexts: tuple[Literal["untreated", "treated", "unknown"], ...] = ("untreated", "unknown")
    sequences: tuple[SequenceSpec, ...] = Field(min_length=1)
    reference_sequence: Name
    networks: tuple[NetworkSpec, ...] = Field(min_length=1)
    labels: tuple[LabelSpec, ...] = ()
    tumour: TumourSpec
    calibrators: dict[str, Calibrator] = Field(default_factory=dict)  # by artefact file
    detection: DetectionSpec | None = None
    staging: StagingSpec | None = None
    field_of_view: FieldOfView | None = None
    domain: Domain | None = None
    age_range_years: tuple[float, float] | None = None
    provenance: Provenance
    files: dict[RelativePath, Sha256]

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        check_names(self.sequences, self.reference_sequence, self.networks, self.labels)
        seen: set[str] = set()
        for network in self.networks:
            if network.region.startswith("around:") and network.region[7:] not in seen:
                raise ValueError(f"network {network.name} looks around an output no earlier network has")
            seen |= {f"{network.name}.{output.name}" for output in network.outputs}
            for artefact in network.artefacts:
                if artefact.file not in self.files:
                    raise ValueError(f"artefact {artefact.file} is not among files")
        self._check_nnunet()
        return self

    def _check_nnunet(self) -> None:
        folds = [network for network in self.networks if network.nnunet is not None]
        same = {(n.nnunet, n.spacing, n.window, n.overlap, n.inputs, n.outputs) for n in folds}
        if folds and (len(folds) != len(self.networks) or len(same) != 1):
            raise ValueError("the folds of an nnU-Net must be alike, with no other network beside them")
