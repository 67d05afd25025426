"""`npc-edge run`: the main job. One or several studies in, files and an exit code out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from npc_edge.engine.cli import options
from npc_edge.engine.cli.terminal import complain, note

if TYPE_CHECKING:
    from npc_edge.engine.session import RunResult, Session

_SEVERITY = (0, 3, 7, 6, 5, 4, 2, 1)
"""Exit codes from harmless to worst: with several studies the worst is returned."""


@dataclass(frozen=True)
class _Job:
    """One study and where its files go."""

    study: Path | dict[str, Path]
    out: Path


def run(
    study: options.Studies = None,
    image: options.Images = None,
    out: options.Out = None,
    bundle: options.Bundle = None,
    backend: options.Backend = "auto",
    device: options.Device = "auto",
    precision: options.Precision = "auto",
    context: options.Context = "unknown",
    cranial_nerves: options.CranialNerves = None,
    prevalence: options.Prevalence = None,
    deadline: options.Deadline = None,
    correlation: options.Correlation = None,
    replace: options.Replace = False,
    allow_unsigned: options.AllowUnsigned = False,
    allow_demo_dicom: options.AllowDemoDicom = False,
    no_record: options.NoRecord = False,
    state: options.State = None,
    as_json: options.AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """Is NPC there, where, which T category and why. Research use only."""
    from npc_edge.engine.errors import UsageError
    from npc_edge.engine.machine import keep_memory
    from npc_edge.engine.session import Session
    from npc_edge.engine.types import Options

    if deadline is not None and not deadline > 0:
        raise UsageError("--deadline must be a positive number of seconds")
    jobs = _jobs(study or [], image or [], out)
    chosen = Options(
        backend=backend,
        device=device,
        precision=precision,
        context=context,
        cranial_nerves=cranial_nerves or "not supplied",
        prevalence=prevalence,
        allow_unsigned=allow_unsigned,
        allow_demo_dicom=allow_demo_dicom,
        replace=replace,
        state=state,
        correlation=correlation,
        record=not no_record,
    )
    silent = quiet or as_json
    if len(jobs) > 1:
        keep_memory()
    with Session(bundle, chosen, _teller(silent)) as session:
        codes = _run_all(session, jobs, deadline, as_json, silent)
        _finish_builds(session, silent)
    return max(codes, key=_SEVERITY.index)


def _run_all(
    session: Session, jobs: list[_Job], deadline: float | None, as_json: bool, silent: bool
) -> list[int]:
    """Every study's exit code; one failure never stops the rest."""
    from npc_edge.engine.errors import NpcEdgeError

    for warning in session.notes:
        note(f"npc-edge: {warning}")
    codes = []
    for job, following in zip(jobs, [*jobs[1:], None], strict=True):
        try:
            codes.append(_run_one(session, job, following, deadline, as_json, silent))
        except NpcEdgeError as error:
            if len(jobs) == 1:
                raise
            codes.append(complain(f"{_name(job)}: {error.one_line()}", error.exit_code))
    if not silent and 0 in codes:
        for one in session.choices:
            if one.fresh:
                print(f"  {one.sentence()}")
    return codes


def _teller(silent: bool) -> Callable[[str], None]:
    """Says what takes long before the first study begins, to a person who watches."""
    import sys

    return note if sys.stderr.isatty() and not silent else lambda _: None


def _finish_builds(session: Session, silent: bool) -> None:
    """The studies are done; engines that are still being built for this GPU are for the next time."""
    last = -1

    def show(what: str, fraction: float) -> None:
        nonlocal last
        if not silent and int(10 * fraction) > last:
            last = int(10 * fraction)
            note(f"building the {what}, for the next run: {fraction:.0%}")

    for built in session.finish_builds(show):
        if not silent:
            note(f"{built.pair} engine of network {built.network}: {built.status} ({built.why})")


