"""`npc-edge export torch|onnx|monai`: a trained network becomes a signed bundle."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from npc_edge.engine.errors import BackendError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    from npc_edge.export.make_bundle import Made

Out = Annotated[
    Path | None, typer.Option("--out", help="The bundle's folder, new or empty; default: the spec's name.")
]
SpecFile = Annotated[
    Path, typer.Option("--spec", help="TOML: what the bundle says of the network; see docs/export.md.")
]
Key = Annotated[Path | None, typer.Option("--key", help="Private key (npc-edge keygen) to sign with.")]
Unsigned = Annotated[bool, typer.Option("--unsigned", help="Leave the bundle unsigned.")]


def torch(
    network: Annotated[
        str,
        typer.Option("--network", help="MODULE:FACTORY of the network; the current folder too."),
    ],
    weights: Annotated[Path, typer.Option("--weights", help="A state dict: .pt, .pth or .safetensors.")],
    spec: SpecFile,
    out: Out = None,
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Make a bundle of a PyTorch network and its weights."""
    signing = _signing(key, unsigned)
    from npc_edge.export.spec import load_spec

    said = load_spec(spec)
    with _needing("export"):
        from npc_edge.export.torch_bundle import bundle_of_weights
    _tell(bundle_of_weights(network, weights, said, out or Path(said.name), signing, _say))


def onnx(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An fp32 ONNX file.")],
    spec: SpecFile,
    out: Out = None,
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Make a bundle of an ONNX file."""
    signing = _signing(key, unsigned)
    from npc_edge.export.spec import load_spec

    said = load_spec(spec)
    with _needing("export"):
        from npc_edge.export.onnx_bundle import bundle_of_onnx
    _tell(bundle_of_onnx(file, said, out or Path(said.name), signing, _say))


def monai(
    folder: Annotated[
        Path,
        typer.Argument(metavar="BUNDLE_DIR", help="A MONAI bundle: configs/, models/model.pt."),
    ],
    spec: SpecFile,
    accept: Annotated[
        list[str] | None,
        typer.Option("--accept", help="A step of MONAI's that may be left out, by name; several are fine."),
    ] = None,
    out: Out = None,
    key: Key = None,
    unsigned: Unsigned = False,
) -> None:
    """Make a bundle of a MONAI bundle; the spec adds what its configuration does not say."""
    signing = _signing(key, unsigned)
    with _needing("export,monai"):
        from npc_edge.export.monai_bundle import bundle_of_monai, plan
    config, said = plan(folder, spec, accept or ())
    _tell(bundle_of_monai(folder, config, said, out or Path(said.name), signing, _say))


def _signing(key: Path | None, unsigned: bool) -> Ed25519PrivateKey | None:
    """The key to sign with, or None where that was asked for; asked first, before anything takes long."""
    if (key is None) != unsigned:
        raise UsageError(
            "a bundle is signed or is not",
            "give either --key KEY (npc-edge keygen makes one) or --unsigned",
        )
    if key is None:
        return None
    from npc_edge.export.sign import read_key

    return read_key(key)


@contextmanager
def _needing(extra: str) -> Iterator[None]:
    """Turn the absence of an optional package into one line that says how to get it."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("npc_edge"):
            raise
        raise BackendError(
            f"exporting needs {error.name}, which is not installed", f"pip install 'npc-edge[{extra}]'"
        ) from error


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _tell(made: Made) -> None:
    for note in made.notes:
        _say(f"note: {note}")
    error = "no original to compare with" if made.parity is None else f"{made.parity.max_relative_error:.1e}"
    typer.echo(f"{made.root}: largest relative difference from the original: {error}")
