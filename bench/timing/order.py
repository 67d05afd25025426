"""What a bench is asked to measure, as one value that its processes share."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from npc_edge.engine.types import Options

_FILE = "order.json"


@dataclass(frozen=True)
class Order:
    """study: the folder to run. bundle: None for the embedded one. runs: warm ones, after the first.

    cold_runs: new processes. against: the peer to time beside the engine. threads 0: all cores.
    """

    study: Path
    runs: int = 10
    cold_runs: int = 3
    bundle: Path | None = None
    backend: Literal["auto", "onnxruntime", "openvino", "tensorrt"] = "auto"
    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = "auto"
    allow_unsigned: bool = False
    against: Literal["torch"] | None = None
    threads: int = 0

    def options(self, scratch: Path) -> Options:
        """The engine's options; its state lies in scratch."""
        return Options(
            backend=self.backend,
            precision=self.precision,
            allow_unsigned=self.allow_unsigned,
            allow_demo_dicom=True,
            state=scratch / "state",
            threads=self.threads,
        )


def save(order: Order, scratch: Path) -> None:
    """For the processes of this bench."""
    held = {name: str(v) if isinstance(v, Path) else v for name, v in asdict(order).items()}
    (scratch / _FILE).write_text(json.dumps(held), encoding="utf-8")


def load(scratch: Path) -> Order:
    """The order of the bench that `scratch` belongs to."""
    held: dict[str, Any] = json.loads((scratch / _FILE).read_text(encoding="utf-8"))
    paths = {name: Path(held[name]) for name in ("study", "bundle") if held[name] is not None}
    return Order(**{**held, **paths})
