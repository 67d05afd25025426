"""The corridor: one call per station, no arithmetic, no file formats."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path

from npc_edge.engine.ahead import ReadAhead
from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import BackendError, BundleError, DeadlineExceeded, NpcEdgeError, Refusal
from npc_edge.engine.findings import category_sets, detect, quality, segment, stage
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.machine import peak_rss_mb
from npc_edge.engine.model import memory, nnunet
from npc_edge.engine.model.bundle import Bundle
from npc_edge.engine.model.locate import locate
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.prepare import grid, prepare
from npc_edge.engine.model.runner import Runner
from npc_edge.engine.model.sliding_window import infer
from npc_edge.engine.output.fingerprint import Ran, fingerprint
from npc_edge.engine.output.result import Outcome, RunFacts
from npc_edge.engine.study.align import align
from npc_edge.engine.study.assemble import assemble
from npc_edge.engine.study.nifti_input import read_nifti
from npc_edge.engine.study.read import Reader
from npc_edge.engine.study.select import judge, select
from npc_edge.engine.types import (
    Detection,
    Findings,
    Options,
    Predictions,
    QualityCheck,
    Region,
    Segmentation,
    Selection,
    Station,
    Study,
    Volume,
    Watch,
)
from npc_edge.engine.version import VERSION
from npc_edge.engine.voxels import HOST, Voxels, holding_all

Source = Path | Mapping[str, Path]
"""A DICOM study (folder, DICOMDIR or zip), or sequence name → NIfTI file."""


@dataclass(frozen=True)
class Kit:
    """What a session opened once and every run uses. voxels: the operations around each network, where its
    runner wants them; the processor's for one without. fallback: as in result.json. gpu_mb: memory of the GPU
    that runs something, None where none does. done: called when the networks have had their say."""

    bundle: Bundle
    reader: Reader
    runners: Mapping[str, Runner]
    options: Options
    key_for: Callable[[str], str]
    voxels: Mapping[str, Voxels] = field(default_factory=dict)
    fallback: str | None = None
    gpu_mb: float | None = None
    done: Callable[[], None] | None = None
    drawn: Callable[[Outcome], None] | None = None

    def around(self, network: str) -> Voxels:
        """The voxel operations around a network."""
        return self.voxels.get(network, HOST)

    def holding(self, volumes: Mapping[str, Volume]) -> AbstractContextManager[None]:
        """Around all that is done with a study's volumes: they go where voxel operations want them. On a GPU
        every runner is waited for: one that is still starting may capture what is queued on the stream they
        share."""
        if self.voxels or self.gpu_mb is not None:
            for runner in self.runners.values():
                runner.describe()
        return holding_all(self.voxels.values(), volumes.values())


@dataclass
class _Known:
    """What is known so far, so that a refusal can still be explained."""

    study: Study | None = None
    selection: Selection | None = None
    volumes: dict[str, Volume] = field(default_factory=dict)
    quality: list[QualityCheck] = field(default_factory=list)
    window: Geometry | None = None
    plans: list[memory.MemoryPlan] = field(default_factory=list)


@dataclass(frozen=True, eq=False)
class _Drawn:
    """What the networks came to, before anything is made of it. The predictions, the largest arrays of a run,
    are not among it."""

    detection: Detection | None
    segmentation: Segmentation


@dataclass(frozen=True)
class ReadIn:
    """A study read before its run began: what is known of it, what it took, and what stopped it."""

    known: _Known
    timings_ms: Mapping[Station, float]
    error: NpcEdgeError | None


Ahead = ReadAhead[Source, ReadIn]
_Alignment = Future[tuple[dict[str, Volume], tuple[QualityCheck, ...]]]
_READING: tuple[Station, ...] = ("read", "select", "assemble")


def run(
    source: Source, kit: Kit, clock: Clock, ahead: Ahead | None = None, then: Source | None = None
) -> Outcome:
    """Walk one study through every station up to, not including, output.

    ahead, then: take what was read ahead of this study, and once the reader is idle begin with the next one.
    A refusal and a passed deadline become an outcome with a reason code; faults and cancellation are raised.
    """
    known = _Known()
    findings: Findings | None = None
    reasons: tuple[tuple[str, str], ...] = ()
    try:
        try:
            _read_or_take(source, kit, clock, known, ahead)
        finally:
            if ahead is not None and then is not None:
                ahead.start(then)
        findings = _walk(kit, clock, known)
    except Refusal as refusal:
        reasons = ((refusal.code, refusal.one_line()),)
    except DeadlineExceeded as late:
        reasons = (("DEADLINE", late.one_line()),)
    return _outcome(kit, clock, known, findings, reasons)


def _outcome(
    kit: Kit,
    clock: Clock,
    known: _Known,
    findings: Findings | None,
    reasons: tuple[tuple[str, str], ...] = (),
) -> Outcome:
    return Outcome(
        outcome="no-result" if findings is None else "result",
        reasons=reasons,
        study=known.study,
        selection=known.selection,
        volumes=known.volumes,
        reference=kit.bundle.manifest.reference_sequence if findings is not None else None,
        findings=findings,
        manifest=kit.bundle.manifest,
        facts=_facts(kit, clock, known),
        key_for=kit.key_for,
        demo_dicom=kit.options.allow_demo_dicom,
        gates=tuple(known.quality),
        window=known.window,
    )


def read_ahead(source: Source, kit: Kit, watch: Watch) -> ReadIn:
    """Read a study before its run, with the same stations; what stops it belongs to that run."""
    known, clock, error = _Known(), Clock(watch), None
    try:
        _read(source, kit, clock, known)
    except NpcEdgeError as stopped:
        error = stopped
    taken = clock.timings()
    return ReadIn(known, {name: taken[name] for name in _READING if taken[name]}, error)


def _read_or_take(source: Source, kit: Kit, clock: Clock, known: _Known, ahead: Ahead | None) -> None:
    """Fill in study, selection and volumes: read now, or before this run began."""
    done = None if ahead is None else ahead.take(source, clock.watch)
    if done is None:
        _read(source, kit, clock, known)
        return
    vars(known).update(vars(done.known))
    for name, ms in done.timings_ms.items():
        clock.credit(name, ms)
    if done.error is not None:
        raise done.error


def _walk(kit: Kit, clock: Clock, known: _Known) -> Findings:
    # From here on voxels are on their way to a device; a sequence that is moved keeps its voxels.
    with kit.holding(known.volumes):
        drawn = _draw_while_aligning(kit, clock, known)
        if kit.done is not None:
            kit.done()
        return _conclude(drawn, kit, clock, known)


def _draw_while_aligning(kit: Kit, clock: Clock, known: _Known) -> _Drawn:
    """Networks and masks, while alignment is measured on one core of its own: most sequences lie right.

    Where one had to be moved, what came of it is forgotten and done again. What alignment refuses is told
    before anything the networks may have stumbled over.
    """
    read, until_then = known.volumes, tuple(known.quality)
    drawn, stopped, alignment = None, None, None
    try:
        with ThreadPoolExecutor(1, "npc-edge-align") as pool:
            with clock.station("align"):
                alignment = pool.submit(align, read, kit.bundle.manifest.reference_sequence)
            try:
                drawn = _draw(_predict_then_rest(alignment, kit, clock, known), kit, clock, known)
            except (Refusal, BundleError, BackendError) as error:
                stopped = error
            said, known.quality = known.quality[len(until_then) :], [*until_then]
            with clock.more_of("align"):
                known.volumes, checks = alignment.result()
        known.quality += checks
        if _moved(read, known.volumes):
            drawn = stopped = None
            known.plans.clear()
            return _draw(_predict(kit, clock, known), kit, clock, known)
        known.quality += said
        if stopped is not None:
            raise stopped
    finally:
        # An error whose traceback holds this frame, held by this frame, would keep a refused study's arrays.
        stopped = alignment = None
    assert drawn is not None, "networks answer or stop"
    return drawn


def _predict_then_rest(alignment: _Alignment, kit: Kit, clock: Clock, known: _Known) -> Predictions:
    """What the networks say. Where it is known by then that nothing was moved, no one will ask them again:
    they give back what they hold before the masks want room."""
    predictions = _predict(kit, clock, known)
    settled = alignment.done() and alignment.exception() is None
    if kit.done is not None and settled and not _moved(known.volumes, alignment.result()[0]):
        kit.done()
    return predictions


def _moved(read: Mapping[str, Volume], aligned: Mapping[str, Volume]) -> bool:
    return any(aligned[name] is not volume for name, volume in read.items())


def answer(volumes: Mapping[str, Volume], kit: Kit, clock: Clock) -> tuple[Predictions, Findings]:
    """The stations from aligned volumes on: what the networks said, and what follows from it."""
    known = _Known(volumes=dict(volumes))
    with kit.holding(volumes):
        predictions = _predict(kit, clock, known)
        return predictions, _conclude(_draw(predictions, kit, clock, known), kit, clock, known)


def _draw(predictions: Predictions, kit: Kit, clock: Clock, known: _Known) -> _Drawn:
    """Masks and detection. Whoever may begin with the masks is told; they can still be forgotten."""
    manifest = kit.bundle.manifest
    known.window = predictions.geometry
    with clock.station("findings"):
        reference = known.volumes[manifest.reference_sequence]
        voxels = kit.around(_decider(kit))
        segmentation = segment.segment(predictions, reference, manifest, clock.watch, voxels)
        artefact, given = _runner(kit).describe().artefact, kit.options.prevalence
        score = detect.raw_score(predictions, manifest)
        detection = detect.detect(score, segmentation, manifest, artefact, given)
        if detection is not None and detection.finding == "not_suspicious":
            segmentation = segment.cleared(segmentation)
        if kit.drawn is not None:
            kit.drawn(_outcome(kit, clock, known, Findings(detection, segmentation, None, ())))
    return _Drawn(detection, segmentation)


def _conclude(drawn: _Drawn, kit: Kit, clock: Clock, known: _Known) -> Findings:
    """What follows from the masks where the sequences lie now."""
    manifest = kit.bundle.manifest
    with clock.more_of("findings"):
        staging = stage.stage(drawn.segmentation, known.volumes, manifest, drawn.detection, kit.options)
        staging = category_sets.with_sets(staging, manifest, _runner(kit).describe().artefact)
    return Findings(drawn.detection, drawn.segmentation, staging, tuple(known.quality))


def _read(source: Source, kit: Kit, clock: Clock, known: _Known) -> None:
    """Fill in study, selection and volumes."""
    manifest, reader = kit.bundle.manifest, kit.reader
    known.quality.append(quality.check_context(kit.options.context, manifest))
    if not isinstance(source, Path):
        with clock.station("read"):
            known.volumes = read_nifti(source)
        return
    with clock.station("read"):
        known.study = study = reader.read(source, clock.watch)
        known.quality.append(quality.check_age(study.patient_age_years, manifest))
    with clock.station("select"):
        known.selection = Selection({}, judge(study))
        known.selection = selection = select(study, manifest.sequences, manifest.reference_sequence)
    with clock.station("assemble"):
        for name, index in selection.chosen.items():
            fat_suppression = selection.verdicts[index].fat_suppression
            known.volumes[name] = assemble(study.series[index], index, reader, fat_suppression, clock.watch)


def _predict(kit: Kit, clock: Clock, known: _Known) -> Predictions:
    """Run the bundle's networks in their order; the last one without a heatmap decides."""
    manifest, watch = kit.bundle.manifest, clock.watch
    if manifest.networks[0].nnunet is not None:
        return _predict_nnunet(kit, clock, known)
    regions: dict[str, Region] = {}
    predictions: Predictions | None = None
    for network in manifest.networks:
        runner, voxels = kit.runners[network.name], kit.around(network.name)
        if network.locates:
            with clock.station("locate"):
                reference = known.volumes[manifest.reference_sequence].geometry
                _plan(kit, network, known, grid(reference, network, None).shape)
                region = locate(known.volumes, network, runner, watch, manifest.reference_sequence, voxels)
                regions[f"{network.name}.{network.outputs[0].name}"] = region
                known.quality.append(quality.check_locator(region, manifest))
                known.quality.append(quality.check_field_of_view(known.volumes, region, manifest))
                known.quality.append(quality.check_domain(known.volumes, region, manifest))
            continue
        with clock.station("prepare"):
            where = regions.get(network.region.removeprefix("around:"))
            centre = None if where is None else where.centre
            prepared = prepare(known.volumes, network, centre, manifest.reference_sequence, voxels)
        with clock.station("infer"):
            plan = _plan(kit, network, known, prepared.geometry.shape)
            predictions = infer(runner, prepared, network, watch, at_once=plan.at_once, voxels=voxels)
    assert predictions is not None, "the manifest is checked to hold a network that decides"
    return predictions


