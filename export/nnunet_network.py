"""A fold's checkpoint and the network its plans describe, in PyTorch.

Nothing that a file names is run unless it is a network of dynamic_network_architectures or a layer of
torch.nn.
"""

from __future__ import annotations

import importlib
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from npc_edge.engine.errors import BackendError, UsageError
from npc_edge.export.nnunet_plans import Architecture, Plans

_NETWORKS = "dynamic_network_architectures.architectures."
_LAYERS = "torch.nn."
_INSTALL = "python -m pip install --no-deps dynamic-network-architectures"


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """weights by name; the configuration they belong to; the axes their trainer allows to be mirrored."""

    weights: Mapping[str, Tensor]
    configuration: str
    mirror_axes: tuple[int, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """A checkpoint as nnU-Net's trainer writes it, read without running anything; UsageError for others."""
    try:
        # The unpickler warns of what it then refuses.
        with warnings.catch_warnings(), torch.serialization.safe_globals(_numbers()):
            warnings.simplefilter("ignore")
            held = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from error
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError) as error:
        raise UsageError(
            f"{path} is not a file of weights; it is not opened, for a pickle can run anything",
            "name a checkpoint that nnU-Net wrote",
        ) from error
    try:
        weights = {_plain(name): value for name, value in held["network_weights"].items()}
        configuration = str(held["init_args"]["configuration"])
        axes = tuple(int(axis) for axis in held.get("inference_allowed_mirroring_axes") or ())
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UsageError(f"{path} is not a checkpoint of nnU-Net's trainer: {error}") from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise UsageError(f"{path} holds no network weights")
    return Checkpoint(weights, configuration, axes)


def build_network(plans: Plans, weights: Mapping[str, Tensor], where: Path) -> nn.Module:
    """The network of the plans with a fold's weights, one output, in eval mode.

    where: the checkpoint, for messages. Raises UsageError when class, arguments or weights do not fit,
    BackendError when dynamic_network_architectures is not installed.
    """
    made = _network_class(plans.architecture.network_class)
    try:
        network = made(
            input_channels=len(plans.channels),
            num_classes=len(plans.labels) + 1,
            **_arguments(plans.architecture),
            deep_supervision=False,
        )
    except (TypeError, ValueError, AssertionError) as error:
        name = plans.architecture.network_class
        raise UsageError(f"{name} cannot be built from the plans: {_first_line(error)}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"{plans.architecture.network_class} is no PyTorch module")
    try:
        network.load_state_dict(dict(weights))
    except RuntimeError as error:
        told = " ".join(str(error).split())[:160]
        raise UsageError(f"the weights of {where} do not fit the network of the plans: {told}") from error
    return network.eval()


def _numbers() -> list[Any]:
    """The NumPy scalars and arrays of a trainer's log, under the names of NumPy 1 and 2."""
    makers: list[Any] = [np.float64(0).__reduce__()[0], np.zeros(1).__reduce__()[0]]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    named = [(make, f"{module}.{make.__name__}") for make in makers for module in modules]
    kinds = {type(np.dtype(code)) for code in "?bhilqBHILQefd"}
    return [*named, np.ndarray, np.dtype, *kinds]


def _plain(name: str) -> str:
    """A weight's name without what DDP and torch.compile put before it."""
    return name.removeprefix("module.").removeprefix("_orig_mod.")


def _network_class(name: str) -> Any:
    module, _, kind = name.rpartition(".")
    if not f"{module}.".startswith(_NETWORKS):
        raise UsageError(
            f"the network class {name} of the plans is not known", f"only those of {_NETWORKS[:-1]} are"
        )
    try:
        importlib.import_module(_NETWORKS[:-1])
    except ImportError as error:
        raise BackendError("dynamic_network_architectures is not installed", _INSTALL) from error
    # Classes moved between its modules; the U-Nets ended up in `unet`.
    for place in (module, f"{_NETWORKS}unet"):
        try:
            found = getattr(importlib.import_module(place), kind, None)
        except ModuleNotFoundError as error:
            if not (error.name or "").startswith("dynamic_network_architectures"):
                raise UsageError(f"{name} needs the package {error.name}, which is not installed") from error
            continue
        if found is not None:
            return found
    raise UsageError(f"the network class {name} of the plans is not in dynamic_network_architectures")


def _arguments(architecture: Architecture) -> dict[str, Any]:
    arguments = dict(architecture.arguments)
    for key in architecture.classes:
        if arguments.get(key) is not None:
            arguments[key] = _layer(str(arguments[key]))
    return arguments


def _layer(name: str) -> Any:
    if name.startswith(_LAYERS):
        found = reduce(
            lambda held, part: getattr(held, part, None), name.removeprefix(_LAYERS).split("."), _layers()
        )
        if isinstance(found, type) and issubclass(found, nn.Module):
            return found
    raise UsageError(f"{name} in the plans is no layer of torch.nn")


def _layers() -> Any:
    return nn


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
