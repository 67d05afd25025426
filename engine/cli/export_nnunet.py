"""`npc-edge export nnunet`: an nnU-Net v2 trained folder becomes a bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Folder = Annotated[
    Path, typer.Argument(metavar="MODEL_FOLDER", help="Holds plans.json, dataset.json and fold_*.")
]
Folds = Annotated[
    list[str] | None, typer.Option(help="A fold, several of them: an ensemble. Default: all there are.")
]
Channels = Annotated[
    list[str] | None, typer.Option(help="NAME=ROLE of a channel whose name is no role: CE-T1=T1C.")
]
Tumour = Annotated[str | None, typer.Option(help="The label that is the tumour. Default: the first.")]
Mirroring = Annotated[
    bool, typer.Option("--mirroring", help="Average over mirror images; up to 8 times as slow.")
]
DicomOrder = Annotated[
    Literal["dcm2niix", "scanner"],
    typer.Option(help="How the training images came from DICOM: rows reversed by dcm2niix, or as they were."),
]
Evidence = Annotated[
    Literal["synthetic", "retrospective", "prospective"],
    typer.Option(help="What the model was shown to work on; synthetic: on no patient."),
]


def export_nnunet(
    folder: Folder,
    out: Annotated[Path, typer.Option("--out", help="The bundle's folder, to be made.")],
    key: Annotated[Path | None, typer.Option(help="Sign with this key; without one, unsigned.")] = None,
    fold: Folds = None,
    checkpoint: Annotated[str, typer.Option(help="The file within each fold.")] = "checkpoint_final.pth",
    channel: Channels = None,
    tumour_label: Tumour = None,
    mirroring: Mirroring = False,
    dicom_order: DicomOrder = "dcm2niix",
    name: Annotated[str | None, typer.Option(help="The bundle's name. Default: the data set's.")] = None,
    licence: Annotated[str, typer.Option(help="Of the weights.")] = "not stated",
    evidence: Evidence = "synthetic",
) -> None:
    """Turn a folder that nnU-Net v2 trained into a bundle that needs neither nnU-Net nor PyTorch."""
    from npc_edge.engine.errors import BackendError, UsageError

    pairs = [entry.partition("=") for entry in channel or []]
    if any(not name or not role for name, _, role in pairs):
        raise UsageError("--channel wants NAME=ROLE", "for example --channel CE-T1=T1C")
    try:
        from npc_edge.export.nnunet import NnunetJob
        from npc_edge.export.nnunet import export_nnunet as export
        from npc_edge.export.sign import read_key
    except ImportError as error:
        raise BackendError(f"exporting needs {error.name}", "install npc-edge[export]") from error

    job = NnunetJob(
        folder=folder,
        out=out,
        folds=tuple(fold or ()),
        checkpoint=checkpoint,
        roles={name: role for name, _, role in pairs},
        tumour=tumour_label,
        mirroring=mirroring,
        rows_reversed=dicom_order == "dcm2niix",
        name=name,
        licence=licence,
        evidence=evidence,
    )
    export(job, None if key is None else read_key(key), typer.echo)
    signed = "signed" if key is not None else "not signed: run it with --allow-unsigned"
    typer.echo(f"{out}: {signed}")