def _predict_nnunet(kit: Kit, clock: Clock, known: _Known) -> Predictions:
    """Run an ensemble of nnU-Net's folds over one input."""
    manifest = kit.bundle.manifest
    known.quality.append(quality.check_one_grid(known.volumes, manifest.reference_sequence))
    with clock.station("prepare"):
        prepared = nnunet.prepare(known.volumes, manifest.networks[0], manifest.reference_sequence)
    with clock.station("infer"):
        _plan(kit, manifest.networks[0], known, prepared.channels.shape)  # folds run one after the other
        folds = [kit.runners[network.name] for network in manifest.networks]
        return nnunet.infer(folds, prepared, manifest.networks[0], clock.watch)


def _plan(kit: Kit, network: NetworkSpec, known: _Known, shape: tuple[int, int, int]) -> memory.MemoryPlan:
    """How a network's windows go through memory; a refusal when they do not."""
    runner = kit.runners[network.name]
    info, voxels = runner.describe(), kit.around(network.name)
    free = memory.room(None if info.device == "cpu" else kit.gpu_mb)
    if voxels is not HOST:
        free = memory.room(voxels.free_mb(), on_device=True)
    made = memory.plan(network, kit.bundle.manifest, shape, info, free, runner.at_once)
    known.plans.append(made)
    return made


