"""From the model's grid to the source grid: where things lie, on which side, and what was seen."""

from __future__ import annotations

import numpy as np
import pytest

from npc_edge.engine.errors import BackendError, BundleError, Cancelled
from npc_edge.engine.findings.segment import cleared, segment, tumour_mask
from npc_edge.engine.findings.sides import find_midline, right_step, sided_labels, split_sides
from npc_edge.engine.geometry import Geometry
from npc_edge.engine.model.manifest import TumourSpec
from npc_edge.engine.types import Predictions, Volume, Watch

MODEL = Geometry.centred((5.0, -3.0, 2.0), (1.0, 1.0, 4.0), (24, 96, 96))
LABELS = [
    {"code": 1, "name": "wall", "structure": "nasopharynx", "side": "midline", "colour": (1, 1, 1)},
    {"code": 2, "name": "muscle", "structure": "medial_pterygoid", "side": "paired", "colour": (1, 1, 1)},
]


def lattice(grid):
    z, y, x = np.meshgrid(*(np.arange(n) for n in grid.shape), indexing="ij")
    return grid.to_world(np.stack([x, y, z], axis=-1).reshape(-1, 3)).reshape(*grid.shape, 3)


def ball(points, centre, radius):
    """Logit of a ball: positive inside."""
    return radius - np.linalg.norm(points - np.asarray(centre, float), axis=-1)


def predictions(turn_deg=0.0, shift=0.0, tumours=(((12, 0, 4), 10),)):
    points = lattice(MODEL)
    c, s = np.cos(np.radians(turn_deg)), np.sin(np.radians(turn_deg))
    x, y = points[..., 0] - shift, points[..., 1]
    head = np.stack([c * x + s * y, -s * x + c * y, points[..., 2]], axis=-1)
    sides = np.maximum(ball(head, (25, 5, 0), 9), ball(head, (-25, 5, 0), 9))
    anatomy = np.stack([np.zeros(MODEL.shape), ball(head, (0, 0, 0), 12), sides])
    tumour = np.max([ball(points, *t) for t in tumours], axis=0)
    outputs = {"tumour": tumour[None, None], "anatomy": anatomy[None]}
    return Predictions({k: v.astype(np.float32) for k, v in outputs.items()}, MODEL)


def turned(degrees, spacing, shape):
    a = np.radians(degrees)
    direction = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    half = direction @ (np.array(spacing) * (np.array(shape[::-1]) - 1) / 2)
    return Geometry.from_parts(shape, spacing, -half, direction)


@pytest.fixture(scope="module")
def bundle(cases):
    return cases.manifest(labels=LABELS, tumour={"threshold": 0.5, "min_component_ml": 0.2})


@pytest.mark.parametrize("degrees", [0, 20])
@pytest.mark.parametrize(
    ("spacing", "shape"), [((0.6, 0.6, 5.0), (22, 200, 210)), ((0.9, 0.9, 3.0), (30, 100, 90))]
)
def test_masks_lie_in_space_where_the_model_saw_them(bundle, degrees, spacing, shape):
    grid = turned(degrees, spacing, shape)
    seen = segment(predictions(), Volume(np.zeros(shape, np.float32), grid), bundle, Watch())
    assert seen.geometry is grid
    assert {a.shape for a in (seen.tumour, seen.tumour_probability, seen.structures, seen.covered)} == {shape}
    assert (seen.tumour.dtype, seen.tumour_probability.dtype, seen.structures.dtype) == (
        np.uint8, np.float32, np.uint8,
    )  # fmt: skip
    assert seen.volume_ml == pytest.approx(4 / 3 * np.pi, rel=0.08)
    np.testing.assert_allclose(seen.centroid_lps_mm, (12, 0, 4), atol=0.5)
    assert seen.components == 1
    assert seen.labels == {1: "wall", 2: "muscle_left", 102: "muscle_right"}
    points = lattice(grid)
    for code, centre in ((1, (0, 0, 0)), (2, (25, 5, 0)), (102, (-25, 5, 0))):
        np.testing.assert_allclose(points[seen.structures == code].mean(axis=0), centre, atol=0.7)


