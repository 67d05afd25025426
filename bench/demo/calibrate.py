"""What the exported networks do on heads they never saw, and the numbers the manifest takes from it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from npc_edge.bench.demo import cache
from npc_edge.bench.demo.coarse import SPACING_MM as COARSE_MM
from npc_edge.bench.demo.coarse import draw_coarse
from npc_edge.bench.demo.sample import SPACING, Sample, draw_sample
from npc_edge.bench.phantom.structures import Structure
from npc_edge.calibration.calibrators import apply, fit_temperature
from npc_edge.engine.model.locate import peak
from npc_edge.engine.model.runners.onnxruntime import load_onnxruntime

_VOXEL_ML = float(np.prod(SPACING)) / 1000
_MARGIN = 0.15
"""Half the least width of the grey zone in probability."""
_RARE = 0.05
"""Share of the validation cases of either kind that the grey zone may hold."""

_LEAST_ML = (0.3, 0.8)
"""A mask that 95 % of healthy samples do not reach says "tumour", within these limits."""

_LEEWAY = 0.02
"""Sensitivity + specificity within this of the best are as good: few cases tell them apart."""


@dataclass(frozen=True)
class Seen:
    """One validation case: the score, and how tumour and anatomy overlap with the truth."""

    npc: bool
    stage: str
    logit: float
    truth_ml: float
    dice: tuple[float, ...]  # at each of THRESHOLDS; of a healthy case the millilitres found
    anatomy: NDArray[np.int64]  # (classes, 3): both, predicted, true


THRESHOLDS = (0.3, 0.4, 0.5, 0.6)


def look(
    npc: Path, heads: Sequence[Path], cases: int, threads: int, say: Callable[[str], None]
) -> list[Seen]:
    """Run the exported network on `cases` drawn samples."""
    running = session(npc, threads)
    found = []
    for number, (sample, stage) in enumerate(drawn(heads, cases), start=1):
        outputs = running.run(["tumour", "anatomy", "detection"], {"image": sample.image[None]})
        found.append(_judge(sample, stage, outputs))
        if number % 40 == 0:
            say(f"validation: {number} of {cases} cases")
    return found


def drawn(heads: Sequence[Path], cases: int) -> Iterator[tuple[Sample, str]]:
    """Samples with their stage, always the same for the same heads: half with a tumour, stages in turn."""
    loaded = [cache.load(path) for path in heads]
    sick = [c for c in loaded if c.layers]
    for number in range(cases):
        rng = np.random.default_rng([20_265, number])
        case = (sick if number % 2 == 0 else loaded)[number // 2 % len(sick if number % 2 == 0 else loaded)]
        layer = None
        if number % 2 == 0:
            wanted = number // 2 % 4
            layer = case.layers[min(wanted + number // 2 // len(sick), 99) % len(case.layers)]
        yield draw_sample(case, layer, rng), "none" if layer is None else layer.stage


def _judge(sample: Sample, stage: str, outputs: Sequence[NDArray[np.float32]]) -> Seen:
    tumour, anatomy, score = outputs
    seen = 1 / (1 + np.exp(-tumour[0, 0]))
    dice = []
    for threshold in THRESHOLDS:
        mask = seen >= threshold
        both = float((mask & (sample.tumour > 0)).sum())
        size = float(mask.sum() + sample.tumour.sum())
        dice.append(2 * both / size if sample.npc else float(mask.sum()) * _VOXEL_ML)
    truth = sample.anatomy
    assert truth is not None
    label = anatomy[0, :, :, ::2, ::2].argmax(0)
    known = truth != 255
    rows = (
        [((label == c) & (truth == c)).sum() for c in range(len(Structure))],
        [((label == c) & known).sum() for c in range(len(Structure))],
        [(truth == c).sum() for c in range(len(Structure))],
    )
    volume = float(sample.tumour.sum()) * _VOXEL_ML
    return Seen(sample.npc, stage, float(score[0, 0]), volume, tuple(dice), np.array(rows).T)


def settle(found: Sequence[Seen]) -> dict[str, Any]:
    """Temperature, operating point, thresholds and what was measured, from validation cases."""
    logits = np.array([s.logit for s in found])
    labels = np.array([int(s.npc) for s in found])
    fit = fit_temperature(logits, labels)
    temperature = max(fit.temperature, 0.5)  # cases told apart without error ask for none: stay modest
    probability = apply(logits, temperature)
    threshold = _operating_point(probability, labels)
    mean_dice = [float(np.mean([s.dice[i] for s in found if s.npc])) for i in range(len(THRESHOLDS))]
    best = [i for i, d in enumerate(mean_dice) if d >= max(mean_dice) - 0.003][-1]
    healthy_ml = [s.dice[best] for s in found if not s.npc]
    low, high = _grey_zone(probability, labels, threshold)
    anatomy = np.sum([s.anatomy for s in found], axis=0)
    per_class = 2 * anatomy[:, 0] / np.maximum(anatomy[:, 1] + anatomy[:, 2], 1)
    stages = sorted({s.stage for s in found if s.npc})
    return {
        "cases": len(found),
        "prevalence": float(labels.mean()),
        "temperature": temperature,
        "log_loss": fit.log_loss,
        "auc": auc(logits, labels),
        "threshold": threshold,
        "low": low,
        "high": high,
        "sensitivity": float((probability[labels == 1] >= threshold).mean()),
        "specificity": float((probability[labels == 0] < threshold).mean()),
        "tumour_threshold": THRESHOLDS[best],
        "dice": float(np.mean([s.dice[best] for s in found if s.npc])),
        "dice_by_stage": {
            t: float(np.mean([s.dice[best] for s in found if s.npc and s.stage == t])) for t in stages
        },
        "healthy_ml_p95": float(np.percentile(healthy_ml, 95)),
        "mask_min_ml": round(float(np.clip(np.percentile(healthy_ml, 95), *_LEAST_ML)), 2),
        "anatomy_dice": {s.name.lower(): float(per_class[s]) for s in Structure},
    }


def _grey_zone(
    probability: NDArray[np.float64], labels: NDArray[np.int64], threshold: float
) -> tuple[float, float]:
    """From where healthy cases end to where tumours begin: a score that validation hardly ever showed, as of
    a head unlike all phantoms, is no ground to conclude on."""
    healthy, tumours = probability[labels == 0], probability[labels == 1]
    low = min(threshold - _MARGIN, float(np.quantile(healthy, 1 - _RARE)))
    high = max(threshold + _MARGIN, float(np.quantile(tumours, _RARE)))
    return max(0.02, round(low, 3)), min(0.98, round(high, 3))


def _operating_point(probability: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The even probability, or the nearest to it where sensitivity + specificity is as good as at best."""
    candidates = np.linspace(0.2, 0.8, 61)
    youden = [
        float((probability[labels == 1] >= t).mean() - (probability[labels == 0] >= t).mean())
        for t in candidates
    ]
    best = candidates[np.array(youden) >= max(youden) - _LEEWAY]
    return float(best[np.abs(best - 0.5).argmin()])


