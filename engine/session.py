"""A session opens the bundle, its runners and the reading child once and keeps them warm."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from types import TracebackType
from typing import Literal

from npc_edge.engine import pipeline
from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import UsageError
from npc_edge.engine.model import bundle as bundles
from npc_edge.engine.model.acceptance import prove
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.output.publish import write
from npc_edge.engine.output.ready import while_it_runs
from npc_edge.engine.output.result import ResultDocument, document
from npc_edge.engine.recorder import Recorded, Recorder
from npc_edge.engine.state import State
from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Findings, OnProgress, Options, Watch


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


class Session:
    """Open once, run many studies. Use as a context manager; not to be shared between threads.

    bundle: a bundle directory, or None for the embedded demo bundle. Raises BundleError, BackendError,
    OutputError (state directory) when opened.
    """

    def __init__(self, bundle: Path | None = None, options: Options | None = None) -> None:
        self._path = bundle
        self.options = Options() if options is None else options
        self._open = ExitStack()
        self._kit: pipeline.Kit | None = None
        self._recorder: Recorder | None = None

    def __enter__(self) -> Session:
        with ExitStack() as opening:
            state = State.open(self.options.state)
            bundle = bundles.load(self._path, state.keys(), self.options.allow_unsigned)
            runners = {
                network.name: opening.enter_context(self._runner(bundle, network.name))
                for network in bundle.manifest.networks
            }
            reader = opening.enter_context(Reader())
            self._kit = pipeline.Kit(bundle, reader, runners, self.options, state.key_for)
            if self.options.record:
                self._recorder = Recorder(state.root)
                opening.callback(self._recorder.close)
            self._open = opening.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kit = self._recorder = None
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
    ) -> RunResult:
        """Run one study: a folder, DICOMDIR or zip, or sequence name → NIfTI file.

        out: the folder to publish to, None to write nothing. deadline_s: seconds from now; when they pass the
        outcome is a no-result with reason DEADLINE. cancel: set it from another thread to raise Cancelled.
        """
        deadline = None if deadline_s is None else time.monotonic() + deadline_s
        to_dicom = out is not None and isinstance(study, Path)
        clock = Clock(Watch(deadline, cancel), while_it_runs(on_progress) if to_dicom else on_progress)
        outcome = pipeline.run(study, self._opened(), clock)
        if out is None:
            final, files = document(outcome), tuple[Path, ...]()
        else:
            # A refusal is published even when its reason is that the deadline has passed.
            watched = clock if outcome.findings is not None else None
            published = write(outcome, out, self.options.replace, watched)
            final, files = published.document, published.files
        recorded = None if self._recorder is None else self._recorder.keep(outcome, final)
        return RunResult(outcome.outcome, final, outcome.findings, files, recorded)

    def _runner(self, bundle: bundles.Bundle, network: str) -> Runner:
        # int8 measured on another instruction set only must prove itself here, when it is asked for by name.
        proven = prove(bundle, network, self.options) if self.options.precision == "int8" else ()
        return open_runner(bundle, network, self.options, proven)

    def _opened(self) -> pipeline.Kit:
        if self._kit is None:
            raise UsageError("the session is not open", "use it as `with Session() as session:`")
        return self._kit
