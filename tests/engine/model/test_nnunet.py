"""nnU-Net's way, station by station: against nnU-Net's own functions where it is installed."""

import dataclasses
from typing import Any

import numpy as np
import outside
import pytest
from numpy.typing import NDArray

from npc_edge.engine.errors import BundleError, DeadlineExceeded, Refusal
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model import nnunet
from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.engine.model.nnunet_channels import Channels, normalised
from npc_edge.engine.model.nnunet_scheme import NnunetChannel, NnunetResampling, NnunetScheme
from npc_edge.engine.model.runner import Arrays, FakeRunner
from npc_edge.engine.model.sliding_window import windows
from npc_edge.engine.types import Stored, Volume, Watch
from npc_edge.kernels import cpu

CUBIC = {"order": 3, "order_z": 0, "force_separate_z": None}
LINEAR = {"order": 1, "order_z": 0, "force_separate_z": None}

# Half precision: 10 bits, a few roundings while windows are summed; and where a window's weight is the
# smallest such number there is, in the corners of an image, logits are rounded to whole ones. nnU-Net's are.
HALF: dict[str, Any] = {"rtol": 4e-3, "atol": 0.5}


def spec(scheme: dict[str, Any] | None = None, **changes: Any) -> NetworkSpec:
    channels = [{"scheme": "NoNormalization"}] * len(changes.get("inputs", ("t1", "t2")))
    base = {
        "name": "fold_0",
        "region": "whole",
        "inputs": ("t1", "t2"),
        "spacing": (3.0, 1.0, 1.0),
        "window": (4, 8, 8),
        "nnunet": {"data": CUBIC, "logits": LINEAR, "channels": channels, **(scheme or {})},
        "outputs": [{"name": "segmentation", "kind": "segmentation"}],
        "artefacts": [{"precision": "fp32", "file": "n.onnx"}],
    }
    return NetworkSpec.model_validate({**base, **changes})


def volume(shape: tuple[int, int, int], stored: Stored | None = None, seed: int = 0) -> Volume:
    spacing = (1.0, 1.0, 3.0)
    voxels = np.random.default_rng(seed).uniform(1, 100, shape).astype(np.float32)
    return Volume(voxels, Geometry.from_parts(shape, spacing, (-5.0, 7.0, 9.0)), stored=stored)


NIFTI = Stored((3.0, 1.0, 1.0), turned=False)


def echo(inputs: Any) -> Arrays:
    """Labels: background 0, then what the channels hold."""
    image = inputs["image"]
    return {"segmentation": np.concatenate([np.zeros_like(image[:, :1]), image], axis=1)}


@pytest.mark.parametrize("window", [(4, 8, 8), (8, 32, 20), (5, 7, 1), (20, 64, 64)])
def test_windows_and_their_weights_are_nnunets(window: tuple[int, int, int]) -> None:
    outside.package("nnunetv2.inference.sliding_window_prediction")
    import torch
    from nnunetv2.inference.sliding_window_prediction import (
        compute_gaussian,
        compute_steps_for_sliding_window,
    )

    expected = compute_gaussian(window, 1 / 8, 10, device=torch.device("cpu")).numpy()
    made = nnunet.importance(window)
    assert made.dtype == expected.dtype == np.float16
    # Both round the same Gaussian to half precision; on the way it was a product or a chain of filters.
    np.testing.assert_allclose(made.astype(float), expected.astype(float), rtol=1e-3, atol=6e-8)
    for extra in ((0, 0, 0), (1, 5, 9), (7, 30, 41), (13, 100, 3)):
        shape = (window[0] + extra[0], window[1] + extra[1], window[2] + extra[2])
        steps = compute_steps_for_sliding_window(shape, window, 0.5)
        starts = {tuple(part.start for part in box) for box in windows(shape, spec(window=window))}
        assert starts == {(z, y, x) for z in steps[0] for y in steps[1] for x in steps[2]}


SPACINGS = [
    ((3.0, 1.0, 1.0), (1.0, 1.0, 1.0)),  # exactly three times: not yet anisotropic
    ((3.3, 1.0, 1.0), (1.0, 1.0, 1.0)),
    ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0)),
    ((1.0, 1.0, 3.5), (5.0, 1.0, 1.0)),  # the image decides before the network
    ((0.24, 1.25, 1.25), (1.0, 1.0, 1.0)),  # two coarse axes: all together
    ((2.0, 2.0, 2.0), (2.0, 2.0, 2.0)),
]


