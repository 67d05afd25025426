"""`npc-edge doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from npc_edge.engine.gpu import Gpus


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
    state: Annotated[Path | None, typer.Option(help="State directory; default: the user's.")] = None,
) -> None:
    """Show what this machine can run and why not the rest."""
    import json
    import platform

    from npc_edge.engine.machine import available_cores
    from npc_edge.engine.model.runners import instruction_set

    checks = [*_packages(), *_accelerators(), *_chosen(state)]
    machine = {
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cores": available_cores(),
        "instruction_set": instruction_set(),
    }
    if as_json:
        print(json.dumps({"machine": machine, "checks": checks}, indent=2))
        return
    print("  ".join(f"{key}: {value}" for key, value in machine.items()))
    for check in checks:
        print(f"{'ok ' if check['ok'] else 'no '} {check['what']}: {check['detail']}")


def _packages() -> list[dict[str, str | bool]]:
    """What the plain install holds."""
    import importlib.metadata

    wanted = {
        "onnxruntime": "the reference runtime on a CPU",
        "openvino": "the fast runtime on a CPU",
        "SimpleITK": "resampling",
        "pydicom": "reading DICOM",
        "highdicom": "writing SEG and SR",
        "pylibjpeg-openjpeg": "reading JPEG 2000",
        "pyjpegls": "reading JPEG-LS",
    }
    checks: list[dict[str, str | bool]] = []
    for package, purpose in wanted.items():
        try:
            version = importlib.metadata.version(package)
            checks.append({"what": package, "ok": True, "detail": f"{version}, {purpose}"})
        except importlib.metadata.PackageNotFoundError:
            checks.append({"what": package, "ok": False, "detail": f"not installed, wanted for {purpose}"})
    return checks


def _chosen(state: Path | None) -> list[dict[str, str | bool]]:
    """What `--backend auto` remembers of this machine."""
    from npc_edge.engine.model.choice import remembered_choices
    from npc_edge.engine.remembered import Remembered
    from npc_edge.engine.state import default_path

    remembered = Remembered(default_path() if state is None else state)
    told: list[dict[str, str | bool]] = [
        {"what": f"auto, {what}", "ok": True, "detail": detail}
        for what, detail in remembered_choices(remembered)
    ]
    told += [{"what": "auto", "ok": False, "detail": line} for line in remembered.notes]
    if not told:
        detail = "nothing measured on this machine yet: the first run does it"
        told.append({"what": "auto", "ok": True, "detail": detail})
    return told


def _accelerators() -> list[dict[str, str | bool]]:
    """Does a GPU answer, and can TensorRT be imported? Each with the reason where not."""
    from npc_edge.engine.errors import BackendError
    from npc_edge.engine.gpu import find_gpus
    from npc_edge.engine.model.runners.tensorrt_build import RUNTIMES, load_tensorrt

    gpus = find_gpus()
    checks: list[dict[str, str | bool]] = [
        {"what": "gpu", "ok": not gpus.why, "detail": gpus.why or _named(gpus)}
    ]
    for runtime, package in RUNTIMES.items():
        try:
            version = load_tensorrt(runtime).version
            detail = f"{version}, builds engines; its runner has not run on a GPU yet (docs/runners.md)"
            checks.append({"what": package, "ok": True, "detail": detail})
        except BackendError as error:
            checks.append({"what": package, "ok": False, "detail": error.one_line()})
    return checks


def _named(gpus: Gpus) -> str:
    cards = zip(gpus.names, gpus.capabilities, gpus.memory_mb, strict=True)
    told = ", ".join(f"{name} ({capability}, {mb / 1e3:.0f} GB)" for name, capability, mb in cards)
    return f"{told}; CUDA {gpus.driver}"
