"""The spec: what a bundle must say of a network that the network's file cannot, written as TOML by its maker.

A closed model: an unknown key, a missing one and a value that makes no sense each end in one line that says
which and where. `docs/export.md` holds a commented example.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, ValidationError, model_validator

from npc_edge.engine.errors import UsageError
from npc_edge.engine.model.manifest import (
    Calibrator,
    DetectionSpec,
    Domain,
    FieldOfView,
    LabelSpec,
    Name,
    NetworkSpec,
    Normalisation,
    Parity,
    SequenceSpec,
    StagingSpec,
    Strict,
    TumourSpec,
    check_names,
)

_HINT = "docs/export.md holds a commented example"
_SINGLE = ("tumour", "detection", "heatmap")
"""Kinds of output with one channel."""


class NetworkWish(NetworkSpec):
    """The network as the manifest describes it, without the artefacts that exporting will make."""

    normalisation: Normalisation
    region: Literal["whole"] = "whole"  # a bundle of one network has no earlier one to look around
    artefacts: tuple[()] = ()


class ProvenanceWords(Strict):
    """Where the network comes from, in words; the tools' versions are measured, not told."""

    training_data: str
    commit: str = ""
    recipe: str = ""
    credits: tuple[str, ...] = ()


class Spec(Strict):
    """What a manifest of one network needs and its file does not say. See the classes of the manifest."""

    name: Name
    version: str
    licence: str
    intended_use: str
    evidence: Literal["synthetic", "retrospective", "prospective"]
    task: Literal["npc", "segmentation"]
    contexts: tuple[Literal["untreated", "treated", "unknown"], ...] = ("untreated", "unknown")
    sequences: tuple[SequenceSpec, ...] = Field(min_length=1)
    reference_sequence: Name
    network: NetworkWish
    labels: tuple[LabelSpec, ...] = ()
    tumour: TumourSpec | None = None
    calibrator: Calibrator | None = None
    detection: DetectionSpec | None = None
    staging: StagingSpec | None = None
    field_of_view: FieldOfView | None = None
    domain: Domain | None = None
    age_range_years: tuple[float, float] | None = None
    provenance: ProvenanceWords

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        check_names(self.sequences, self.reference_sequence, (self.network,), self.labels)
        if not self.network.inputs or len(set(self.network.inputs)) != len(self.network.inputs):
            raise ValueError("network.inputs: name every channel's sequence once, in order")
        outputs = [output.name for output in self.network.outputs]
        if not outputs or len(set(outputs)) != len(outputs):
            raise ValueError("network.outputs: give every output a name of its own, in the network's order")
        kinds = {output.kind for output in self.network.outputs}
        if kinds & {"tumour", "segmentation"} and self.tumour is None:
            raise ValueError("tumour.threshold is missing: the network outlines a tumour")
        if self.tumour is not None and self.tumour.rule == "argmax" and "segmentation" not in kinds:
            raise ValueError("tumour.rule: argmax wants an output of kind segmentation")
        if ("detection" in kinds) != (self.detection is not None):
            raise ValueError("detection: a threshold and an output of kind detection go together")
        if self.calibrator is not None and "detection" not in kinds:
            raise ValueError("calibrator: there is no output of kind detection to calibrate")
        return self

    @property
    def artefact(self) -> str:
        """The fp32 artefact's name in the bundle."""
        return f"artefacts/{self.network.name}.fp32.onnx"

    @property
    def input_shape(self) -> tuple[int, int, int, int, int]:
        """(1, C, Z, Y, X) of the network's input."""
        return 1, len(self.network.inputs), *self.network.window

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the network's order."""
        return tuple(output.name for output in self.network.outputs)

    def wrong_output(self, shapes: Mapping[str, tuple[int, ...]]) -> str:
        """What is wrong with the outputs' shapes at batch 1, in words; empty when nothing is."""
        for output in self.network.outputs:
            shape = shapes[output.name]
            wanted: tuple[int | str, ...] = (1, 1 if output.kind in _SINGLE else "K", *self.network.window)
            wanted = wanted[:2] if output.kind == "detection" else wanted
            fits = len(shape) == len(wanted) and all(
                isinstance(w, str) or s == w for s, w in zip(shape, wanted, strict=True)
            )
            if not fits:
                asked = ", ".join(map(str, wanted))
                return f"output {output.name} has shape {shape}, one of kind {output.kind} has ({asked})"
            if output.kind in ("anatomy", "segmentation"):
                codes = [label.code for label in self.labels]
                if codes and max(codes) >= shape[1]:
                    return f"output {output.name} has {shape[1]} channels, none for label code {max(codes)}"
        return ""


def load_spec(path: Path) -> Spec:
    """Read a spec; UsageError in one line when it is not there, not TOML, or not a spec."""
    return make_spec(read_toml(path), path.name)


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file; UsageError when it cannot be read."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"the spec {path} cannot be read: {error.strerror}", _HINT) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path.name} is not TOML: {error}", _HINT) from error


def make_spec(tables: Mapping[str, Any], where: str) -> Spec:
    """A checked spec from its tables; `where` names their source in the UsageError."""
    try:
        return Spec.model_validate(dict(tables))
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False)
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise UsageError(f"{where}: {_in_words(problems[0])}{more}", _HINT) from error


def manifest_of(spec: Spec, parity: Sequence[Parity], tools: Mapping[str, str]) -> dict[str, Any]:
    """The manifest without its files, as `pack` takes it, for one fp32 artefact with its measured parity."""
    described = spec.model_dump(mode="json", exclude_none=True, exclude={"network", "calibrator"})
    network = spec.network.model_dump(mode="json")
    network["artefacts"] = [
        {
            "precision": "fp32",
            "file": spec.artefact,
            "format": "onnx",
            "parity": [p.model_dump() for p in parity],
        }
    ]
    described["networks"] = [network]
    described["provenance"]["tools"] = dict(tools)
    # The manifest always says how a probability becomes a mask, of a network that makes none too.
    described.setdefault("tumour", {"threshold": 0.5})
    if spec.calibrator is not None:
        described["calibrators"] = {spec.artefact: spec.calibrator.model_dump()}
    return described


def _in_words(problem: Any) -> str:
    where = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "missing":
        return f"{where} is missing"
    if problem["type"] == "extra_forbidden":
        return f"{where} is not a key of a spec"
    message = str(problem["msg"]).removeprefix("Value error, ")
    return f"{where}: {message}" if where else message