def auc(scores: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """Area under the ROC curve; ties count half."""
    positive, negative = scores[labels == 1], scores[labels == 0]
    return float((positive[:, None] > negative).mean() + 0.5 * (positive[:, None] == negative).mean())


def aim(locator: Path, heads: Sequence[Path], cases: int, threads: int) -> dict[str, float]:
    """The locator's error in mm and its confidence, by the engine's own reading of the heatmap."""
    running = session(locator, threads)
    apart, sure = [], []
    for number in range(cases):
        rng = np.random.default_rng([20_266, number])
        image, point = draw_coarse(cache.load(heads[number % len(heads)]), rng)
        heat = running.run(["heatmap"], {"image": image[None]})[0]
        index, confidence = peak(heat[0, 0], (COARSE_MM,) * 3)
        apart.append(float(np.linalg.norm(index - point)) * COARSE_MM)
        sure.append(confidence)
    return {
        "cases": cases,
        "mm_median": float(np.median(apart)),
        "mm_p95": float(np.percentile(apart, 95)),
        "mm_p99": float(np.percentile(apart, 99)),
        "confidence_p01": float(np.percentile(sure, 1)),
        "confidence_median": float(np.median(sure)),
    }


def session(path: Path, threads: int) -> Any:
    """An ONNX Runtime session on the processor."""
    ort = load_onnxruntime()
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
