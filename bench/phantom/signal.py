"""MR signal of each tissue by the spin-echo equation, as a look-up table over `Tissue` codes.

Relaxation times (ms) at 1.5 T and 3 T and proton densities are rounded from published measurements:

- grey and white matter, nerve (optic), blood: Stanisz et al., Magn Reson Med 2005;54:507-512.
- muscle, cartilage, synovial fluid (as `FLUID`), fat and fatty marrow: Gold et al., AJR 2004;183:343-351.
  Fat T1 is taken at the low end of published values (260 / 340 ms), where the inversion times that
  scanners use for STIR null it; its T2 is the long one seen in echo trains (J-coupling), not the
  single-echo value.
- red marrow (vertebral): de Bazelaire et al., Radiology 2004;230:652-659.
- CSF and vitreous: Rooney et al., Magn Reson Med 2007;57:308-318, and textbook values.

Mucosa, lymphoid tissue, glands, nodes, sclerosis and the tumour have no agreed reference. They are
chosen, within the spread of the soft tissues above, to give the contrast radiologists describe:
tumour about muscle on T1, between muscle and mucosa on T2, enhancing less than mucosa.

Sclerotic and cortical bone, air and flowing blood (flow void) are dark by a small visible proton density.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.phantom.structures import Tissue

Kind = Literal["T1", "T2", "T1C"]
FatSuppression = Literal["none", "spectral", "stir", "dixon_water"]
Lut = NDArray[np.float32]

TUMOUR = len(Tissue)
"""Index of the tumour in every table of this module; it follows the last `Tissue` code."""

CODES = TUMOUR + 1

_FAT = (260.0, 340.0, 150.0, 130.0)  # T1 at 1.5 and 3 T, T2 at 1.5 and 3 T of the fat in any tissue

# Per code: T1 at 1.5 and 3 T, T2 at 1.5 and 3 T, visible proton density, fat fraction,
# contrast agent taken up (mmol/l) and how much the tissue varies between people (relative sd).
_TABLE: dict[int, tuple[float, float, float, float, float, float, float, float]] = {
    Tissue.AIR: (1000, 1000, 40, 40, 0.0, 0.0, 0.0, 0.0),
    Tissue.SKIN: (900, 1050, 35, 32, 0.70, 0.10, 0.15, 0.12),
    Tissue.FAT: (1000, 1200, 40, 36, 0.95, 0.95, 0.02, 0.05),
    Tissue.MUSCLE: (1080, 1380, 40, 37, 0.80, 0.03, 0.08, 0.06),
    Tissue.FATTY_MARROW: (950, 1150, 45, 40, 0.85, 0.80, 0.03, 0.08),
    Tissue.RED_MARROW: (850, 1000, 50, 46, 0.75, 0.40, 0.12, 0.12),
    Tissue.CORTICAL_BONE: (800, 900, 12, 10, 0.08, 0.0, 0.0, 0.10),
    Tissue.GREY_MATTER: (1120, 1600, 95, 92, 0.84, 0.0, 0.02, 0.05),
    Tissue.WHITE_MATTER: (780, 1050, 72, 69, 0.72, 0.0, 0.01, 0.05),
    Tissue.CSF: (4000, 4200, 1600, 1400, 1.0, 0.0, 0.0, 0.04),
    Tissue.MUCOSA: (1150, 1400, 125, 115, 0.88, 0.0, 0.70, 0.12),
    Tissue.LYMPHOID: (1080, 1330, 95, 88, 0.86, 0.0, 0.55, 0.12),
    Tissue.GLAND: (950, 1150, 70, 64, 0.85, 0.30, 0.35, 0.12),
    Tissue.NODE: (1080, 1330, 88, 80, 0.86, 0.0, 0.45, 0.12),
    Tissue.FLUID: (2600, 3000, 500, 450, 0.98, 0.0, 0.0, 0.30),
    Tissue.VITREOUS: (3900, 4100, 900, 800, 1.0, 0.0, 0.0, 0.04),
    Tissue.FLOWING_BLOOD: (1440, 1930, 290, 275, 0.05, 0.0, 0.10, 0.35),
    Tissue.NERVE: (815, 1080, 77, 75, 0.75, 0.05, 0.02, 0.08),
    Tissue.SCLEROSIS: (900, 1050, 35, 32, 0.40, 0.05, 0.15, 0.20),
    Tissue.CARTILAGE: (1060, 1240, 40, 36, 0.72, 0.0, 0.05, 0.08),
    Tissue.VENOUS_BLOOD: (1440, 1930, 200, 140, 0.55, 0.0, 1.20, 0.20),
    TUMOUR: (1130, 1420, 76, 70, 0.86, 0.0, 0.48, 0.11),
}

_RELAXIVITY = 4.3  # of a gadolinium chelate in blood, per mmol/l and second; about the same at 1.5 and 3 T
_FAT_LEFT = {"none": 1.0, "spectral": 0.09, "stir": 1.0, "dixon_water": 0.03}


@dataclass(frozen=True)
class SequenceParameters:
    """What a spin-echo series was acquired with.

    te_ms is the effective echo time of an echo train. ti_ms is used by STIR alone; None takes the time
    that nulls fat. enhancement scales the contrast agent's uptake and is used by kind T1C alone.
    """

    kind: Kind
    te_ms: float
    tr_ms: float
    field_t: float = 3.0
    fat_suppression: FatSuppression = "none"
    enhancement: float = 1.0
    ti_ms: float | None = None


def tissue_signal(params: SequenceParameters, rng: np.random.Generator | None = None) -> Lut:
    """Signal of every tissue: (22,) float32, indexed by `Tissue` code, the last one the tumour.

    With rng, T1, T2 and proton density vary by the tissue's own spread (5-30 %) and fat suppression by
    its quality; without, the table's values. Use it as `lut[tissue]`, or with `render`.
    """
    return tissue_signals(params, rng)[0]


def tissue_signals(params: SequenceParameters, rng: np.random.Generator | None = None) -> tuple[Lut, Lut]:
    """The same, and beside it the signal of the same tissues where fat suppression fails altogether.

    Both (22,) float32; equal without a chemical fat suppression. Blend them by a map of failure.
    """
    table, fat = _drawn(params.field_t, rng)
    left = _FAT_LEFT[params.fat_suppression]
    if rng is not None and left < 1.0:
        left *= float(rng.uniform(0.3, 2.2))
    water = table[:, 2] * _spin_echo(params, _shortened(params, table[:, 0], table[:, 4]), table[:, 1])
    lipid = table[:, 2] * _spin_echo(params, fat[0], fat[1])
    fraction = table[:, 3]
    kept = (1.0 - fraction) * water
    full = kept + fraction * lipid
    return (kept + left * fraction * lipid).astype(np.float32), full.astype(np.float32)


def render(
    tissue: NDArray[np.uint8], lut: Lut, fraction: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Labels → signal, float32 in the shape of `tissue`, the tumour blended in by its fraction 0..1."""
    signal = lut[tissue]
    if fraction is not None:
        signal += fraction * (lut[TUMOUR] - signal)
    return signal


