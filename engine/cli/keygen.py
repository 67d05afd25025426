"""`npc-edge keygen`: a key pair to sign bundles with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def keygen(
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Writes OUT.key (keep it secret) and OUT.pub.")],
) -> None:
    """Make an Ed25519 key pair to sign bundles with."""
    from npc_edge.export.sign import write_keys

    stem = out.with_suffix("") if out.suffix in (".key", ".pub") else out
    private, public = write_keys(stem)
    typer.echo(f"{private}: signs bundles; keep it secret and out of every repository")
    typer.echo(f"{public}: put it into keys/ of the state directory of whoever shall trust them")
