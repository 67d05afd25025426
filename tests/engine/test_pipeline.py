"""The corridor: the networks run while alignment is measured, and answer as if they had waited for it."""

from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom
from npc_edge.engine import Options, Session, pipeline
from npc_edge.engine.clock import Clock
from npc_edge.engine.errors import BackendError, BundleError, Refusal
from npc_edge.engine.model.runner import Arrays, FakeRunner
from npc_edge.engine.output.outcome import Outcome
from npc_edge.engine.study.align import align
from npc_edge.engine.types import Volume, Watch
from npc_edge.export.pack import pack

_SPEC = PhantomSpec(stage="T2", seed=41, vendor="siemens", matrix=160, slices=24)


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    """A tiny bundle of locator and network, and all that a session opens for it."""
    where = tmp_path_factory.mktemp("pipeline")
    root = tiny_bundle.write_parts(where / "bundle")
    pack(root, tiny_bundle.manifest(), None)
    with Session(root, Options(allow_unsigned=True, state=where / "state", threads=1)) as session:
        yield session._opened()


def write(folder: Path, defect: str | None) -> Path:
    return write_phantom(replace(_SPEC, defect=defect), folder) / "study"


def alone(study: Path, kit: pipeline.Kit) -> dict[str, Volume]:
    """The study's volumes, nothing aligned."""
    return pipeline.read_ahead(study, kit, Watch()).known.volumes


@pytest.mark.parametrize("defect", [None, "moved-between-series"])
def test_the_answer_is_that_of_aligned_volumes(defect: str | None, kit: pipeline.Kit, tmp_path: Path) -> None:
    study = write(tmp_path / "phantom", defect)
    told: list[Outcome] = []
    found = pipeline.run(study, replace(kit, drawn=told.append), Clock(Watch()))
    aligned, checks = align(alone(study, kit), "t1")
    _, expected = pipeline.answer(aligned, kit, Clock(Watch()))
    assert found.findings is not None
    moved = any("registered" in check.detail for check in checks)
    assert moved == (defect is not None), "the phantom's defect is what moves a volume"
    assert np.array_equal(found.volumes["t2"].geometry.affine, aligned["t2"].geometry.affine)
    masks, wanted = found.findings.segmentation, expected.segmentation
    assert np.array_equal(masks.tumour_probability, wanted.tumour_probability)
    assert np.array_equal(masks.structures, wanted.structures)
    assert found.findings.detection == expected.detection
    assert len(told) == (1 if defect is None else 2), "masks that were forgotten, then the right ones"
    assert told[-1].segmentation is masks
    assert told[-1].facts.fingerprint == found.facts.fingerprint
    names = [check.check for check in found.findings.quality]
    assert names.count("alignment") == 1, "once, before what the networks' stations checked"
    assert names.index("alignment") < names.index("field_of_view")
    assert len(names) == len(set(names)), "and those of a first attempt are forgotten"
    assert len(found.facts.memory_plan) == len(kit.bundle.manifest.networks)


class _Broken(FakeRunner):
    def __init__(self) -> None:
        def fail(inputs: object) -> Arrays:
            raise BackendError("the network stopped")

        super().__init__(fail)


def test_what_alignment_refuses_is_told_before_what_a_network_stumbled_over(
    kit: pipeline.Kit, tmp_path: Path
) -> None:
    broken = replace(kit, runners={name: _Broken() for name in kit.runners})
    far = pipeline.run(write(tmp_path / "far", "moved-far"), broken, Clock(Watch()))
    assert [code for code, _ in far.reasons] == ["GEOMETRY_MISMATCH"]
    with pytest.raises(BackendError, match="the network stopped"):
        pipeline.run(write(tmp_path / "right", None), broken, Clock(Watch()))


def test_a_bundle_fault_ends_the_run_when_nothing_moved(kit: pipeline.Kit, tmp_path: Path) -> None:
    silent = replace(kit, runners={name: FakeRunner(lambda inputs: {}) for name in kit.runners})
    with pytest.raises(BundleError, match="gave no output"):
        pipeline.run(write(tmp_path / "right", None), silent, Clock(Watch()))


@pytest.mark.parametrize("known", ["nothing moved", "one moved", "refused", "not yet"])
def test_networks_rest_before_masks_where_no_one_will_ask_again(
    known: str, kit: pipeline.Kit, tmp_path: Path
) -> None:
    volumes = alone(write(tmp_path / "right", None), kit)
    alignment: pipeline._Alignment = Future()
    if known == "nothing moved":
        alignment.set_result((dict(volumes), ()))
    elif known == "one moved":
        alignment.set_result(({**volumes, "t2": replace(volumes["t2"])}, ()))
    elif known == "refused":
        alignment.set_exception(Refusal("GEOMETRY_MISMATCH", "too far"))
    told: list[str] = []
    resting = replace(kit, done=partial(told.append, "rest"))
    pipeline._predict_then_rest(alignment, resting, Clock(Watch()), pipeline._Known(volumes=dict(volumes)))
    assert told == (["rest"] if known == "nothing moved" else [])