def test_nothing_is_claimed_outside_the_window(bundle):
    grid = Geometry.centred((0, 0, 0), (2.0, 2.0, 4.0), (40, 100, 100))
    seen = segment(predictions(), Volume(np.zeros(grid.shape, np.float32), grid), bundle, Watch())
    index = MODEL.to_index(lattice(grid).reshape(-1, 3))
    inside = ((index >= -0.5) & (index <= np.array(MODEL.shape[::-1]) - 0.5)).all(axis=1)
    np.testing.assert_array_equal(seen.covered.ravel(), inside)
    assert not seen.structures[~seen.covered].any()
    assert not seen.tumour_probability[~seen.covered].any()


def test_small_components_are_dropped_and_the_rest_counted(bundle):
    grid = Geometry.centred((0, 0, 0), (0.8, 0.8, 3.0), (30, 120, 120))
    tumours = (((12, 0, 4), 8), ((-20, 0, 4), 6), ((0, 30, 0), 2.5))
    seen = segment(
        predictions(tumours=tumours), Volume(np.zeros(grid.shape, np.float32), grid), bundle, Watch()
    )
    assert seen.components == 2
    assert seen.tumour_probability.max() > 0.9
    all_of_it = tumour_mask(seen.tumour_probability, grid, 0.5, 0.0)
    assert all_of_it.components == 3
    assert all_of_it.volume_ml > seen.volume_ml


def test_a_cleared_segmentation_has_no_tumour_and_keeps_its_anatomy(bundle):
    grid = Geometry.centred((0, 0, 0), (2.0, 2.0, 4.0), (20, 50, 50))
    seen = segment(predictions(), Volume(np.zeros(grid.shape, np.float32), grid), bundle, Watch())
    empty = cleared(seen)
    assert (empty.volume_ml, empty.components, empty.centroid_lps_mm) == (0.0, 0, None)
    assert not empty.tumour.any()
    assert empty.structures is seen.structures
    assert seen.tumour.any()


@pytest.mark.parametrize("turn", [-25, 0, 25])
@pytest.mark.parametrize("shift", [-12.0, 9.0])
def test_sides_follow_the_head_not_the_table(bundle, turn, shift):
    grid = Geometry.centred((0, 0, 0), (1.0, 1.0, 4.0), (24, 130, 130))
    seen = segment(predictions(turn, shift), Volume(np.zeros(grid.shape, np.float32), grid), bundle, Watch())
    points = lattice(grid)
    c, s = np.cos(np.radians(turn)), np.sin(np.radians(turn))
    for code, sign in ((2, 1), (102, -1)):
        x, y = sign * 25, 5
        want = (c * x - s * y + shift, s * x + c * y, 0)
        np.testing.assert_allclose(points[seen.structures == code].mean(axis=0), want, atol=0.7)


def test_one_displaced_structure_does_not_tilt_the_midline(cases):
    head = cases.Head()
    bundle = cases.manifest()
    back = head.structures.copy()
    back[back > 100] -= 100
    straight = find_midline(back, cases.grid, bundle.labels)
    np.testing.assert_allclose(straight.normal, (1, 0, 0), atol=0.01)
    assert straight.offset == pytest.approx(0, abs=0.6)
    orbit = cases.order.index("orbit") + 1
    back[back == orbit] = 0
    back[cases.mm_mask(50, 65, -60, -40, 0, 20)] = orbit
    moved = find_midline(back, cases.grid, bundle.labels)
    assert np.degrees(np.arccos(moved.normal[0])) < 3
    assert moved.offset == pytest.approx(0, abs=1.0)
    # The prevertebral muscles meet in the middle: within a voxel of the plane either side is right.
    sure = (back != orbit) & ~cases.mm_mask(-1.5, 1.5, -60, 60, -40, 40)
    sided = split_sides(back, cases.grid, bundle.labels, moved)
    np.testing.assert_array_equal(sided[sure], head.structures[sure] * (back[sure] > 0))


def test_without_anatomy_the_midline_is_the_middle_of_the_grid(cases):
    nothing = np.zeros(MODEL.shape, np.uint8)
    plane = find_midline(nothing, MODEL, cases.manifest().labels)
    assert (plane.normal.tolist(), plane.offset) == ([1.0, 0.0, 0.0], pytest.approx(5.0))