def _decider(kit: Kit) -> str:
    """The network that has the last word."""
    return [network.name for network in kit.bundle.manifest.networks if not network.locates][-1]


def _runner(kit: Kit) -> Runner:
    return kit.runners[_decider(kit)]


def _together(plans: Sequence[memory.MemoryPlan]) -> Mapping[str, int]:
    """Network → windows given at once, where more than one: on a GPU sums then round otherwise."""
    return {plan.network: plan.at_once for plan in plans if plan.at_once > 1}


def _facts(kit: Kit, clock: Clock, known: _Known) -> RunFacts:
    bundle, runner = kit.bundle, _runner(kit).describe()
    timings = clock.timings()
    voxels = ", ".join(sorted({kit.around(network.name).describe() for network in bundle.manifest.networks}))
    return RunFacts(
        version=VERSION,
        bundle_name=bundle.name,
        bundle_sha256=bundle.manifest_sha256,
        evidence=bundle.manifest.evidence,
        fingerprint=fingerprint(
            known.study,
            known.volumes,
            kit.options,
            bundle.manifest_sha256,
            Ran(tuple(one.describe() for one in kit.runners.values()), voxels, _together(known.plans)),
        ),
        runner=runner,
        fallback=kit.fallback,
        timings_ms=timings,
        peak_rss_mb=peak_rss_mb(),
        correlation=kit.options.correlation,
        memory_plan={plan.network: plan.sentence() for plan in known.plans},
        voxels=voxels,
    )
