"""What a MONAI bundle's inference configuration says of its network, as tables of a spec.

A MONAI configuration is a program: "$" is Python, "_target_" any class. Nothing of it is run here. Files,
macros and references are read by MONAI's own ConfigParser; then every transform is looked up among those
whose arithmetic the engine reproduces, with the arguments it reproduces. Whatever else stands there is
refused by name, never left out in silence. `docs/export.md` lists what is known.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from monai.bundle.config_parser import ConfigParser

from npc_edge.engine.errors import BundleError, UsageError

_READERS = {"LoadImage", "EnsureChannelFirst", "EnsureType", "ToTensor", "ConcatItems", "DeleteItems"}
"""Before the network: they put files into arrays, as the engine does."""
_WRITERS = {"Invert", "EnsureType", "ToTensor", "SaveImage", "DeleteItems"}
"""After it: back to the source's grid and into files, as the engine does."""
_COMMON = {"_target_", "_disabled_", "_desc_", "_requires_", "keys", "allow_missing_keys", "lazy"}
_AXES = {"L": (2, False), "R": (2, True), "P": (1, False), "A": (1, True), "S": (0, False), "I": (0, True)}
"""Code → axis of the engine's (Z, Y, X) LPS array, and whether it runs the other way."""


@dataclass
class Found:
    """What was found so far. axes: for each of MONAI's spatial axes, one of (Z, Y, X), flipped or not."""

    network: dict[str, Any] = field(default_factory=dict)
    tumour: dict[str, Any] = field(default_factory=dict)
    axes: tuple[tuple[int, bool], ...] = ()
    kind: str = ""
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class MonaiConfig:
    """definition: the network's class and arguments. tables: of a spec. axes: as in Found."""

    definition: Mapping[str, Any]
    tables: Mapping[str, Any]
    axes: tuple[tuple[int, bool], ...]
    notes: tuple[str, ...]


def read_config(folder: Path, accept: Collection[str] = ()) -> MonaiConfig:
    """Read configs/inference.json (.yaml, .yml) and configs/metadata.json of a MONAI bundle.

    accept: names of refused steps whose absence from the engine is accepted; each is noted. Raises UsageError
    (no such files), BundleError (a step the engine does not reproduce, by name).
    """
    parser = _parser(folder)
    reader = _Reader(accept)
    reader.before(_steps(parser, "preprocessing"))
    reader.inferer(_plain(parser, "inferer", "@inferer"))
    reader.after(_steps(parser, "postprocessing"))
    definition = _plain(parser, "network_def", "@network_def")
    if not isinstance(definition, dict) or "_target_" not in definition:
        raise BundleError("the MONAI configuration defines no network under network_def")
    _refuse_programs(definition, "network_def")
    tables = _words(folder)
    found = reader.found
    tables["network"] = {**tables.pop("network", {}), **found.network}
    if found.kind:
        tables["network"]["outputs"] = [{"name": found.kind, "kind": found.kind}]
    if found.tumour:
        tables["tumour"] = found.tumour
    return MonaiConfig(definition, tables, found.axes, tuple(found.notes))