def test_right_codes_avoid_those_in_use(cases):
    def labels(*given):
        return [cases.label(code=c, name=f"n{c}", structure=f"s{c}", side=side) for c, side in given]

    assert right_step(labels((7, "paired"))) == 100
    assert right_step(labels((7, "paired"), (107, "midline"))) == 101
    assert right_step(labels((107, "midline"))) == 100
    with pytest.raises(BundleError, match="sides"):
        right_step(labels((200, "paired")))
    bundle = cases.manifest(labels=[dict(LABELS[1]), {**LABELS[0], "side": "left"}])
    assert [(s.code, s.name, s.side) for s in sided_labels(bundle)] == [
        (2, "muscle_left", "left"),
        (102, "muscle_right", "right"),
        (1, "wall", "left"),
    ]


def one_softmax(cases, labels):
    network = cases.manifest().networks[0].model_dump()
    network["outputs"] = [{"name": "all", "kind": "segmentation"}]
    return cases.manifest(networks=[network], labels=labels, staging=None, task="segmentation")


def test_one_softmax_over_all_labels(cases):
    labels = [
        {**LABELS[0], "code": 1, "name": "gtvp", "structure": "tumour"},
        {**LABELS[0], "code": 2, "name": "wall"},
    ]
    points = lattice(MODEL)
    scores = np.stack([np.zeros(MODEL.shape), 2 * ball(points, (12, 0, 4), 10), ball(points, (0, 0, 0), 15)])
    raw = Predictions({"all": scores[None].astype(np.float32)}, MODEL)
    seen = segment(raw, Volume(np.zeros(MODEL.shape, np.float32), MODEL), one_softmax(cases, labels), Watch())
    assert seen.labels == {2: "wall"}
    softmax = np.exp(scores[1]) / np.exp(scores).sum(axis=0)
    np.testing.assert_allclose(seen.tumour_probability, softmax, atol=1e-5)
    assert set(np.unique(seen.structures)) == {0, 2}
    assert not seen.structures[scores.argmax(axis=0) == 1].any()


@pytest.mark.parametrize("finer", [1, 2])
def test_by_argmax_the_largest_label_wins_however_small_it_is(cases, finer):
    labels = [{**LABELS[0], "code": 1, "name": "gtvp", "structure": "tumour"}]
    bundle = one_softmax(cases, [*labels, {**LABELS[0], "code": 2, "name": "wall"}])
    bundle = bundle.model_copy(update={"tumour": TumourSpec(rule="argmax", threshold=0.5)})
    inside = ball(lattice(MODEL), (12, 0, 4), 10) > 0
    scores = np.stack([np.zeros(MODEL.shape), np.where(inside, 0.2, 0.0), np.full(MODEL.shape, 0.1)])
    z, y, x = MODEL.shape
    spacing = [s / finer for s in MODEL.spacing]
    grid = Geometry.centred(MODEL.centre, spacing, (finer * z, finer * y, finer * x))
    raw = Predictions({"all": scores[None].astype(np.float32)}, MODEL)
    seen = segment(raw, Volume(np.zeros(grid.shape, np.float32), grid), bundle, Watch())
    assert seen.tumour_probability.max() < 0.4
    if finer == 1:
        np.testing.assert_array_equal(seen.tumour > 0, inside)
    assert seen.tumour.sum() == pytest.approx(inside.sum() * finer**3, rel=0.2)
    with pytest.raises(BundleError, match="one softmax"):
        segment(predictions(), Volume(np.zeros(MODEL.shape, np.float32), MODEL), two_outputs(cases), Watch())


def two_outputs(cases):
    return cases.manifest(tumour={"rule": "argmax", "threshold": 0.5})


def test_outputs_that_make_no_mask_are_errors(cases, bundle):
    reference = Volume(np.zeros(MODEL.shape, np.float32), MODEL)
    good = predictions()
    with pytest.raises(BundleError, match="neither a tumour output"):
        segment(Predictions({}, MODEL), reference, bundle, Watch())
    bad = good.outputs["tumour"].copy()
    bad[0, 0, 3, 3, 3] = np.inf
    with pytest.raises(BackendError, match="not finite"):
        segment(Predictions({**good.outputs, "tumour": bad}, MODEL), reference, bundle, Watch())
    narrow = Predictions({"all": np.zeros((1, 1, *MODEL.shape), np.float32)}, MODEL)
    with pytest.raises(BundleError, match="no tumour among them"):
        segment(narrow, reference, one_softmax(cases, []), Watch())


def test_segmenting_can_be_stopped(bundle):
    with pytest.raises(Cancelled):
        segment(predictions(), Volume(np.zeros(MODEL.shape, np.float32), MODEL), bundle, Watch(deadline=0.0))
