import numpy as np
import pytest

from npc_edge.bench.phantom.signal import (
    CODES,
    TUMOUR,
    FatSuppression,
    SequenceParameters,
    render,
    tissue_signal,
    tissue_signals,
)
from npc_edge.bench.phantom.structures import Tissue

T1 = SequenceParameters("T1", te_ms=12, tr_ms=600)
T2 = SequenceParameters("T2", te_ms=90, tr_ms=4000)


@pytest.mark.parametrize("field_t", [1.5, 3.0])
def test_contrast_is_what_a_radiologist_describes(field_t: float) -> None:
    t1 = tissue_signal(SequenceParameters("T1", 12, 600, field_t))
    t2 = tissue_signal(SequenceParameters("T2", 90, 4000, field_t))
    assert t1[Tissue.FAT] == t1.max()
    assert abs(t1[TUMOUR] / t1[Tissue.MUSCLE] - 1) < 0.25
    assert t1[Tissue.CSF] < t1[Tissue.GREY_MATTER] < t1[Tissue.WHITE_MATTER]
    order = [Tissue.MUSCLE, TUMOUR, Tissue.LYMPHOID, Tissue.MUCOSA, Tissue.CSF]
    assert np.all(np.diff(t2[order]) > 0.03)
    for dark in (Tissue.AIR, Tissue.CORTICAL_BONE, Tissue.FLOWING_BLOOD):
        assert max(t1[dark], t2[dark]) < 0.05


def test_the_spin_echo_equation_on_a_tissue_without_fat() -> None:
    expected = 1.0 * (1 - np.exp(-4000 / 4200)) * np.exp(-90 / 1400)
    assert tissue_signal(T2)[Tissue.CSF] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("way", ["spectral", "stir", "dixon_water"])
def test_fat_suppression_darkens_fat_and_leaves_water(way: FatSuppression) -> None:
    plain = tissue_signal(T2)
    dark = tissue_signal(SequenceParameters("T2", 90, 4000, fat_suppression=way))
    assert dark[Tissue.FAT] < 0.15 * plain[Tissue.FAT]
    assert dark[Tissue.FAT] < dark[Tissue.MUSCLE]
    assert dark[Tissue.CSF] > 0.7 * plain[Tissue.CSF]
    assert dark[Tissue.MUSCLE] < dark[TUMOUR] < dark[Tissue.MUCOSA]


def test_where_suppression_fails_fat_is_as_bright_as_without() -> None:
    dark, failed = tissue_signals(SequenceParameters("T2", 90, 4000, fat_suppression="spectral"))
    assert dark[Tissue.FAT] < failed[Tissue.FAT]
    np.testing.assert_array_equal(failed, tissue_signal(T2))


def test_contrast_agent_brightens_mucosa_more_than_tumour_and_tumour_more_than_muscle() -> None:
    plain, enhanced = tissue_signal(T1), tissue_signal(SequenceParameters("T1C", 12, 600))
    gain = enhanced / np.maximum(plain, 1e-6)
    assert gain[Tissue.MUCOSA] > gain[TUMOUR] > 1.5 > gain[Tissue.MUSCLE] > 1
    assert gain[Tissue.CSF] == pytest.approx(1)
    none = tissue_signal(SequenceParameters("T1C", 12, 600, enhancement=0))
    np.testing.assert_allclose(none, plain)


def test_people_differ_and_a_seed_is_one_person() -> None:
    drawn = np.stack([tissue_signal(T2, np.random.default_rng(seed)) for seed in range(200)])
    np.testing.assert_array_equal(drawn[7], tissue_signal(T2, np.random.default_rng(7)))
    spread = drawn[:, TUMOUR].std() / drawn[:, TUMOUR].mean()
    assert 0.08 < spread < 0.25
    assert np.isfinite(drawn).all()
    assert (drawn >= 0).all()


def test_render_blends_the_tumour_by_its_fraction() -> None:
    lut = np.arange(CODES, dtype=np.float32)
    tissue = np.array([[Tissue.FAT, Tissue.MUSCLE]], dtype=np.uint8)
    fraction = np.array([[0.0, 0.5]], dtype=np.float32)
    expected = [[float(Tissue.FAT), (float(Tissue.MUSCLE) + TUMOUR) / 2]]
    np.testing.assert_allclose(render(tissue, lut, fraction), expected)
    np.testing.assert_allclose(render(tissue, lut), lut[tissue])