def without_suppression(params: SequenceParameters) -> SequenceParameters:
    """The same sequence with its fat left as bright as it is."""
    return replace(params, fat_suppression="none")


@lru_cache(maxsize=8)
def _at_field(field_t: float) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Table (codes, [T1, T2, PD, fat fraction, uptake]), spread (codes,) and fat's (T1, T2) at a field."""
    rows = np.array([_TABLE[code] for code in range(CODES)], dtype=np.float64)
    high = (field_t - 1.5) / 1.5
    fat = np.array([_FAT[0] + high * (_FAT[1] - _FAT[0]), _FAT[2] + high * (_FAT[3] - _FAT[2])])
    t1 = rows[:, 0] + high * (rows[:, 1] - rows[:, 0])
    t2 = rows[:, 2] + high * (rows[:, 3] - rows[:, 2])
    return np.stack([t1, t2, rows[:, 4], rows[:, 5], rows[:, 6]], axis=1), rows[:, 7], fat


def _drawn(
    field_t: float, rng: np.random.Generator | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """This person's table and fat, varied log-normally around the published means."""
    table, spread, fat = _at_field(field_t)
    if rng is None:
        return table, fat
    scatter = np.clip(rng.standard_normal(table.shape), -2.2, 2.2) * spread[:, None]
    scatter[:, 2] *= 0.5
    scatter[:, 4] *= 2.0
    varied = table * np.exp(scatter)
    varied[:, 3] = np.clip(varied[:, 3], 0.0, 0.98)
    return varied, fat * np.exp(0.05 * np.clip(rng.standard_normal(2), -2.2, 2.2))


def _shortened(
    params: SequenceParameters, t1: NDArray[np.float64], uptake: NDArray[np.float64]
) -> NDArray[np.float64]:
    """T1 (ms) with contrast agent on board."""
    if params.kind != "T1C":
        return t1
    rate = 1000.0 / t1 + _RELAXIVITY * params.enhancement * uptake
    return np.asarray(1000.0 / rate)


def _spin_echo(
    params: SequenceParameters, t1: NDArray[np.float64] | float, t2: NDArray[np.float64] | float
) -> NDArray[np.float64]:
    """Magnitude of a (inversion-prepared) spin echo for unit proton density."""
    decay = np.exp(-params.te_ms / np.asarray(t2))
    recovery = np.exp(-params.tr_ms / np.asarray(t1))
    if params.fat_suppression != "stir":
        return np.asarray((1.0 - recovery) * decay)
    ti = params.ti_ms if params.ti_ms is not None else np.log(2.0) * float(_at_field(params.field_t)[2][0])
    return np.asarray(np.abs(1.0 - 2.0 * np.exp(-ti / np.asarray(t1)) + recovery) * decay)
