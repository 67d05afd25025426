"""Two sets of runners over the same cases: alike is alike, and what a candidate loses is measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import tiny_bundle
from numpy.typing import NDArray

from npc_edge.bench.phantom.protocol import PhantomSpec
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.engine.cohort import find_cases
from npc_edge.engine.model.bundle import Bundle, load
from npc_edge.engine.model.parity import judge
from npc_edge.engine.model.runner import Arrays, FakeRunner, Runner
from npc_edge.engine.model.runners import open_runner
from npc_edge.engine.trial import compare, opened
from npc_edge.engine.types import Options
from npc_edge.export.pack import pack

NAMES = ("locator", "npc")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    root = tiny_bundle.write_parts(tmp_path_factory.mktemp("trial") / "bundle")
    labels = [
        {"code": code, "name": name, "structure": name, "side": "midline", "colour": [9, 9, 9]}
        for code, name in ((1, "nasopharynx"), (2, "clivus"))
    ]
    staging = {"rules": "1", "thresholds": [0.5]}
    pack(root, tiny_bundle.manifest(labels=labels, staging=staging), None)
    return load(root, allow_unsigned=True)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cases")
    for stage in ("T2", "none"):
        write_phantom(PhantomSpec(stage, seed=5, vendor="ge", matrix=96, slices=16), root / stage)
    return root


@pytest.fixture(scope="module")
def runners(bundle: Bundle) -> Iterator[Mapping[str, Runner]]:
    with opened({name: open_runner(bundle, name, Options(threads=1)) for name in NAMES}) as entered:
        yield entered


def test_the_same_runners_lose_nothing(bundle: Bundle, cohort: Path, runners: Mapping[str, Runner]) -> None:
    trial = compare(bundle, runners, {"same": runners}, find_cases(cohort))
    cases = trial.cases["same"]
    assert [c.case for c in cases] == ["T2", "none"]
    assert trial.refused == ()
    assert all(max(c.relative_error.values()) == 0 and c.dice == 1 for c in cases)
    sick, healthy = cases
    assert sick.dice_reference == sick.dice_candidate is not None
    assert healthy.dice_reference is None
    assert sick.categories == {"ajcc8": "T2", "ajcc9": "T2"}
    assert healthy.categories == {}
    assert sick.distribution_reference == sick.distribution_candidate
    assert {sum(d.values()) for d in sick.distribution_reference.values()} == {1.0}
    assert set(sick.distribution_reference) == {"ajcc8", "ajcc9"}
    assert judge(cases)


def test_what_a_candidate_loses_is_measured(
    bundle: Bundle, cohort: Path, runners: Mapping[str, Runner]
) -> None:
    """A candidate whose tumour logit is too low by a quarter: smaller masks, and the error as planted."""

    def lower(inputs: Mapping[str, NDArray[np.float32]]) -> Arrays:
        outputs = runners["npc"].infer(dict(inputs))
        return {**outputs, "tumour": outputs["tumour"] - np.float32(0.25)}

    candidates = {"low": {"locator": runners["locator"], "npc": FakeRunner(lower)}, "same": runners}
    said: list[str] = []
    trial = compare(bundle, runners, candidates, find_cases(cohort), said.append)
    assert said == ["2 of 2 cases"]
    for case in trial.cases["low"]:
        assert case.relative_error["anatomy"] == 0
        assert case.relative_error["tumour"] == pytest.approx(0.5, abs=1e-5)  # of a range of ±0.5
        assert 0 < case.dice < 1
        assert case.hd95_mm > 0
    assert not judge(trial.cases["low"])
    assert judge(trial.cases["same"])


def test_a_case_the_engine_refuses_is_counted_not_hidden(
    bundle: Bundle, runners: Mapping[str, Runner], tmp_path: Path
) -> None:
    write_phantom(
        PhantomSpec("T1", 6, vendor="ge", matrix=96, slices=16, defect="missing-slice"), tmp_path / "a"
    )
    trial = compare(bundle, runners, {"same": runners}, find_cases(tmp_path))
    assert trial.cases == {"same": ()}
    assert len(trial.refused) == 1
    assert trial.refused[0].startswith("a: MISSING_SLICES")
