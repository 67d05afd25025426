"""A user's network and its weights: a factory named on the command line, and a file of tensors, never code.

Weights are read by `torch.load(weights_only=True)` or as safetensors. Whatever else a file holds is not run:
it ends in one line. What had to be unwrapped on the way is said, not guessed at in silence.
"""

from __future__ import annotations

import importlib
import pickle
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from npc_edge.engine.errors import BackendError, UsageError

WRAPPERS = ("state_dict", "model_state_dict", "network_weights", "model", "net", "weights")
"""Keys under which training programs keep a state dict, in the order they are tried."""

PREFIXES = ("module.", "_orig_mod.")
"""What DataParallel and torch.compile put before every name."""

_NAMED = 3  # names shown of a long list
_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    ImportError,
    LookupError,
    NameError,
    OSError,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
    Warning,
)
"""What a user's own code may raise while it is imported or builds its network."""

_NOT_WEIGHTS = (RuntimeError, ValueError, LookupError, TypeError, AttributeError, EOFError, OSError)
"""What torch.load raises for a file that is no archive of tensors; OSError for one that is cut short."""


@dataclass(frozen=True)
class Weights:
    """A state dict, name → tensor, and in words what was unwrapped to get at it."""

    tensors: Mapping[str, Tensor]
    said: tuple[str, ...]


def build_network(name: str, folder: Path | None = None) -> nn.Module:
    """Call the factory "package.module:function" without arguments; it returns the network.

    Modules are looked for in `folder` (the current one when None) before anywhere else. UsageError in one
    line when there is no such factory, it fails, or what it returns is no torch.nn.Module.
    """
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute.isidentifier():
        raise UsageError(f"--network {name} is not MODULE:FACTORY", "for example --network my_net:build")
    place = str(Path.cwd() if folder is None else folder.absolute())
    sys.path.insert(0, place)
    try:
        factory = getattr(importlib.import_module(module_name), attribute, None)
        if not callable(factory):
            raise UsageError(f"module {module_name} has no factory {attribute}")
        network = factory()
    except ModuleNotFoundError as error:
        if error.name is not None and f"{module_name}.".startswith(f"{error.name}."):
            raise UsageError(f"there is no module {module_name} here or installed") from error
        raise UsageError(f"--network {name} needs {error.name}, which is not installed") from error
    except _FAULTS as error:
        raise UsageError(f"--network {name} failed: {_first_line(error)}") from error
    finally:
        if place in sys.path:
            sys.path.remove(place)
    if not isinstance(network, nn.Module):
        raise UsageError(f"--network {name} returned a {type(network).__name__}, not a torch.nn.Module")
    return network


def load_weights(path: Path) -> Weights:
    """The state dict in a .pt/.pth file or a .safetensors one. UsageError when the file holds none."""
    if not path.is_file():
        raise UsageError(f"there are no weights at {path}")
    held = _read_safetensors(path) if path.suffix == ".safetensors" else _read_torch(path)
    return _unwrap(held, path.name)


def apply_weights(network: nn.Module, weights: Weights, name: str) -> tuple[str, ...]:
    """Copy weights into a network, all of them or none; returns in words what was unwrapped
    and tolerated.

    name: the file's, for the UsageError raised when names or shapes differ or a weight is not finite.
    """
    said = list(weights.said)
    wanted = network.state_dict()
    found = _without_prefix(weights.tensors, wanted, said)
    counters = [n for n in wanted if n.endswith("num_batches_tracked") and n not in found]
    missing = [n for n in wanted if n not in found and n not in counters]
    unexpected = [n for n in found if n not in wanted]
    if missing or unexpected:
        parts = [f"lacks {_some(missing)}"] if missing else []
        parts += [f"holds {_some(unexpected)}, unknown to the network"] if unexpected else []
        raise UsageError(f"{name} does not fit the network: it {' and '.join(parts)}")
    other = [n for n in found if found[n].shape != wanted[n].shape]
    if other:
        first = other[0]
        shapes = f"{first} is {tuple(found[first].shape)}, not {tuple(wanted[first].shape)}"
        raise UsageError(f"{name} does not fit the network: {shapes} ({len(other)} of other shape)")
    if broken := [n for n, t in found.items() if t.is_floating_point() and not bool(torch.isfinite(t).all())]:
        raise UsageError(f"{name} holds values that are not finite in {_some(broken)}")
    network.load_state_dict(dict(found), strict=False)
    if counters:
        said.append(f"{len(counters)} batch counters are not in the file and not needed")
    kinds = {str(t.dtype).removeprefix("torch.") for t in found.values() if t.is_floating_point()}
    if kinds - {"float32"}:
        said.append(f"weights stored as {', '.join(sorted(kinds - {'float32'}))} are used as float32")
    return tuple(said)


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old formats, and of its own internals
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UsageError(
            f"{path.name} holds more than tensors, and is not opened: loading it would run its code",
            "save the state dict alone: torch.save(network.state_dict(), FILE)",
        ) from error
    except PermissionError as error:
        raise UsageError(f"{path.name} cannot be read: {error.strerror}") from error
    except _NOT_WEIGHTS as error:
        if "TorchScript" in str(error):
            raise UsageError(
                f"{path.name} is a TorchScript program, not weights", "save the state dict alone"
            ) from error
        raise UsageError(f"{path.name} is not a file of weights, or is cut short") from error


def _read_safetensors(path: Path) -> Any:
    try:
        from safetensors import SafetensorError
        from safetensors.torch import load_file
    except ImportError as error:
        raise BackendError("safetensors is not installed", "pip install 'npc-edge[export]'") from error
    try:
        return load_file(path, device="cpu")
    except (SafetensorError, OSError, ValueError) as error:
        raise UsageError(f"{path.name} is not a safetensors file, or is cut short") from error


def _unwrap(held: Any, name: str) -> Weights:
    said: list[str] = []
    while isinstance(held, Mapping):
        if held and all(isinstance(value, Tensor) for value in held.values()):
            return Weights({str(key): value for key, value in held.items()}, tuple(said))
        inner = next((key for key in WRAPPERS if isinstance(held.get(key), Mapping)), None)
        if inner is None:
            keys = _some([str(key) for key in held]) if held else "nothing"
            raise UsageError(f"{name} holds no state dict, but {keys}", f"looked under {', '.join(WRAPPERS)}")
        said.append(f'weights taken from under "{inner}"')
        held = held[inner]
    raise UsageError(f"{name} holds a {type(held).__name__}, not a state dict")


def _without_prefix(
    found: Mapping[str, Tensor], wanted: Mapping[str, Tensor], said: list[str]
) -> Mapping[str, Tensor]:
    """Take off what wrappers put before every name, unless the network's own names begin so."""
    for prefix in PREFIXES:
        if all(n.startswith(prefix) for n in found) and not any(n.startswith(prefix) for n in wanted):
            said.append(f'"{prefix}" taken off every name')
            found = {name.removeprefix(prefix): value for name, value in found.items()}
    return found


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_NAMED])
    return f"{shown} and {len(names) - _NAMED} more" if len(names) > _NAMED else shown


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0][:200]}" if text else type(error).__name__