@pytest.mark.parametrize("force", [None, True, False])
@pytest.mark.parametrize(("spacing", "wanted"), SPACINGS)
def test_whether_slices_are_resampled_apart_is_decided_as_nnunet_does(
    spacing: tuple[float, float, float], wanted: tuple[float, float, float], force: bool | None
) -> None:
    outside.package("nnunetv2.preprocessing.resampling.default_resampling")
    from nnunetv2.preprocessing.resampling.default_resampling import determine_do_sep_z_and_axis

    apart, axis = determine_do_sep_z_and_axis(force, spacing, wanted)
    rule = NnunetResampling(order=3, force_separate_z=force)
    assert nnunet.separate_axis(spacing, wanted, rule) == (int(axis) if apart else None)


@pytest.mark.parametrize("order", [1, 3])
@pytest.mark.parametrize(("shape", "wanted_shape"), [((7, 9, 11), (5, 13, 8)), ((1, 12, 9), (3, 5, 9))])
@pytest.mark.parametrize(("spacing", "wanted"), SPACINGS)
def test_resampling_is_nnunets(spacing: Any, wanted: Any, shape: Any, wanted_shape: Any, order: Any) -> None:
    outside.package("nnunetv2.preprocessing.resampling.default_resampling")
    from nnunetv2.preprocessing.resampling.default_resampling import (
        compute_new_shape,
        resample_data_or_seg_to_shape,
    )

    image = np.random.default_rng(1).normal(0, 1, shape).astype(np.float32)
    expected = resample_data_or_seg_to_shape(
        image[None], wanted_shape, spacing, wanted, False, order, 0, force_separate_z=None
    )[0]
    made = nnunet.resample(image, wanted_shape, spacing, wanted, NnunetResampling(order=order))
    np.testing.assert_allclose(made, expected, atol=2e-5)
    long = (shape[0] + 40, shape[1] + 40, shape[2] + 40)
    assert nnunet.resampled_shape(long, spacing, wanted) == tuple(compute_new_shape(long, spacing, wanted))


@pytest.mark.parametrize(
    "scheme",
    [
        "ZScoreNormalization",
        "CTNormalization",
        "NoNormalization",
        "RescaleTo01Normalization",
        "RGBTo01Normalization",
    ],
)
@pytest.mark.parametrize("use_mask", [False, True])
def test_channels_are_normalised_as_nnunet_does(scheme: Any, use_mask: bool) -> None:
    outside.package("nnunetv2.preprocessing.normalization.default_normalization_schemes")
    from nnunetv2.preprocessing.normalization import default_normalization_schemes as schemes

    intensity = {"mean": 90.0, "std": 31.0, "percentile_00_5": 30.0, "percentile_99_5": 180.0}
    image = np.random.default_rng(2).uniform(0, 255, (4, 9, 8)).astype(np.float32)
    mask = np.zeros(image.shape, dtype=np.bool_)
    mask[1:, 2:-1, 3:] = True
    image[~mask] = 0
    expected = getattr(schemes, scheme)(use_mask, intensity).run(
        image.copy(), np.where(mask, 0, -1).astype(np.int8)
    )
    rule = NnunetChannel.model_validate(
        {"scheme": scheme, "use_mask_for_norm": use_mask, "intensity": intensity}
    )
    before = image.copy()
    np.testing.assert_allclose(normalised(image, rule, mask).values(), expected, atol=1e-5)
    np.testing.assert_array_equal(image, before)


def test_a_flat_image_and_one_out_of_range() -> None:
    flat = np.full((2, 3, 4), 7, dtype=np.float32)
    assert not normalised(flat, NnunetChannel(scheme="ZScoreNormalization"), None).values().any()
    with pytest.raises(Refusal) as caught:
        normalised(flat - 8, NnunetChannel(scheme="RGBTo01Normalization"), None)
    assert caught.value.code == "OUT_OF_DOMAIN"


