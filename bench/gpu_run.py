"""The run step of the GPU suite: a study's folder to its files through the engine's session, with and without
the GPU, in turns. What `npc-edge run` does, warm.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from npc_edge.bench.gpu_place import Place, Row
from npc_edge.bench.gpu_rounds import Attempt, Judged, Plan, Way, measure
from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.engine.errors import Refusal
from npc_edge.engine.model.metrics import dice
from npc_edge.engine.session import RunResult, Session
from npc_edge.engine.types import Options, Segmentation

_EQUAL, _DICE = 0.98, 0.95


def rows(place: Place, note: Callable[[str], None], tell: Callable[[Row], None], scratch: Path) -> None:
    """Every way the engine has on this machine, ONNX Runtime on the processor first: the others are judged
    by what it said. `runs_as`: what a way turned out to run on."""
    matrix, slices = (192, 24) if place.small else (512, 36)
    note(f"a phantom of 2 x ({matrix} x {matrix} x {slices}) is made")
    spec = PhantomSpec("T3", seed=700_001, fat_sat=False, matrix=matrix, slices=slices)
    study = write_phantom(spec, scratch / "phantom") / "study"
    plan = Plan(rounds=3 if place.small else 7, warmups=1, until=place.until)
    size = [2, slices, matrix, matrix]
    asked = list(ways(place, study, scratch))
    measure(asked, judge_by_first(), plan, note, lambda found: tell({"study": size, "ways": found}))


def ways(place: Place, study: Path, scratch: Path) -> Iterator[Attempt]:
    """What is asked of the engine; those on the processor are what the others are compared with."""
    # Each has a state directory of its own: what one measured or built is no help to the next.
    asked = {
        "onnxruntime fp32 on the processor": Options("onnxruntime", device="cpu", precision="fp32"),
        "auto on the processor": Options(device="cpu"),
    }
    if place.number is not None:
        cuda = f"cuda:{place.number}"
        asked |= {
            "onnxruntime on the GPU": Options("onnxruntime", device=cuda),
            "tensorrt on the GPU": Options("tensorrt", device=cuda),
            "auto on the GPU": Options(device=cuda),
        }
    for number, (name, options) in enumerate(asked.items()):
        own = scratch / f"run-{number}"
        yield Attempt(name, partial(_way, study, options, own), peer=number < 2)


def _way(study: Path, options: Options, own: Path) -> Way:
    state = replace(options, state=own / "state", allow_demo_dicom=True, record=False)
    session = Session(None, state)
    session.__enter__()
    last: list[RunResult] = []

    def run() -> None:
        result = session.run(study, own / "out")
        shutil.rmtree(own / "out")
        if result.findings is None:
            reason = result.document.reasons[0]
            raise Refusal(reason.code, reason.message)
        last[:] = [result]

    def outputs() -> dict[str, object]:
        findings, runtime = last[0].findings, last[0].document.runtime
        assert findings is not None, "a refusal was raised"
        masks = findings.segmentation
        runs_as = f"{runtime.backend} {runtime.precision} on {runtime.device}"
        return {"masks": masks, "runs_as": runs_as, "fallback": runtime.fallback}

    def stages() -> dict[str, float]:
        return dict(last[0].document.runtime.timings_ms)

    return Way(run, outputs, stages=stages, close=lambda: session.__exit__(None, None, None))


def judge_by_first() -> Callable[[Way], Judged]:
    """The first that is judged is right; the others are by how far their masks agree with its."""
    said: list[Segmentation] = []

    def judge(way: Way) -> Judged:
        found = way.outputs()
        masks: Segmentation = found["masks"]
        said.append(masks)
        first = said[0]
        equal = float((masks.structures == first.structures).mean())
        same = dice(masks.tumour > 0, first.tumour > 0)
        right = equal >= _EQUAL and same >= _DICE
        wrong = "" if right else f"structures equal at {equal:.4f}, tumour Dice {same:.3f}: too few"
        agree = {"structures_equal": round(equal, 4), "tumour_dice": round(same, 4)}
        return Judged({"runs_as": found["runs_as"], "fallback": found["fallback"], **agree}, wrong)

    return judge
