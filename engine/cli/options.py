"""Options that say the same in more than one command, and those of `run`: what each is for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

Backend = Annotated[Literal["auto", "onnxruntime", "openvino", "tensorrt"], typer.Option()]
Precision = Annotated[Literal["auto", "fp32", "bf16", "fp16", "int8"], typer.Option()]
Bundle = Annotated[Path | None, typer.Option(help="Bundle directory; default: the embedded demo bundle.")]
State = Annotated[Path | None, typer.Option(help="State directory; default: the user's.")]
AllowUnsigned = Annotated[bool, typer.Option("--allow-unsigned", help="Run a bundle nobody signed.")]

Studies = Annotated[
    list[Path] | None,
    typer.Argument(help="A folder (searched recursively), a DICOMDIR or a zip; several are fine."),
]
Images = Annotated[
    list[str] | None,
    typer.Option("--image", help="NAME=FILE.nii.gz, instead of STUDY: one for each sequence."),
]
Out = Annotated[Path | None, typer.Option(help="Output folder; default: the study's name + -npc-edge.")]
Device = Annotated[str, typer.Option(help="auto, cpu or cuda:N.")]
Context = Annotated[
    Literal["untreated", "treated", "unknown"], typer.Option(help="Has the patient been treated for NPC?")
]
CranialNerves = Annotated[
    Literal["none", "palsy"] | None,
    typer.Option(help="Clinical cranial-nerve findings; default: not supplied."),
]
Prevalence = Annotated[
    float | None,
    typer.Option(
        help="Share of NPC where the studies come from (0.05): a second probability. Moves no finding."
    ),
]
Deadline = Annotated[float | None, typer.Option(help="Seconds a study may take.")]
Correlation = Annotated[str | None, typer.Option(help="Your own identifier, copied into result.json.")]
Replace = Annotated[bool, typer.Option("--replace", help="Replace an earlier result in the folder.")]
AllowDemoDicom = Annotated[
    bool, typer.Option("--allow-demo-dicom", help="Let the demo bundle write DICOM for a real study.")
]
NoRecord = Annotated[bool, typer.Option("--no-record", help="Keep no record of the run for the monitor.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print result.json alone (JSON lines for several).")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