class _Reader:
    """Walks the steps in their order; each that is known leaves its mark in `found`."""

    def __init__(self, accept: Collection[str]) -> None:
        self.found = Found()
        self._accept = set(accept)

    def before(self, steps: Sequence[Mapping[str, Any]]) -> None:
        known: dict[str, Callable[[Mapping[str, Any]], None]] = {
            "Orientation": self._orientation,
            "Spacing": self._spacing,
            "NormalizeIntensity": self._normalise,
        }
        order = list(known)
        last = -1
        for step in steps:
            name = _name(step)
            if name in _READERS:
                continue
            if name not in known:
                raise BundleError(f"MONAI's {name} is not a step the engine reproduces")
            if order.index(name) <= last:
                raise BundleError(
                    f"MONAI's {name} does not come where the engine does it",
                    "its order is " + ", ".join(order),
                )
            last = order.index(name)
            known[name](step)
        for name, there in (("Orientation", self.found.axes), ("NormalizeIntensity", self.found.network)):
            if not there or (name == "NormalizeIntensity" and "normalisation" not in there):
                raise BundleError(f"the MONAI configuration has no {name}, and the engine always does one")

    def inferer(self, step: Any) -> None:
        if not isinstance(step, dict):
            raise BundleError("the MONAI configuration has no inferer")
        name = _name(step)
        if name == "SimpleInferer":
            return
        if name != "SlidingWindowInferer":
            raise BundleError(f"MONAI's {name} is not an inferer the engine reproduces")
        free = {"sw_batch_size", "sw_device", "device", "progress", "cache_roi_weight_map", "cpu_thresh"}
        fixed = {"sigma_scale": (0.125,), "padding_mode": ("constant",), "cval": (0, 0.0)}
        _only(step, {"roi_size", "overlap", "mode", *free}, fixed)
        size = _numbers(step, "roi_size", int)
        self.found.network["window"] = self._on_grid(size)
        self.found.network["overlap"] = float(step.get("overlap", 0.25))
        if step.get("mode", "constant") != "gaussian":
            self._tolerate("SlidingWindowInferer.mode", "the engine blends windows with a Gaussian")

    def after(self, steps: Sequence[Mapping[str, Any]]) -> None:
        for step in steps:
            name = _name(step)
            if name in _WRITERS:
                continue
            if name == "Activations":
                _only(step, {"softmax", "sigmoid"}, {})
                self._is("segmentation" if step.get("softmax") else "tumour" if step.get("sigmoid") else "")
            elif name == "AsDiscrete":
                self._discrete(step)
            else:
                self._tolerate(name, "the engine does nothing of the kind to a mask")

    def _discrete(self, step: Mapping[str, Any]) -> None:
        """How probabilities become a mask, which happens once."""
        _only(step, {"argmax", "threshold", "to_onehot", "num_classes"}, {"to_onehot": (None,)})
        largest, threshold = bool(step.get("argmax")), step.get("threshold")
        if self.found.tumour or (largest and threshold is not None):
            raise BundleError("MONAI's AsDiscrete makes a mask of a mask, which the engine does not")
        if largest:
            self._is("segmentation")
            self.found.tumour = {"rule": "argmax"}
        elif threshold is not None:
            self.found.tumour = {"rule": "threshold", "threshold": float(threshold)}

    def _orientation(self, step: Mapping[str, Any]) -> None:
        _only(step, {"axcodes"}, {"labels": (None,), "as_closest_canonical": (False,)})
        codes = str(step.get("axcodes", ""))
        axes = tuple(_AXES[code] for code in codes if code in _AXES)
        if sorted(axis for axis, _ in axes) != [0, 1, 2]:
            raise BundleError(f"MONAI's Orientation.axcodes {codes} names no three axes")
        self.found.axes = axes

    def _spacing(self, step: Mapping[str, Any]) -> None:
        fixed = {
            "padding_mode": ("border",),
            "align_corners": (False,),
            "diagonal": (False,),
            "scale_extent": (False,),
            "recompute_affine": (False, True),
        }
        _only(step, {"pixdim", "mode", "dtype"}, fixed)
        modes = step.get("mode", "bilinear")
        for mode in modes if isinstance(modes, list) else [modes]:
            if mode != "bilinear":
                raise BundleError(f"MONAI's Spacing.mode {mode} is not one the engine reproduces")
        if not self.found.axes:
            raise BundleError("MONAI's Spacing without an Orientation before it depends on the file")
        self.found.network["spacing"] = self._on_grid(_numbers(step, "pixdim", float))
        self.found.network["resampling"] = "linear-unsmoothed"

    def _normalise(self, step: Mapping[str, Any]) -> None:
        _only(step, {"nonzero"}, {"channel_wise": (True,), "subtrahend": (None,), "divisor": (None,)})
        if step.get("channel_wise") is not True:
            raise BundleError("MONAI's NormalizeIntensity.channel_wise false is not what the engine does")
        method = "zscore-nonzero" if step.get("nonzero") is True else "zscore"
        self.found.network["normalisation"] = {"method": method}

    def _on_grid(self, values: Sequence[Any]) -> list[Any]:
        """Three numbers along MONAI's axes → along (Z, Y, X)."""
        placed: list[Any] = [0, 0, 0]
        for value, (axis, _) in zip(values, self.found.axes, strict=True):
            placed[axis] = value
        return placed

    def _is(self, kind: str) -> None:
        if kind and self.found.kind not in ("", kind):
            raise BundleError("the MONAI configuration takes one output for two kinds")
        self.found.kind = kind or self.found.kind

    def _tolerate(self, name: str, why: str) -> None:
        if name not in self._accept:
            raise BundleError(f"MONAI's {name} is not reproduced: {why}", f"accept that with --accept {name}")
        self.found.notes.append(f"MONAI's {name} is left out: {why}.")


