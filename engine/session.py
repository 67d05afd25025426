"""A session opens the bundle, its runners and the reading child once and keeps them warm."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Literal

import numpy as np

from npc_edge.engine import pipeline
from npc_edge.engine.ahead import ReadAhead
from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import UsageError
from npc_edge.engine.machine import available_cores, available_memory_mb
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import Trial
from npc_edge.engine.model.building import Builds, Built, OnBuild
from npc_edge.engine.model.choice import Choice, decide
from npc_edge.engine.model.runner import IMAGE, infer_on_device
from npc_edge.engine.model.runners import instruction_set, open_pair
from npc_edge.engine.model.runners.devices import Gpu, gpu_for
from npc_edge.engine.model.runners.pairs import Pair
from npc_edge.engine.model.starting import Starting
from npc_edge.engine.output.publish import write
from npc_edge.engine.output.ready import while_it_runs
from npc_edge.engine.output.result import ResultDocument, document
from npc_edge.engine.output.scribe import Drafts, Scribe
from npc_edge.engine.placing import place, wanted_device
from npc_edge.engine.recorder import Recorded, Recorder
from npc_edge.engine.remembered import Remembered
from npc_edge.engine.state import State
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Array, Findings, OnProgress, Options, Watch
from npc_edge.kernels.launch import DeviceArray, Launcher, from_interface


@dataclass(frozen=True, eq=False)
class RunResult:
    """What a run came to. outcome "no-result" is a refusal: a value, with its reasons in `document`.

    document: result.json as a value. findings: masks on the reference sequence's source grid, None on a
    refusal. files: what was published, empty when no output folder was asked for. recorded: what became of
    the monitor's record of this run, None when none was wanted; its failure never is the run's.
    """

    outcome: Literal["result", "no-result"]
    document: ResultDocument
    findings: Findings | None
    files: tuple[Path, ...]
    recorded: Recorded | None = None


_ROOM_TO_READ_AHEAD_MB = 1500.0
"""Below this a study is read when its run begins, and not before: two lie in memory otherwise."""


class Session:
    """Open once, run many studies. Use as a context manager; not to be shared between threads.

    bundle: a bundle directory, or None for the embedded demo bundle. say: told in a line what takes long
    while it opens. launcher: of a program that has a GPU context and stream of its own (`kernels.cuda`), to
    work in them; runners then start in the calling thread, and every run must come from it. None: one of the
    session's own where a network runs on a GPU. Raises BundleError, BackendError, OutputError (state
    directory) when opened, UsageError for a prevalence that cannot be meant, or two devices.

    choices: what runs each network, once it is open. notes: a line each for what was odd on the way.
    """

    def __init__(
        self,
        bundle: Path | None = None,
        options: Options | None = None,
        say: Callable[[str], None] | None = None,
        launcher: Launcher | None = None,
    ) -> None:
        self._launcher = launcher
        self._path = bundle
        self._say = (lambda _: None) if say is None else say
        self.choices: tuple[Choice, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.options = Options() if options is None else options
        self._open = ExitStack()
        self._kit: pipeline.Kit | None = None
        self._recorder: Recorder | None = None
        self._ahead: pipeline.Ahead | None = None
        self._builds: Builds | None = None
        self._starting: Starting | None = None
        self._scribe = Scribe()

    def __enter__(self) -> Session:
        with ExitStack() as opening:
            state = State.open(self.options.state)
            bundle = bundles.load(self._path, state.keys(), self.options.allow_unsigned)
            _check_prevalence(self.options.prevalence, bundle)
            reader = opening.enter_context(Reader())  # first: its child starts while runners do
            self._scribe = opening.enter_context(Scribe())
            self._kit = self._equip(bundle, reader, state, opening)
            kit = self._kit
            self._ahead = opening.enter_context(ReadAhead(lambda s, w: pipeline.read_ahead(s, kit, w)))
            if self.options.record:
                self._recorder = Recorder(state.root)
                opening.callback(self._recorder.close)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kit = self._ahead = self._builds = self._starting = self._recorder = None
        self._open.close()

    @property
    def bundle(self) -> bundles.Bundle:
        """The bundle this session runs."""
        return self._opened().bundle

    def run(
        self,
        study: Path | Mapping[str, Path],
        out: Path | None = None,
        deadline_s: float | None = None,
        on_progress: OnProgress | None = None,
        cancel: Event | None = None,
        then: Path | Mapping[str, Path] | Literal["nothing"] | None = None,
    ) -> RunResult:
        """Run one study: a folder, DICOMDIR or zip, or sequence name → NIfTI file.

        out: the folder to publish to, None to write nothing. deadline_s: seconds from now; when they pass the
        outcome is a no-result with reason DEADLINE. cancel: set it from another thread to raise Cancelled.
        then: the study that will be run next, read meanwhile; it changes no result, and what is wrong with it
        is told by its own run. "nothing": no study follows, so what the networks hold is given back before
        files are written; another run would end in BackendError. None: not known.
        """
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        to_dicom = out is not None and isinstance(study, Path)
        told = while_it_runs(on_progress, self._scribe) if to_dicom else on_progress
        watch = Watch(deadline, cancel)
        clock, drafts = Clock(watch, told), Drafts(self._scribe, watch)
        free = available_memory_mb()
        tight = free is not None and free < _ROOM_TO_READ_AHEAD_MB
        next_one = None if tight or then == "nothing" else then
        kit = self._opened()
        if then == "nothing" and self._starting is not None:
            kit = replace(kit, done=self._starting.release)
        if to_dicom:
            kit = replace(kit, drawn=drafts.begin)
        outcome = pipeline.run(study, kit, clock, self._ahead, next_one)
        if out is None:
            final, files = document(outcome), tuple[Path, ...]()
        else:
            # A refusal is published even when its reason is that the deadline has passed.
            watched = clock if outcome.findings is not None else None
            published = write(outcome, out, self.options.replace, watched, drafts)
            final, files = published.document, published.files
        recorded = None if self._recorder is None else self._recorder.keep(outcome, final)
        return RunResult(outcome.outcome, final, outcome.findings, files, recorded)

    def infer(self, network: str, image: object) -> Mapping[str, Array]:
        """One network by itself. image: (N, C, Z, Y, X) float32, normalised, on the network's window.

        A NumPy array gives NumPy arrays. Anything with `__cuda_array_interface__`, on the device of the
        session's launcher and ready on its stream, gives arrays that have it too, on that stream and valid
        until the next call. UsageError for a network the bundle has not, or anything else.
        """
        kit = self._opened()
        if network not in kit.runners:
            raise UsageError(f"the bundle has no network {network}", f"it has {', '.join(kit.runners)}")
        if isinstance(image, np.ndarray):
            return dict(kit.runners[network].infer({IMAGE: image}))
        try:
            given = image if isinstance(image, DeviceArray) else from_interface(image)
        except (TypeError, ValueError) as error:
            raise UsageError(f"the image cannot be taken: {error}") from error
        return dict(infer_on_device(kit.runners[network], {IMAGE: given}))

    def finish_builds(self, on_build: OnBuild) -> tuple[Built, ...]:
        """Wait for the engines that are being built for this GPU, if any. Leaving the session stops them."""
        return () if self._builds is None else self._builds.finish(on_build)

    def _equip(
        self, bundle: bundles.Bundle, reader: Reader, state: State, opening: ExitStack
    ) -> pipeline.Kit:
        """Choose what runs each network, and let it start while the first study is read."""
        remembered = Remembered(state.root)
        options = wanted_device(self.options, self._launcher)
        gpu = gpu_for(options, state.root / "engines")
        names = [network.name for network in bundle.manifest.networks]
        self.choices = tuple(decide(bundle, n, options, remembered, self._say, gpu) for n in names)
        placed = place(bundle, self.choices, gpu, self._launcher)
        self.notes = (*remembered.notes, *placed.notes)
        building = gpu  # engines are built and tried on a stream of their own
        if gpu is not None:
            gpu = replace(gpu, launcher=placed.launcher)
        self._starting = starting = opening.enter_context(Starting(here=self._launcher is not None))
        threads = self.options.threads
        runners = {
            one.network: starting.start(partial(open_pair, bundle, one.network, one.pair, threads, gpu))
            for one in self.choices
        }
        if building is not None and any(one.build for one in self.choices):
            self._builds = opening.enter_context(Builds(remembered, _build))
            for one in self.choices:
                for pair in one.build:
                    self._builds.start(self._trial(bundle, one.network, building), pair)
        fallback = "; ".join(dict.fromkeys(one.fallback for one in self.choices if one.fallback)) or None
        used = gpu is not None and any(one.pair.on_gpu for one in self.choices)
        memory = gpu.memory_mb if used and gpu is not None else None
        return pipeline.Kit(
            bundle, reader, runners, self.options, state.key_for, placed.voxels, fallback, memory
        )

    def _trial(self, bundle: bundles.Bundle, network: str, gpu: Gpu) -> Trial:
        return Trial.of(bundle, network, self.options.threads or available_cores(), instruction_set(), gpu)

    def _opened(self) -> pipeline.Kit:
        if self._kit is None:
            raise UsageError("the session is not open", "use it as `with Session() as session:`")
        return self._kit


def _check_prevalence(prevalence: float | None, bundle: bundles.Bundle) -> None:
    if prevalence is None:
        return
    if not 0 < prevalence < 1:
        raise UsageError("a prevalence lies between 0 and 1", "say --prevalence 0.05 for 5 %")
    if bundle.manifest.detection is None:
        raise UsageError("this bundle gives no probability that a prevalence could move", "leave it out")


def _build(trial: Trial, pair: Pair, on_progress: Callable[[float], bool]) -> None:
    from npc_edge.engine.model.runners.site_engine import build_here

    if trial.gpu is not None:
        build_here(trial.bundle, trial.network.name, pair, trial.gpu, on_progress)
