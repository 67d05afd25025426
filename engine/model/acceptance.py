"""Golden cases: does this artefact, on this machine, still say what it said when the bundle was made?

golden/<network>.<case>.npz holds, without pickles: `input.<name>` (1, C, Z, Y, X) float16; for each output
`sample.<name>`, the raw values at every `step.<name>`-th voxel (z, y, x), all of them for a score; and for
each map `labels.<name>` (Z, Y, X) uint8: the winning channel, or of a single one whether it is positive.
All are what the fp32 artefact made of the input where the bundle was made.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from npc_edge.engine.errors import BackendError, BundleError
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.manifest import Artefact, NetworkSpec
from npc_edge.engine.model.metrics import mean_dice, relative_error
from npc_edge.engine.model.runner import IMAGE, Arrays, Runner
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.devices import Gpu, missing_on, vendor_engine
from npc_edge.engine.model.runners.pairs import (
    CPU_PAIRS,
    GPU_PAIRS,
    Pair,
    allowed_pairs,
    gpu_pairs,
    missing_here,
)
from npc_edge.engine.model.timing import Timed, timed_window
from npc_edge.engine.types import Options

_TIMES, _SLOW = 4, 3.0
"""How often a window is timed: whatever else the machine does only adds, so the shortest counts. No more once
one took this many times as long as the fastest pair so far."""

_SAMPLES = 40_000
"""Values kept of a map, about: enough to catch any change of arithmetic, small enough for a bundle."""


@dataclass(frozen=True)
class Tolerance:
    """relative_error: largest difference over the output's range. dice: lowest mean over labels."""

    relative_error: float
    dice: float


TOLERANCES: Mapping[str, Tolerance] = {  # by precision: of execution, or of the file where that is less
    # Another instruction set sums in another order: 1e-5 a network, measured; a wrong kernel is far above.
    "fp32": Tolerance(1e-3, 0.999),
    # 11 bits of mantissa through tens of layers.
    "fp16": Tolerance(2e-2, 0.99),
    # 8 bits of mantissa, sums in fp32: 0.007 of the range and a Dice of 0.997 measured on 20 layers; deeper
    # networks round more often. A wrong kernel or a lost layer is an order of magnitude above.
    "bf16": Tolerance(5e-2, 0.98),
    # 8 bits: a sound runtime stays near 0.07, one that mistakes signs or saturates was seen at 0.55.
    "int8-u8s8": Tolerance(2e-1, 0.9),
    "int8-s8s8": Tolerance(2e-1, 0.9),
}