def _parser(folder: Path) -> Any:
    """MONAI's ConfigParser over the inference configuration, its files and macros read."""
    configs = folder / "configs"
    there = [configs / f"inference{end}" for end in (".json", ".yaml", ".yml")]
    path = next((p for p in there if p.is_file()), None)
    if path is None:
        raise UsageError(f"{folder} is no MONAI bundle: it has no configs/inference.json or .yaml")
    try:
        parser: Any = ConfigParser(ConfigParser.load_config_file(path), globals=False)
        parser.resolve_macro_and_relative_ids()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, ImportError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise BundleError(f"{path.name} of the MONAI bundle cannot be read: {lines[0][:200]}") from error
    return parser


def _steps(parser: Any, key: str) -> list[Mapping[str, Any]]:
    composed = _plain(parser, key, f"@{key}")
    if composed is None:
        return []
    steps = composed.get("transforms") if isinstance(composed, dict) else composed
    if not isinstance(steps, list) or not all(isinstance(s, dict) and "_target_" in s for s in steps):
        raise BundleError(f"the MONAI configuration's {key} is no list of transforms")
    return [step for step in steps if not step.get("_disabled_")]


def _plain(parser: Any, where: str, value: Any, depth: int = 0) -> Any:
    """A value with its references followed; what is missing at the top becomes None."""
    if depth > 32:
        raise BundleError(f"the MONAI configuration's {where} refers to itself")
    if isinstance(value, str) and re.fullmatch(r"@[\w:#.-]+", value):
        try:
            held = parser[value[1:]]
        except (KeyError, IndexError, ValueError, TypeError) as error:
            if depth == 0:
                return None
            raise BundleError(f"the MONAI configuration's {where} refers to {value}, not there") from error
        return _plain(parser, where, held, depth + 1)
    if isinstance(value, Mapping):
        return {str(k): _plain(parser, f"{where}.{k}", v, depth + 1) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(parser, where, v, depth + 1) for v in value]
    return value


def _refuse_programs(value: Any, where: str) -> None:
    if isinstance(value, str) and value.startswith(("$", "@", "%")):
        raise BundleError(
            f"{where} of the MONAI bundle is a program ({value[:60]}), which is not run",
            "write its value, or bring the network by export torch",
        )
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in inner:
        _refuse_programs(part, where)


def _name(step: Mapping[str, Any]) -> str:
    """A transform's name without its module and the ending that says it works on dictionaries."""
    name = str(step["_target_"]).rpartition(".")[2]
    return re.sub(r"(d|D|Dict)$", "", name) if re.search(r"[a-z](d|D|Dict)$", name) else name


def _only(step: Mapping[str, Any], free: Collection[str], fixed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse an argument that is not known, or has another value than the one the engine reproduces."""
    name = _name(step)
    for key, value in step.items():
        if key in _COMMON or (key in free and not (isinstance(value, str) and value.startswith("$"))):
            continue
        wanted = fixed.get(key, ())
        values = value if isinstance(value, list) else [value]
        if not wanted or any(v not in wanted for v in values):
            raise BundleError(f"MONAI's {name}.{key} {value} is not one the engine reproduces")


def _numbers(step: Mapping[str, Any], key: str, kind: type[int] | type[float]) -> list[Any]:
    values = step.get(key)
    values = values if isinstance(values, list) else [values] * 3
    if len(values) != 3 or not all(isinstance(v, int | float) and v > 0 for v in values):
        raise BundleError(f"MONAI's {_name(step)}.{key} {step.get(key)} is not three sizes")
    return [kind(v) for v in values]


def _words(folder: Path) -> dict[str, Any]:
    """What metadata.json says that a spec may say too; the channels' names, lower-cased, are the inputs."""
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        return {}
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
        channels = (
            meta.get("network_data_format", {}).get("inputs", {}).get("image", {}).get("channel_def", {})
        )
        names = [re.sub(r"[^a-z0-9]+", "-", str(channels[key]).lower()) for key in sorted(channels, key=int)]
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise BundleError("metadata.json of the MONAI bundle cannot be read") from error
    tables: dict[str, Any] = {}
    for key in ("version", "intended_use"):
        if meta.get(key):
            tables[key] = str(meta[key])
    if names:
        tables["network"] = {"inputs": names}
    if meta.get("data_source"):
        tables["provenance"] = {"training_data": str(meta["data_source"])}
    return tables
