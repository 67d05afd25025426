"""The model card and the words of provenance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CREDITS = (
    "Colin27 average brain (ch2.nii.gz of Debian's mricron-data): McConnell Brain Imaging Centre, Montreal "
    "Neurological Institute, McGill University; Holmes et al., J Comput Assist Tomogr 1998;22:324-333",
)


def training_data(real: bool, heads: int) -> str:
    """In words, for the manifest."""
    text = (
        f"{heads} procedural heads (npc_edge.bench.phantom), two in three with tumour layers of T1 to T4, "
        "contrast and acquisition drawn anew at each step; no patient data"
    )
    if real:
        text += (
            "; about 14 % strongly deformed copies of one real T1 (Colin27) with a simulated T2, about half "
            "of them with an inserted mass"
        )
    return text


def text(measured: Mapping[str, Any], real: bool) -> str:
    """The model card, Markdown."""
    found, aimed = measured["detection"], measured["locator"]
    stages = ", ".join(f"{k} {v:.2f}" for k, v in found["dice_by_stage"].items())
    anatomy = "\n".join(f"| {k} | {v:.2f} |" for k, v in found["anatomy_dice"].items())
    credit = "\n".join(f"- {c}" for c in CREDITS) if real else "- none"
    return f"""# npc-demo 1

**Trained on synthetic data. No clinical validity. Not for patients.** It lets the engine be installed, tried
and tested from end to end; its figures say how well the engine and this recipe fit its own phantoms, and
nothing of how well anything finds nasopharyngeal carcinoma in people.

- Inputs: T1 and T2 (with or without fat suppression), without contrast agent.
- Networks: a locator (8 mm, whole field of view), then one window of 4 x 1 x 1 mm, 32 x 144 x 144, about
  the nasopharynx: tumour (sigmoid), the anatomy under it (softmax of 25), a score.
- Licence: Apache-2.0. Made by `bench/demo/`, see provenance in the manifest.

## Measured on validation heads (synthetic, never trained on)

Detection: AUC {found["auc"]:.3f} over {found["cases"]} samples; at the operating point
sensitivity {found["sensitivity"]:.2f}, specificity {found["specificity"]:.2f}.
Tumour Dice {found["dice"]:.2f} on the network's grid ({stages}).
Locator error: median {aimed["mm_median"]:.1f} mm, 99 % within {aimed["mm_p99"]:.1f} mm.

| structure | Dice, all voxels pooled |
| --- | --- |
{anatomy}

## Limits

Real anatomy varies in ways the phantoms do not. Treated patients, children, implants, artefacts, contrast
agent and other tumours were never shown. Small structures (foramina, inferior orbital fissure,
pterygopalatine fossa) are outlined poorly at 4 mm slices.

## Credits

{credit}
"""
