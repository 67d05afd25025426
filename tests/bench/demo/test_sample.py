"""Training samples: what the engine would feed, repeatable, with the truth where it belongs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from npc_edge.bench.demo import cache, coarse, real_head, sample, stream, train
from npc_edge.bench.demo.network import CLASSES, LocatorNet, NpcNet, _fold, _unfold
from npc_edge.bench.phantom.anatomy import REGION, build_anatomy
from npc_edge.bench.phantom.structures import Structure
from npc_edge.bench.phantom.tumour import grow_tumour


@pytest.fixture(scope="module")
def head(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache")
    return cache.build(folder, range(1000, 1001), 1, lambda _: None)[0]


def test_the_cache_holds_the_head_and_its_tumours(head: Path) -> None:
    case, anatomy = cache.load(head), build_anatomy(1000, REGION, healthy=False)
    np.testing.assert_array_equal(case.structure, anatomy.structure)
    layer = case.layers[0]
    tumour = grow_tumour(anatomy, layer.stage, 10 * 1000)
    np.testing.assert_allclose(layer.fraction / 255, tumour.fraction[layer.box], atol=1 / 255)
    assert tumour.fraction.sum() == pytest.approx(tumour.fraction[layer.box].sum())


def test_a_sample_is_normalised_and_its_truth_lies_in_view(head: Path) -> None:
    case = cache.load(head)
    drawn = sample.draw_sample(case, case.layers[-1], np.random.default_rng(3))
    assert drawn.image.shape == (2, *sample.WINDOW)
    assert drawn.image.min() >= 0
    assert drawn.image.max() <= 1 + 1e-6
    assert drawn.npc
    assert drawn.tumour.sum() > 100
    assert drawn.anatomy is not None
    assert set(np.unique(drawn.anatomy)) <= {*range(CLASSES), 255}
    assert (drawn.anatomy == Structure.NASOPHARYNX).sum() > 100
    assert not sample.draw_sample(case, None, np.random.default_rng(3)).tumour.any()


def test_the_same_index_is_the_same_sample(head: Path) -> None:
    source = stream.Source((str(head),), False, 7)
    for one, two in zip(stream.npc_sample(source, 4), stream.npc_sample(source, 4), strict=True):
        assert torch.equal(one, two)
    assert not torch.equal(stream.npc_sample(source, 4)[0], stream.npc_sample(source, 5)[0])


def test_slices_keep_a_constant_where_they_cover() -> None:
    for seed in range(20):
        stack = sample.Slices.draw(np.random.default_rng(seed))
        through = stack.apply(np.ones((sample.FINE, 1, 1), dtype=np.float32))[:, 0, 0]
        inner = stack.covered & np.roll(stack.covered, 1) & np.roll(stack.covered, -1)
        np.testing.assert_allclose(through[inner], 1, atol=0.01)


def test_the_locator_is_told_where_the_nasopharynx_is(head: Path) -> None:
    """Air above soft tissue: about the point, the image holds both, whatever the pose."""
    case = cache.load(head)
    for seed in range(5):
        image, point = coarse.draw_coarse(case, np.random.default_rng(seed))
        assert image.shape == (2, *coarse.GRID)
        z, y, x = np.rint(point).astype(int)
        near = image[0, max(z - 2, 0) : z + 3, y - 4 : y + 5, x - 4 : x + 5]
        assert near.max() > 0.2
        assert near.min() < 0.15


def _ball() -> real_head.RealHead:
    """A stand-in for the real head: a ball of muscle with a dark hole, in a shell bright on both."""
    z, y, x = (np.arange(-80, 81, dtype=np.float32) for _ in range(3))
    r = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    t1 = np.where(r < 70, 0.6, 0.0).astype(np.float32)
    t1[(r > 50) & (r < 70)] = 1.1
    t1[r < 8] = 0.02
    kind = np.where(t1 > 0.1, real_head.MUSCLE, real_head.DARK).astype(np.uint8)
    kind[t1 > 1] = real_head.VITREOUS
    airway = np.where(kind == real_head.MUSCLE, np.clip(r - 8, 0, 99), 99).astype(np.float32)
    return real_head.RealHead(t1, kind, np.zeros_like(t1), airway, (-80.0, -80.0, -80.0))


def test_the_real_heads_mucosa_is_drawn_anew_each_time() -> None:
    """Bright along the air, muscle away from it, as deep as that copy has it."""
    ball, depths = _ball(), []
    ring = ball.t1.shape[0] // 2
    for seed in range(12):
        line = real_head.simulated_t2(ball, np.random.default_rng(seed), False)[ring, ring, ring:]
        wall, deep = float(line[9:11].max()), float(line[30:40].mean())
        assert wall > 1.3 * deep
        depths.append(int((line[9:40] > (wall + deep) / 2).sum()))
    assert min(depths) <= 5
    assert max(depths) >= 8


def test_the_loss_minds_the_margin_and_the_anatomy_under_the_tumour() -> None:
    """The same mistake costs more where a category hangs on it."""
    truth = torch.zeros(1, 8, 32, 32)
    truth[:, 2:6, 8:16, 8:16] = 1
    logits = 8 * (2 * truth - 1)
    logits[:, 4, 16, 12] = 8
    inside, outside = (
        torch.full((1, 8, 16, 16), float(s)) for s in (Structure.NASOPHARYNX, Structure.CLIVUS)
    )
    assert train._tumour_loss(logits, truth, outside)[0] > train._tumour_loss(logits, truth, inside)[0]
    anatomy = torch.full((1, 8, 16, 16), int(Structure.CLIVUS))
    right = 8 * torch.nn.functional.one_hot(anatomy, CLASSES).movedim(-1, 1).float()
    under, beside = right.clone(), right.clone()
    under[0, Structure.CLIVUS, 4, 4:6, 4:6] = -8
    beside[0, Structure.CLIVUS, 4, 12:14, 12:14] = -8
    assert train._anatomy_loss(under, truth, anatomy)[0] > train._anatomy_loss(beside, truth, anatomy)[0]
    assert train._anatomy_loss(right, truth, anatomy)[1] < 0.01
    unknown = torch.full_like(anatomy, 255)
    assert train._anatomy_loss(right, truth, unknown) == (0, 0)


def test_a_mass_is_dark_on_t1_bright_on_t2_and_near_the_wall() -> None:
    drawn = real_head.draw_real_sample(_ball(), True, np.random.default_rng(11))
    assert drawn.anatomy is None
    inside = drawn.tumour > 0
    assert drawn.npc
    assert inside.sum() > 100
    centre = np.argwhere(inside).mean(0)
    apart = (centre - (np.array(sample.WINDOW) - 1) / 2) * sample.SPACING
    assert np.linalg.norm(apart) < 40
    axes = [np.arange(n) - (n - 1) / 2 for n in sample.WINDOW]
    far = np.hypot(np.hypot(4 * axes[0][:, None, None], axes[1][:, None]), axes[2])
    rest = ~inside & (far > 22) & (far < 32)  # muscle, wherever the deformation moved it
    # The mass is clipped at the 99.5th percentile, muscle under suppressed fat comes close to it.
    assert drawn.image[1][inside].mean() > 1.05 * drawn.image[1][rest].mean()
    assert drawn.image[0][inside].mean() < 1.15 * drawn.image[0][rest].mean()


def test_networks_answer_on_the_whole_window() -> None:
    network = NpcNet(width=8).eval()
    with torch.no_grad():
        tumour, anatomy, score = network(torch.zeros(1, 2, 8, 32, 32))
        heat = LocatorNet(width=4).eval()(torch.zeros(1, 2, 16, 16, 16))
    assert tumour.shape == (1, 1, 8, 32, 32)
    assert anatomy.shape == (1, CLASSES, 8, 32, 32)
    assert score.shape == (1, 1)
    assert heat.shape == (1, 1, 16, 16, 16)
    image = torch.randn(2, 1, 3, 4, 6)
    assert torch.equal(_unfold(_fold(image)), image)
