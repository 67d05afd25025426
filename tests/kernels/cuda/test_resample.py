"""Resampling on a device against the reference, on grids that lie to each other in every way that matters."""

from typing import Any

import numpy as np
import pytest
from grids import CASES, affine
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from npc_edge.kernels import reference
from npc_edge.kernels.cuda.arguments import OUTSIDE
from npc_edge.kernels.cuda.operations import Operations
from npc_edge.kernels.cuda.values import MARKED, Grids, Rule, Sampling
from npc_edge.kernels.reference_network import scaled
from npc_edge.kernels.sampling import index_map, inside

TARGET, SHAPE = affine((1.1, 1.2, 3.0), (-4, 0.5, -3)), (9, 17, 15)
FILL = -7.0
FILL_BITS = int(np.float32(FILL).view(np.uint32))

# float32 against float64: a voxel is a sum of at most some thousand products, each right to 6e-8 of the
# largest value, and positions are right to 2^-32 of a voxel. A B-spline's coefficients are up to 3 times
# larger than the voxels in each direction they ring in.
RELATIVE = {"linear": 1e-6, "bspline": 1e-5}
HALF = 2.0**-11  # of a value, when it is rounded to fp16


def run(
    operations: Operations, voxels: NDArray[np.float32], source: Any, sampling: Sampling, **kind: Any
) -> Any:
    dtype, target, shape = (
        kind.get(k, d) for k, d in (("dtype", np.float32), ("to", TARGET), ("shape", SHAPE))
    )
    out = operations.launcher.empty(shape, dtype)
    operations.resample(operations.upload(voxels), Grids(source, target, shape), sampling, out)
    return operations.launcher.copy_out(out)


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize("anti_alias", [True, False])
@pytest.mark.parametrize("name", CASES)
def test_it_agrees_with_the_reference(
    operations: Operations, name: str, anti_alias: bool, interpolation: Any
) -> None:
    source, shape = CASES[name]
    voxels = np.random.default_rng(3).normal(size=shape).astype(np.float32) * 100 + 50
    got = run(operations, voxels, source, Sampling(interpolation, anti_alias, FILL_BITS))
    wanted = reference.resample(
        voxels, source, TARGET, SHAPE, anti_alias=anti_alias, interpolation=interpolation, fill=FILL
    )
    np.testing.assert_array_equal(got == FILL, wanted == FILL)
    np.testing.assert_allclose(got, wanted, atol=RELATIVE[interpolation] * np.abs(voxels).max(), rtol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 6), st.integers(1, 9), st.integers(1, 9)),
    spacing=st.tuples(*[st.floats(0.4, 5.0)] * 3),
    turn=st.tuples(*[st.sampled_from([0.0, 0.3, np.pi / 2, -np.pi / 2, np.pi])] * 3),
    anti_alias=st.booleans(),
    interpolation=st.sampled_from(["linear", "bspline"]),
)
def test_it_agrees_on_any_grid(
    serial: Operations, seed: int, shape: Any, spacing: Any, turn: Any, anti_alias: bool, interpolation: Any
) -> None:
    rng = np.random.default_rng(seed)
    voxels = rng.normal(size=shape).astype(np.float32)
    source = affine(spacing, tuple(rng.uniform(-8, 8, 3)), turn)
    target = affine(tuple(rng.uniform(0.4, 4, 3)), tuple(rng.uniform(-8, 0, 3)))
    there = tuple(int(n) for n in rng.integers(1, 9, 3))
    got = run(serial, voxels, source, Sampling(interpolation, anti_alias), to=target, shape=there)
    wanted = reference.resample(
        voxels, source, target, there, anti_alias=anti_alias, interpolation=interpolation
    )
    allowed = RELATIVE[interpolation] * np.abs(voxels).max()
    np.testing.assert_allclose(got, wanted, atol=allowed, rtol=0)
    serial.launcher.check_guards()