@dataclass(frozen=True, eq=False)
class GoldenCase:
    """Inputs to feed and what to compare; arrays as in the module's docstring, inputs float32."""

    name: str
    inputs: Arrays
    samples: Mapping[str, NDArray[np.float32]]
    steps: Mapping[str, tuple[int, int, int]]
    labels: Mapping[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class CaseResult:
    """One case on one runner; true when it is within the tolerance."""

    case: str
    max_relative_error: float
    dice: float
    passed: bool

    def __bool__(self) -> bool:
        return self.passed


@dataclass(frozen=True)
class ArtefactResult:
    """All golden cases of one artefact on one backend in one execution precision.

    `skipped` and `untested` are not failures, nor are they passes. precision: of the file; execution: what it
    runs in. allowed: whether the bundle lets the pair run on this instruction set; what is not allowed is
    measured all the same, and never chosen. ms: the fastest of a few windows, None where they were not timed;
    cpu_ms: the least processor time of one, over all cores. busy: others kept cores from it meanwhile.
    """

    network: str
    file: str
    precision: str
    backend: str
    isa: str
    status: Literal["passed", "failed", "skipped", "untested"]
    why: str
    cases: tuple[CaseResult, ...] = ()
    execution: str = ""
    allowed: bool = False
    ms: float | None = None
    cpu_ms: float | None = None
    busy: bool = False

    def __bool__(self) -> bool:
        return self.status != "failed"

    @property
    def pair(self) -> str:
        """Backend and execution precision, as a person names the pair."""
        return f"{self.backend} {self.execution}"


def storable(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The nearest input a golden case holds without loss: multiples of 1/64, within float16.

    ValueError beyond ±8: such an input is not normalised.
    """
    if not np.isfinite(image).all() or np.abs(image).max() > 8:
        raise ValueError("a golden case wants a normalised input")
    return (np.round(image * 64) / 64).astype(np.float32)


def save_golden(path: Path, inputs: Arrays, outputs: Arrays) -> None:
    """Write golden/<network>.<case>.npz from what a trusted runner made of `storable` inputs."""
    arrays: dict[str, NDArray[np.generic]] = {}
    for name, image in inputs.items():
        arrays[f"input.{name}"] = image.astype(np.float16)
        if not np.array_equal(arrays[f"input.{name}"].astype(np.float32), image):
            raise ValueError(f"input {name} is not storable")
    for name, values in outputs.items():
        step = _step(values.shape)
        arrays[f"sample.{name}"] = _sample(values, step)
        arrays[f"step.{name}"] = np.array(step, dtype=np.int64)
        if values.ndim == 5:
            arrays[f"labels.{name}"] = winners(values)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load_golden(path: Path) -> GoldenCase:
    """Read a case; BundleError when the file is not one."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            held = {key: archive[key] for key in archive.files}
        parts: dict[str, dict[str, NDArray[np.generic]]] = {
            k: {} for k in ("input", "sample", "step", "labels")
        }
        for key, array in held.items():
            kind, _, name = key.partition(".")
            parts[kind][name] = array
        steps = {}
        for name, array in parts["step"].items():
            z, y, x = (int(n) for n in array.tolist())
            steps[name] = (max(z, 1), max(y, 1), max(x, 1))
        if not parts["input"] or not parts["sample"] or set(parts["sample"]) != set(steps):
            raise ValueError("nothing to feed or to compare")
    except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
        raise BundleError(f"{path.name} is not a golden case") from error
    return GoldenCase(
        path.stem.rpartition(".")[2],
        {name: array.astype(np.float32) for name, array in parts["input"].items()},
        {name: array.astype(np.float32) for name, array in parts["sample"].items()},
        steps,
        {name: array.astype(np.uint8) for name, array in parts["labels"].items()},
    )


def golden_cases(bundle: Bundle, network: str) -> Iterator[GoldenCase]:
    """The bundle's golden cases of one network, in the order of their names; hashes checked again."""
    for name in sorted(bundle.manifest.files):
        folder, _, file = name.rpartition("/")
        stem = file.removesuffix(".npz")
        if folder == "golden" and stem != file and stem.rpartition(".")[0] == network:
            yield load_golden(bundle.file(name))


def compare(case: GoldenCase, outputs: Arrays, tolerance: Tolerance) -> CaseResult:
    """What a runner made of a case against what is expected. A missing or misshapen output fails."""
    errors, scores = [0.0], [1.0]
    for name, expected in case.samples.items():
        values = outputs.get(name)
        right = values is not None and values.ndim in (2, 5)
        if values is None or not right:
            errors.append(math.inf)
            continue
        errors.append(relative_error(_sample(values, case.steps[name]), expected))
        if name in case.labels:
            labels = winners(values)
            fits = labels.shape == case.labels[name].shape
            scores.append(mean_dice(labels, case.labels[name]) if fits else 0.0)
    error, score = max(errors), min(scores)
    passed = error <= tolerance.relative_error and score >= tolerance.dice
    return CaseResult(case.name, error, score, passed)


def verify(
    bundle: Bundle, options: Options | None = None, gpu: Gpu | None = None
) -> tuple[ArtefactResult, ...]:
    """Run the golden cases of every ONNX artefact on every backend and in every precision this machine has.

    One result a pair, whether the bundle allows it or not; options.backend: leave the others out. gpu: one to
    run on too, where the bundle has no engine of its own for it (`engines.verify_engines`).
    """
    wanted = Options() if options is None else options
    results: list[ArtefactResult] = []
    held = CPU_PAIRS if gpu is None else (*CPU_PAIRS, *GPU_PAIRS)
    for network in bundle.manifest.networks:
        trial = Trial.of(bundle, network.name, wanted.threads, instruction_set(), gpu)
        for artefact in network.artefacts:
            if artefact.format == "engine":
                continue
            pairs = [p for p in held if p.artefact == artefact.precision and not _own_engine(trial, p)]
            if not pairs:
                results.append(_never_here(network, artefact))
            results += [trial.run(artefact, p) for p in pairs if wanted.backend in ("auto", p.family)]
    return tuple(results)


def _own_engine(trial: Trial, pair: Pair) -> bool:
    """True where the bundle's own engine would run a pair, not its ONNX file."""
    gpu = trial.gpu
    if gpu is None or not pair.on_gpu:
        return False
    return vendor_engine(trial.bundle, trial.network.name, pair, gpu.capability) is not None


def winners(values: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(1, K, Z, Y, X) → (Z, Y, X) uint8: the largest channel; for one channel 1 where it is positive."""
    if values.shape[1] == 1:
        return np.asarray(values[0, 0] > 0, dtype=np.uint8)
    return np.asarray(np.argmax(values[0], axis=0), dtype=np.uint8)


def _missing(pair: Pair, isa: str, gpu: Gpu | None) -> str:
    return missing_on(pair, gpu) if pair.on_gpu else missing_here(pair, isa)


@dataclass(frozen=True)
class Runtimes:
    """What runs a pair. missing: why (pair, instruction set, GPU) cannot run, "" where it can be tried. open:
    the runner of (bundle, network, pair, threads, GPU), to be entered."""

    missing: Callable[[Pair, str, Gpu | None], str] = _missing
    open: Callable[[Bundle, str, Pair, int, Gpu | None], Runner] = open_pair


INSTALLED = Runtimes()
"""Those of this machine."""


@dataclass(frozen=True)
class Trial:
    """One network's golden cases, for one pair after the other."""

    bundle: Bundle
    network: NetworkSpec
    cases: tuple[GoldenCase, ...]
    threads: int
    isa: str
    gpu: Gpu | None = None
    runtimes: Runtimes = INSTALLED

    @staticmethod
    def of(bundle: Bundle, network: str, threads: int, isa: str, gpu: Gpu | None = None) -> Trial:
        """With the bundle's cases of that network. threads 0: all cores."""
        cases = tuple(golden_cases(bundle, network))
        return Trial(bundle, bundle.network(network), cases, threads, isa, gpu)

    def measure(
        self, pair: Pair, best_ms: float | None = None, artefact: Artefact | None = None
    ) -> ArtefactResult:
        """The cases of an artefact, None: the one `auto` would take, and how long a window takes. best_ms: of
        the fastest pair so far; one that is much slower is timed once."""
        artefact = artefact or self.bundle.find(self.network.name, pair.artefact)
        assert artefact is not None, "only pairs whose artefact is held are measured"
        return self.run(artefact, pair, lambda runner, warm_up: self._time(runner, warm_up, best_ms))

    def run(
        self, artefact: Artefact, pair: Pair, timed: Callable[[Runner, Timed], Timed] | None = None
    ) -> ArtefactResult:
        """The cases of one artefact on one pair, in a runner of its own; then what `timed` makes of it, told
        how long a case took."""
        allowed = (
            gpu_pairs(self.bundle, self.network.name)
            if pair.on_gpu
            else allowed_pairs(self.bundle, self.network.name, self.isa)
        )
        untried = ArtefactResult(
            *(self.network.name, artefact.file, artefact.precision, pair.backend),
            *(self.isa if self.gpu is None or not pair.on_gpu else self.gpu.capability, "skipped"),
            self.runtimes.missing(pair, self.isa, self.gpu),
            execution=pair.precision,
            allowed=pair in allowed,
        )
        if untried.why:
            return untried
        tolerance = TOLERANCES[pair.precision if pair.artefact == "fp32" else pair.artefact]
        try:
            with self.runtimes.open(self.bundle, self.network.name, pair, self.threads, self.gpu) as runner:
                ran_in = runner.describe().precision
                results, spent = self._compare(runner, tolerance)
                sound = ran_in == pair.precision and all(results)
                best = timed(runner, spent) if timed is not None and sound else None
        except BackendError as error:
            return replace(untried, why=error.message)
        except BundleError as error:
            return replace(untried, status="failed", why=error.message)
        if ran_in != pair.precision:
            return replace(untried, why=f"{pair.backend} runs it in {ran_in}", cases=results)
        if not results:
            return replace(untried, status="untested", why="no golden case of this network", **_speed(best))
        failed = [result.case for result in results if not result]
        status: Literal["passed", "failed"] = "failed" if failed else "passed"
        why = f"out of tolerance: {', '.join(failed)}" if failed else f"{len(results)} golden cases"
        return replace(untried, status=status, why=why, cases=results, **_speed(best))

    def _compare(self, runner: Runner, tolerance: Tolerance) -> tuple[tuple[CaseResult, ...], Timed]:
        """Every case, and how long the quickest took."""
        results, taken = [], []
        for case in self.cases:
            outputs, spent = timed_window(runner, case.inputs)
            taken.append(spent)
            results.append(compare(case, outputs, tolerance))
        return tuple(results), min(taken, default=Timed(math.inf, math.inf, False))

    def _time(self, runner: Runner, warm_up: Timed, best_ms: float | None) -> Timed:
        """The least of a few windows. warm_up: of the golden cases before them."""
        inputs = self.cases[0].inputs if self.cases else {IMAGE: self._noise()}
        hopeless = math.inf if best_ms is None else _SLOW * best_ms
        taken = [warm_up] if self.cases else []
        while len(taken) <= _TIMES and (not taken or min(taken).ms <= hopeless):
            taken.append(timed_window(runner, inputs)[1])
        least = min(one.cpu_ms for one in taken)
        return Timed(min(taken).ms, least, any(one.busy for one in taken))

    def _noise(self) -> NDArray[np.float32]:
        shape = (1, len(self.network.inputs), *self.network.window)
        return np.random.default_rng(0).random(shape, dtype=np.float32)


def _speed(best: Timed | None) -> dict[str, Any]:
    return {} if best is None else {"ms": best.ms, "cpu_ms": best.cpu_ms, "busy": best.busy}


def _never_here(network: NetworkSpec, artefact: Artefact) -> ArtefactResult:
    """The result of an ONNX artefact that no CPU runs."""
    why = "signed activations are TensorRT's: no CPU runs them"
    facts = (network.name, artefact.file, artefact.precision)
    return ArtefactResult(*facts, "tensorrt", "", "skipped", why, execution=artefact.precision)


def _step(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Steps (z, y, x) that leave about _SAMPLES values of a map, coarser in plane than across."""
    if len(shape) != 5:
        return 1, 1, 1
    factor = max(1.0, math.prod(shape) / _SAMPLES)
    across = max(1, round(factor ** (1 / 5)))
    in_plane = max(1, math.ceil(math.sqrt(factor / across)))
    return across, in_plane, in_plane


def _sample(values: NDArray[np.float32], step: tuple[int, int, int]) -> NDArray[np.float32]:
    if values.ndim != 5:
        return values
    return values[:, :, :: step[0], :: step[1], :: step[2]]
