"""The search gives back exactly the layers that fail the gate, in few judgements."""

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import ModelProto, numpy_helper
from onnx_nets import image, unet

from npc_edge.engine.errors import UsageError
from npc_edge.export import graph
from npc_edge.export.observe import observe
from npc_edge.export.passes import PASSES, rewrite
from npc_edge.export.qdq import activations, quantizable, quantize
from npc_edge.export.search import Found, Verdict, search

LAYERS = tuple(f"layer{index}" for index in range(30))


def decided(damage: Mapping[str, float], gate: float, harm: Mapping[str, float] | None = None) -> Found:
    """A task whose loss is the sum of what its int8 layers damage."""

    def build(keep: frozenset[str]) -> ModelProto:
        return ModelProto(doc_string=" ".join(sorted(keep)))

    def judge(model: ModelProto) -> Verdict:
        kept = model.doc_string.split()
        loss = math.fsum(value for name, value in damage.items() if name not in kept)
        return Verdict(loss <= gate, loss)

    return search(LAYERS, build, judge, harm)


def test_nothing_is_reverted_when_all_pass() -> None:
    found = decided(dict.fromkeys(LAYERS, 0.001), gate=0.1)
    assert (found.reverted, found.held, len(found.history)) == ((), True, 1)


def test_a_gate_that_float_fails_too_takes_two_judgements() -> None:
    found = decided({"elsewhere": 1.0}, gate=0.1)
    assert (found.reverted, found.held, len(found.history)) == (LAYERS, False, 2)


@settings(deadline=None, max_examples=60)
@given(st.sets(st.sampled_from(LAYERS), min_size=1, max_size=5), st.booleans())
def test_exactly_the_bad_layers_are_reverted(bad: set[str], ranked: bool) -> None:
    damage = {name: 1.0 + LAYERS.index(name) / 100 if name in bad else 0.001 for name in LAYERS}
    found = decided(damage, gate=0.5, harm=damage if ranked else None)
    assert set(found.reverted) == bad
    assert found.held
    assert len(found.history) <= 2 + (0 if ranked else 30) + 5 + len(bad)
    assert found.history[0].kept == ()
    assert any(set(j.kept) == bad and j.verdict.passed for j in found.history)


def test_a_wrong_ranking_costs_judgements_not_layers() -> None:
    damage = {name: float(name == "layer7") for name in LAYERS}
    found = decided(damage, gate=0.5, harm={name: float(i) for i, name in enumerate(LAYERS)})
    assert found.reverted == ("layer7",)
    assert 7 < len(found.history) <= 40


def test_a_loss_that_is_no_number_ranks_last() -> None:
    harm = {**dict.fromkeys(LAYERS, 0.1), "layer3": math.nan}
    damage = {name: float(name == "layer3") for name in LAYERS}
    assert len(decided(damage, gate=0.5, harm=harm).history) <= 2 + 5


def test_the_number_of_judgements_is_bounded() -> None:
    calls = 0

    def judge(model: ModelProto) -> Verdict:
        nonlocal calls
        calls += 1
        return Verdict(len(model.doc_string.split()) == len(LAYERS), 0.0)

    found = search(LAYERS, lambda keep: ModelProto(doc_string=" ".join(keep)), judge, most=12)
    assert calls == len(found.history) == 12
    assert (set(found.reverted), found.held) == (set(LAYERS), True)
    with pytest.raises(UsageError):
        search(("a", "a"), lambda keep: ModelProto(), judge)


def test_a_real_network_gets_its_planted_layer_back() -> None:
    """One weight a thousand times the rest leaves its channel two levels of int8."""
    model = rewrite(unet(), PASSES, image())[0]
    weight = next(tensor for tensor in model.graph.initializer if tensor.name == "c.w")
    values = numpy_helper.to_array(weight).copy()
    values[:, 0, 0, 0, 0] *= 1000
    values[:, :, 1, 1, 1] += 1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    cases = [image(seed=seed) for seed in range(3)]
    ranges = observe(model, activations(model), cases)
    case = image(seed=9)
    expected = graph.run(model, case)

    def judge(changed: ModelProto) -> Verdict:
        loss = graph.output_error(graph.run(changed, case), expected)
        return Verdict(loss < 0.05, loss)

    layers = quantizable(model)
    found = search(
        layers,
        lambda keep: quantize(model, ranges, "int8-u8s8", keep) if set(layers) - keep else model,
        judge,
    )
    assert found.held
    assert found.reverted == ("c",)
    assert found.history[0].verdict.loss > 0.05
    assert np.isfinite(found.history[0].verdict.loss)