@pytest.mark.parametrize("interpolation", ["linear", "bspline"])
@pytest.mark.parametrize("clip", ["percentile", "zscore"])
def test_half_precision_normalised_and_placed_in_one_pass(
    operations: Operations, interpolation: Any, clip: Any
) -> None:
    """The fused form: statistics that are there already, fp16 out, into the second of two channels."""
    source, shape = CASES["tilted"]
    voxels = np.random.default_rng(5).gamma(2, 60, size=shape).astype(np.float32)
    rule = Rule(clip, 2, 97, 0.2)
    plain = reference.resample(voxels, source, TARGET, SHAPE, interpolation=interpolation)
    covered = inside(index_map(source, TARGET), shape, SHAPE)
    values = np.where(covered, plain, np.uint32(OUTSIDE).view(np.float32)).astype(np.float32)
    found = operations.statistics(operations.upload(values), rule)
    both = operations.launcher.empty((2, *SHAPE), np.float16)
    operations.launcher.copy_in(both, np.full((2, *SHAPE), 9, dtype=np.float16))
    second = both.part(1, 2).shaped(*SHAPE)
    grids = Grids(source, TARGET, SHAPE)
    operations.resample(operations.upload(voxels), grids, Sampling(interpolation), second, (found, rule))
    first, got = operations.launcher.copy_out(both)
    assert (first == 9).all()
    known = operations.refuse(found)
    wanted = scaled(plain, float(known["low"]), float(known["high"]), covered, clip == "percentile")
    allowed = RELATIVE[interpolation] * voxels.max() / known["width"] + HALF * np.abs(wanted).max()
    np.testing.assert_allclose(got.astype(np.float64), wanted, atol=allowed, rtol=0)
    assert (got[~covered] == 0).all()


def test_marked_voxels_carry_the_mark_and_a_spoiled_source_does_not_pass_for_it(
    operations: Operations,
) -> None:
    voxels = np.ones((3, 4, 5), dtype=np.float32)
    voxels[1, 2, 3] = np.nan
    out = operations.launcher.empty((3, 4, 6), np.float32)
    operations.resample(operations.upload(voxels), Grids(affine(), affine(), (3, 4, 6)), MARKED, out)
    got = operations.launcher.copy_out(out)
    assert (got.view(np.uint32)[:, :, 5] == OUTSIDE).all()
    assert np.isnan(got[1, 2, 3])
    with pytest.raises(ValueError, match="not finite"):
        operations.refuse(operations.statistics(out, Rule()))


def test_slices_are_uploaded_as_they_come(operations: Operations) -> None:
    volume = np.random.default_rng(6).integers(0, 4000, size=(5, 6, 7)).astype(np.int16)
    there = operations.upload_slices(iter(volume), (5, 6, 7))
    np.testing.assert_array_equal(operations.launcher.copy_out(there), volume.astype(np.float32))
    with pytest.raises(ValueError, match="4 slices are wanted, more came"):
        operations.upload_slices(iter(volume), (4, 6, 7))
    with pytest.raises(ValueError, match="6 slices are wanted, 5 came"):
        operations.upload_slices(iter(volume), (6, 6, 7))


def test_what_does_not_fit_is_refused(operations: Operations) -> None:
    source = operations.upload(np.ones((2, 3, 4), dtype=np.float32))
    out = operations.launcher.empty((2, 3, 4), np.float32)
    far = affine(origin=(1e12, 0, 0))
    for grids, given_, to, why in (
        (Grids(affine(), affine(), (2, 3, 5)), source, out, "target is"),
        (Grids(affine(), far, (2, 3, 4)), source, out, "too far"),
        (Grids(affine(), np.zeros((4, 4)), (2, 3, 4)), source, out, "singular"),
        (Grids(affine(), affine(), (2, 3, 4)), source.shaped(6, 4), out, "3 axes"),
        (Grids(affine(), affine(), (2, 3, 4)), operations.upload(np.ones((2, 3, 4))), out, "float64"),
    ):
        with pytest.raises(ValueError, match=why):
            operations.resample(given_, grids, Sampling(), to)
