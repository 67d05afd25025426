"""`npc-edge doctor`: what this machine can run, and why not the rest."""

from __future__ import annotations

from typing import Annotated

import typer


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Show what this machine can run and why not the rest."""
    import importlib.metadata
    import importlib.util
    import json
    import platform

    from npc_edge.engine.machine import available_cores
    from npc_edge.engine.model.runners import instruction_set

    wanted = {
        "onnxruntime": "the CPU runtime of this version",
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
    for backend in ("openvino", "tensorrt"):
        checks.append(
            {
                "what": backend,
                "ok": False,
                "detail": "no runner for it in this version; the CPU runs onnxruntime",
            }
        )
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