def test_what_is_cropped_away_comes_back_as_background() -> None:
    seen = volume((6, 20, 22), NIFTI)
    seen.voxels[:, :5] = seen.voxels[:, :, -3:] = seen.voxels[:1] = 0
    network = spec(inputs=("t1",))
    prepared = nnunet.prepare({"t1": seen}, network, "t1")
    assert prepared.box == (slice(1, 6), slice(5, 20), slice(0, 19))
    np.testing.assert_array_equal(prepared.channels.values()[0], seen.voxels[prepared.box])
    logits = nnunet.infer([FakeRunner(echo)], prepared, network, Watch()).outputs["segmentation"]
    assert logits.shape == (1, 2, 6, 20, 22)
    np.testing.assert_allclose(logits[0, 1], seen.voxels, **HALF)
    assert (logits[0, 0][seen.voxels == 0] == 30).all()
    assert not logits[0, 0][seen.voxels != 0].any()


@pytest.mark.parametrize("transpose", [(0, 1, 2), (2, 0, 1), (1, 2, 0), (2, 1, 0)])
@pytest.mark.parametrize("stored", [NIFTI, Stored((3.0, 1.0, 1.0), turned=True), None])
def test_the_way_there_and_back_is_the_identity(transpose: Any, stored: Stored | None) -> None:
    seen = volume((6, 11, 14), stored)
    spacing = tuple((3.0, 1.0, 1.0)[axis] for axis in transpose)
    network = spec({"transpose": transpose}, inputs=("t1",), spacing=spacing, window=(5, 5, 5))
    prepared = nnunet.prepare({"t1": seen}, network, "t1")
    lies = seen.voxels
    if stored is None:
        lies = lies[:, ::-1]  # dcm2niix reverses rows
    elif stored.turned:
        lies = lies[::-1]
    np.testing.assert_array_equal(prepared.channels.values()[0], lies.transpose(transpose))
    logits = nnunet.infer([FakeRunner(echo)], prepared, network, Watch()).outputs["segmentation"]
    np.testing.assert_allclose(logits[0, 1], seen.voxels, **HALF)
    as_scanned = spec({"rows_reversed": False, "transpose": transpose}, inputs=("t1",), spacing=spacing)
    if stored is None:
        made = nnunet.prepare({"t1": seen}, as_scanned, "t1")
        np.testing.assert_array_equal(made.channels.values()[0], seen.voxels.transpose(transpose))


def test_an_image_smaller_than_the_window_is_padded_on_both_sides() -> None:
    given: list[NDArray[np.float32]] = []

    def watch(inputs: Any) -> Arrays:
        given.append(inputs["image"])
        return echo(inputs)

    array = np.ones((1, 3, 8, 5), dtype=np.float32)
    made = nnunet.slide(FakeRunner(watch), Channels.of(array), spec(inputs=("t1",)), Watch())
    assert made.shape == (2, 3, 8, 5)
    assert (made[1] == 1).all()
    assert len(given) == 1
    np.testing.assert_array_equal(np.argwhere(given[0][0, 0]).min(axis=0), [0, 0, 1])
    np.testing.assert_array_equal(np.argwhere(given[0][0, 0]).max(axis=0), [2, 7, 5])


def test_folds_are_averaged() -> None:
    seen = volume((6, 11, 14), NIFTI)
    network = spec(inputs=("t1",))
    prepared = nnunet.prepare({"t1": seen}, network, "t1")

    def times(factor: float) -> FakeRunner:
        return FakeRunner(lambda inputs: {"segmentation": factor * echo(inputs)["segmentation"]})

    mean = nnunet.infer([times(1), times(2), times(6)], prepared, network, Watch()).outputs["segmentation"]
    np.testing.assert_allclose(mean[0, 1], 3 * seen.voxels, **HALF)


def test_mirror_images_are_turned_back_before_they_are_averaged() -> None:
    seen = volume((6, 11, 14), NIFTI)
    calls = []

    def once(inputs: Any) -> Arrays:
        calls.append(1)
        return echo(inputs)

    for axes, number in (((), 1), ((1,), 2), ((0, 1, 2), 8)):
        network = spec({"mirror_axes": axes}, inputs=("t1",), window=(6, 11, 14))
        prepared = nnunet.prepare({"t1": seen}, network, "t1")
        calls.clear()
        logits = nnunet.infer([FakeRunner(once)], prepared, network, Watch()).outputs["segmentation"]
        assert len(calls) == number
        np.testing.assert_allclose(logits[0, 1], seen.voxels, **HALF)


