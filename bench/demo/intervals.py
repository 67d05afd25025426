"""How sure the demo bundle's scores are: Venn-Abers steps of every artefact, on the validation samples.

The same samples that gave the temperature: each artefact's own scores, on ONNX Runtime. The sets of T
categories need whole studies; what the gate's phantoms allow of them, `export quantize` has counted.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from npc_edge.bench.demo import calibrate
from npc_edge.engine.model.bundle import load
from npc_edge.export.pack import pack
from npc_edge.export.recalibrate import steps

Scored = Sequence[tuple[float, bool]]
"""Logit and whether there is a tumour, of each sample."""


def scores(
    bundle: Path, heads: Sequence[Path], cases: int, threads: int, say: Callable[[str], None]
) -> dict[str, Scored]:
    """By artefact file: what each artefact of the network that decides says of `cases` drawn samples."""
    artefacts = load(bundle, allow_unsigned=True).network("npc").artefacts
    files = [artefact.file for artefact in artefacts if artefact.format == "onnx"]
    sessions = {file: calibrate.session(bundle / file, threads) for file in files}
    found: dict[str, list[tuple[float, bool]]] = {file: [] for file in files}
    for number, (sample, _) in enumerate(calibrate.drawn(heads, cases), start=1):
        for file, session in sessions.items():
            (score,) = session.run(["detection"], {"image": sample.image[None]})
            found[file].append((float(score[0, 0]), sample.npc))
        if number % 40 == 0:
            say(f"intervals: {number} of {cases} cases")
    return dict(found)


def add(bundle: Path, scored: Mapping[str, Scored]) -> None:
    """Put the steps of every artefact into the bundle's manifest; it is packed again, or left as it was."""
    manifest = load(bundle, allow_unsigned=True).manifest
    calibrators = dict(manifest.calibrators)
    for file, pairs in scored.items():
        if file in calibrators:
            calibrators[file] = calibrators[file].model_copy(update={"venn_abers": steps(pairs)})
    changed = manifest.model_copy(update={"calibrators": calibrators})
    pack(bundle, changed.model_dump(mode="json", exclude={"files"}), None)