def _jobs(studies: list[Path], images: list[str], out: Path | None) -> list[_Job]:
    """What to run and where each goes; UsageError for anything that cannot be meant."""
    from npc_edge.engine.errors import UsageError

    if images:
        if studies:
            raise UsageError("give either STUDY or --image, not both")
        pairs = [text.partition("=") for text in images]
        if any(not name or not file for name, _, file in pairs):
            raise UsageError("--image wants NAME=FILE, for example --image t1=T1.nii.gz")
        named = {name: Path(file) for name, _, file in pairs}
        for file in named.values():
            if not file.is_file():
                raise UsageError(f"there is no file {file}")
        first = next(iter(named.values()))
        stem = first.name.removesuffix(".gz").removesuffix(".nii")
        return [_Job(named, out or first.with_name(f"{stem}-npc-edge"))]
    if not studies:
        raise UsageError("nothing to run", "name a STUDY folder, DICOMDIR or zip, or give --image NAME=FILE")
    for study in studies:
        if not study.exists():
            raise UsageError(f"there is no {study}", "name a folder, a DICOMDIR or a zip")
    if len(studies) == 1:
        return [_Job(studies[0], out or _beside(studies[0]))]
    names = [_stem(study) for study in studies]
    if out is not None and len(set(names)) < len(names):
        raise UsageError("two studies have the same name", "run them one by one, each with its own --out")
    return [_Job(s, out / name if out else _beside(s)) for s, name in zip(studies, names, strict=True)]


def _stem(study: Path) -> str:
    resolved = study.resolve()
    return resolved.stem if resolved.is_file() and resolved.suffix.lower() == ".zip" else resolved.name


def _beside(study: Path) -> Path:
    return study.resolve().parent / f"{_stem(study)}-npc-edge"


def _name(job: _Job) -> str:
    return job.study.name if isinstance(job.study, Path) else job.out.name


def _run_one(
    session: Session, job: _Job, following: _Job | None, deadline: float | None, as_json: bool, quiet: bool
) -> int:
    """Run one study, the next one read meanwhile; say what came of it, and return its exit code."""
    import sys

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:9}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=quiet or not sys.stderr.isatty()) as bar:
        task = bar.add_task("read", total=1.0)
        result = session.run(
            job.study,
            job.out,
            deadline,
            on_progress=lambda step: bar.update(task, description=step.station, completed=step.fraction),
            then="nothing" if following is None else following.study,
        )
    if result.recorded is not None and result.recorded.failure:
        complain(f"{_name(job)}: the run is not in the monitor: {result.recorded.failure}", 0)
    if as_json:
        print(result.document.to_json(one_line=True))
    elif not quiet and result.outcome == "result":
        print(_summary(result, job))
    if result.outcome == "result":
        return 0
    reasons = "; ".join(f"{reason.code}: {reason.message}" for reason in result.document.reasons)
    late = any(reason.code == "DEADLINE" for reason in result.document.reasons)
    return complain(f"{_name(job)}: no result ({reasons}); see {job.out / 'report.html'}", 7 if late else 3)


def _summary(result: RunResult, job: _Job) -> str:
    """A few lines for a person."""
    from npc_edge.engine.output.wording import HEADLINES, interval_words, prevalence_words, set_words

    found = result.document
    lines = [f"{_name(job)}: research use only, evidence of this bundle: {found.runtime.evidence}"]
    if found.detection is not None:
        number = "model score" if found.runtime.evidence == "synthetic" else "probability"
        lines.append(f"  {HEADLINES[found.detection.finding]} ({number} {found.detection.probability:.2f})")
        lines.append(f"    {interval_words(found.detection)}")
        if moved := prevalence_words(found.detection):
            lines.append(f"    {moved}")
    if found.tumour is not None and found.tumour.volume_ml > 0:
        lines.append(f"  tumour volume {found.tumour.volume_ml:.1f} ml")
    if found.staging is not None:
        for name, edition in (("AJCC 8", found.staging.ajcc8), ("AJCC version 9", found.staging.ajcc9)):
            if edition is not None:
                lines.append(
                    f"  T category, {name}: {'≥ ' if edition.bound == 'at_least' else ''}{edition.t}"
                )
                lines.append(f"    {set_words(edition)}")
        for item in found.staging.evidence:
            where = f"Se {item.series_number} / Im {item.instance_number}"
            lines.append(
                f"    {item.status}: {item.structure} {item.side}, {item.depth_mm:.1f} mm deep ({where})"
            )
    lines.append(f"  {found.runtime.timings_ms['total'] / 1e3:.1f} s; report: {job.out / 'report.html'}")
    return "\n".join(lines)