def test_a_sequence_on_another_grid_is_resampled_onto_the_references() -> None:
    t1, other = volume((6, 20, 22), NIFTI), volume((8, 15, 17), NIFTI, seed=1)
    grid = Geometry.from_parts((8, 15, 17), (1.3, 1.4, 2.5), (-4.0, 8.0, 8.0))
    t2 = dataclasses.replace(other, geometry=grid)
    made = nnunet.on_grid(t1.geometry, t2, "t2")
    expected = cpu.resample(
        t2.voxels,
        grid.affine,
        t1.geometry.affine,
        t1.geometry.shape,
        anti_alias=False,
        interpolation="bspline",
    )
    np.testing.assert_array_equal(made, expected)
    assert (made == 0).any()
    assert nnunet.on_grid(t1.geometry, t1, "t1") is t1.voxels
    prepared = nnunet.prepare({"t1": t1, "t2": t2}, spec(), "t1")
    np.testing.assert_array_equal(prepared.channels.values()[1], expected[prepared.box])


def test_studies_that_cannot_be_prepared_are_refused() -> None:
    empty, bad = volume((4, 5, 6), NIFTI), volume((4, 5, 6), NIFTI)
    empty.voxels[...] = 0
    bad.voxels[1, 2, 3] = np.inf
    for seen, code in ((empty, "UNREADABLE"), (bad, "UNREADABLE")):
        with pytest.raises(Refusal) as caught:
            nnunet.prepare({"t1": seen}, spec(inputs=("t1",)), "t1")
        assert caught.value.code == code
    fine = spec(inputs=("t1",), spacing=(0.001, 0.001, 0.001))
    with pytest.raises(Refusal) as caught:
        nnunet.prepare({"t1": volume((4, 5, 6), NIFTI)}, fine, "t1")
    assert caught.value.code == "TOO_LARGE"
    with pytest.raises(Refusal) as caught:
        nnunet.prepare({"t1": volume((4, 5, 6), NIFTI)}, spec(inputs=("t1",), spacing=(90, 1, 1)), "t1")
    assert caught.value.code == "TOO_FEW_SLICES"


def test_a_run_stops_when_it_is_late_and_says_what_is_no_output() -> None:
    network = spec(inputs=("t1",))
    prepared = nnunet.prepare({"t1": volume((6, 11, 14), NIFTI)}, network, "t1")
    with pytest.raises(DeadlineExceeded):
        nnunet.infer([FakeRunner(echo)], prepared, network, Watch(deadline=0.0))
    with pytest.raises(BundleError, match="no output segmentation"):
        nnunet.infer([FakeRunner(lambda inputs: {})], prepared, network, Watch())


def test_logits_that_are_not_finite_stay_so() -> None:
    network = spec(inputs=("t1",))
    prepared = nnunet.prepare({"t1": volume((6, 11, 14), NIFTI)}, network, "t1")
    for wrong in (1e30, np.nan):
        bad = FakeRunner(lambda inputs, wrong=wrong: {"segmentation": echo(inputs)["segmentation"] + wrong})
        made = nnunet.infer([bad], prepared, network, Watch()).outputs["segmentation"]
        assert not np.isfinite(made).any()


def test_a_scheme_is_checked_with_its_network() -> None:
    with pytest.raises(ValueError, match="either a normalisation or an nnU-Net scheme"):
        spec(normalisation={"method": "zscore"})
    with pytest.raises(ValueError, match="either a normalisation or an nnU-Net scheme"):
        spec(nnunet=None)
    with pytest.raises(ValueError, match="not a fold"):
        spec(outputs=[{"name": "a", "kind": "tumour"}])
    with pytest.raises(ValueError, match="not a fold"):
        spec({"channels": [{"scheme": "NoNormalization"}]})
    with pytest.raises(ValueError, match="each axis once"):
        spec({"transpose": (0, 1, 1)})
    with pytest.raises(ValueError, match="intensities"):
        spec({"channels": [{"scheme": "CTNormalization"}] * 2})
    assert isinstance(spec().nnunet, NnunetScheme)
