"""Every rule of both editions on hand-made heads, and what a category must never be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from npc_edge.bench.phantom.structures import PAIRED, Structure
from npc_edge.engine.errors import BundleError
from npc_edge.engine.findings.rules import CATEGORIES, load_rules
from npc_edge.engine.types import Detection, Options

UNEQUIVOCAL = {
    "oropharynx": "T1",
    "nasal_cavity": "T1",
    "parapharyngeal_space": "T2",
    "carotid_space": "T2",
    "medial_pterygoid": "T2",
    "lateral_pterygoid": "T2",
    "prevertebral_muscle": "T2",
    "clivus": "T3",
    "petrous_apex": "T3",
    "cervical_vertebra": "T3",
    "pterygoid_process": "T3",
    "pterygopalatine_fossa": "T3",
    "sphenoid_sinus": "T3",
    "ethmoid_sinus": "T3",
    "maxillary_sinus": "T3",
    "intracranial": "T4",
    "orbit": "T4",
    "parotid": "T4",
    "hypopharynx": "T4",
}


def test_the_rules_name_every_structure_of_the_phantom_and_no_other():
    rules = load_rules()
    named = {rule.structure for rule in rules.structures} | {rules.node.structure}
    assert named | {"nasopharynx", "background"} == {s.name.lower() for s in Structure}
    assert {rule.of for rule in rules.surfaces} <= named
    assert {rule.kind for rule in [*rules.structures, *rules.surfaces]} <= set(rules.classes)


def test_the_boxy_head_pairs_what_the_phantom_pairs(cases):
    assert set(cases.paired) == {s.name.lower() for s in PAIRED}


def test_a_tumour_of_the_wall_alone_is_t1_exactly(cases):
    staging = cases.Head().on_the_wall().stage()
    for category in (staging.ajcc8, staging.ajcc9):
        assert (category.t, category.bound, category.could_be) == ("T1", "exact", None)
        assert category.distribution == {"T1": 1.0, "T2": 0.0, "T3": 0.0, "T4": 0.0}
    assert staging.evidence == ()
    assert staging.not_assessable == ()


@pytest.mark.parametrize(("structure", "category"), UNEQUIVOCAL.items())
def test_a_structure_invaded_deeply_decides_the_category(cases, structure, category):
    staging = cases.Head().on_the_wall().into(structure).stage()
    assert staging.ajcc8.t == staging.ajcc9.t == category
    evidence = staging.evidence[0]
    assert (evidence.structure, evidence.status, evidence.category) == (structure, "unequivocal", category)
    assert evidence.side == ("left" if structure in cases.paired else "midline")
    assert evidence.depth_mm == 6.0
    assert evidence.slices == 2
    assert evidence.overlap_mm3 == pytest.approx(6 * 6 * 10, rel=0.25)
    assert evidence.note == ""


@pytest.mark.parametrize("structure", sorted(UNEQUIVOCAL))
@pytest.mark.parametrize("little", [{"wide": 1.0}, {"slices": 1}, {"probability": 0.8}])
def test_too_shallow_too_few_slices_or_too_unsure_is_equivocal_and_never_upstages(cases, structure, little):
    staging = cases.Head().on_the_wall().into(structure, **little).stage()
    assert staging.ajcc8.t == staging.ajcc9.t == "T1"
    if structure not in ("clivus", "petrous_apex", "cervical_vertebra", "pterygoid_process"):
        (evidence,) = staging.evidence
        assert evidence.status == "equivocal"
        assert "less than" in evidence.note or "fewer than 2 neighbouring slices" in evidence.note
    if UNEQUIVOCAL[structure] != "T1":
        assert staging.ajcc9.bound == "at_least"
        assert staging.ajcc9.could_be == UNEQUIVOCAL[structure]


def test_a_soft_border_does_not_hide_a_sure_core(cases):
    head = cases.Head().on_the_wall().into("medial_pterygoid", probability=0.6, slices=3)
    head.into("medial_pterygoid", wide=3.0, slices=1, probability=0.95)
    evidence = head.stage().evidence[0]
    assert (evidence.status, evidence.slices) == ("unequivocal", 3)
    small = cases.Head().on_the_wall().into("medial_pterygoid", probability=0.6, slices=3)
    small.into("medial_pterygoid", wide=1.0, slices=1, probability=0.95)
    assert small.stage().evidence[0].status == "equivocal"


def test_two_far_apart_slices_are_not_two_slices(cases):
    head = cases.Head().on_the_wall()
    head.into("medial_pterygoid", slices=1)
    head.paint(cases.mm_mask(23, 29, 0, 6, -25, -20))
    evidence = head.stage().evidence[0]
    assert (evidence.slices, evidence.status) == (2, "equivocal")


def test_a_seam_along_a_border_is_contact(cases):
    head = cases.Head().on_the_wall().paint(cases.mm_mask(21.4, 22.6, -5, 10, -25, 0), 1.0)
    staging = head.stage()
    assert staging.ajcc9.t == "T1"
    assert all(e.status == "equivocal" for e in staging.evidence)
    half_a_voxel = cases.manifest(tumour={"threshold": 0.5})
    assert head.segmentation(half_a_voxel).tumour.any()


@pytest.mark.parametrize("structure", ["foramina", "cavernous_sinus"])
def test_without_contrast_nerve_routes_are_equivocal_however_large(cases, structure):
    head = cases.Head().on_the_wall().into(structure, wide=6.0)
    plain, enhanced = head.stage(), head.stage(volumes=head.enhanced())
    category = {"foramina": "T3", "cavernous_sinus": "T4"}[structure]
    assert (plain.ajcc9.t, plain.ajcc9.bound, plain.ajcc9.could_be) == ("T1", "at_least", category)
    assert plain.evidence[0].note == "no contrast series"
    assert enhanced.ajcc9.t == enhanced.ajcc8.t == category


def test_the_inferior_orbital_fissure_counts_under_version_9_and_is_equivocal_under_8(cases):
    staging = cases.Head().on_the_wall().into("inferior_orbital_fissure").stage()
    assert staging.ajcc9.t == "T4"
    assert (staging.ajcc8.t, staging.ajcc8.bound, staging.ajcc8.could_be) == ("T1", "at_least", "T4")
    assert "8th edition" in staging.evidence[0].note


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_lateral_limit_differs_between_the_editions(cases, side):
    sign = 1 if side == "left" else -1
    lateral = cases.Head().on_the_wall()
    lateral.paint(cases.mm_mask(*sorted([sign * 38, sign * 48]), -8, 2, 0, 20))
    staging = lateral.stage()
    assert staging.ajcc8.t == "T4"
    assert {e.side for e in staging.evidence} == {side}
    anterior = cases.Head().on_the_wall()
    anterior.paint(cases.mm_mask(*sorted([sign * 26, sign * 36]), -24, -16, 0, 10))
    staging = anterior.stage()
    assert staging.ajcc8.t == "T1"
    assert staging.ajcc9.t == "T4"
    assert staging.evidence[0].structure == "beyond_anterolateral_surface"


@pytest.mark.parametrize("structure", ["parapharyngeal_space", "carotid_space", "prevertebral_muscle"])
def test_without_a_node_label_what_nodes_lie_against_is_equivocal(cases, structure):
    staging = cases.Head(leave_out=("retropharyngeal_node",)).on_the_wall().into(structure).stage()
    assert staging.ajcc8.t == "T1"
    assert (staging.ajcc8.bound, staging.ajcc8.could_be) == ("at_least", "T2")
    assert "no node label" in staging.evidence[0].note


def test_a_node_taken_for_tumour_is_no_evidence(cases):
    head = cases.Head().on_the_wall()
    # A node as the network may find it, its rim a little into the parapharyngeal space.
    head.paint(cases.mm_mask(14, 22, 8, 14, -10, 5) & (head.structures != 0))
    staging = head.stage()
    assert staging.ajcc9.t == "T1"
    assert staging.evidence == ()


BONES = ["clivus", "petrous_apex", "cervical_vertebra", "pterygoid_process"]


@pytest.mark.parametrize("structure", BONES)
@pytest.mark.parametrize(
    ("tissue", "t", "noted"),
    [
        ("tumour", "T3", ""),
        ("marrow", "T1", "the marrow signal is preserved on T1"),
        ("sclerosis", "T1", None),
    ],
)
def test_bone_wants_its_marrow_replaced(cases, structure, tissue, t, noted):
    staging = cases.Head().on_the_wall().into(structure, tissue=tissue).stage()
    assert staging.ajcc8.t == staging.ajcc9.t == t
    assert [e.note for e in staging.evidence] == ([] if noted is None else [noted])


def thin_plates(head, cases):
    """The pterygoid process as a mixture of cortex and marrow, none of it clearly brighter than tumour."""
    code = cases.order.index("pterygoid_process") + 1
    plates = np.flatnonzero(np.isin(head.structures, [code, code + 100]))
    mixture = np.array([40, 40, 130, 40, 200, 40, 130, 40, 130, 200], dtype=np.float32)
    head.t1.reshape(-1)[plates] = mixture[np.arange(len(plates)) % 10]
    return head


def test_a_thin_plate_is_replaced_where_its_pattern_is_gone(cases):
    head = thin_plates(cases.Head().on_the_wall(), cases).into("pterygoid_process")
    assert head.stage().ajcc9.t == "T3"


def test_a_thin_plate_that_kept_its_pattern_does_not_decide(cases):
    head = thin_plates(cases.Head().on_the_wall().into("pterygoid_process"), cases)
    staging = head.stage()
    assert (staging.ajcc9.t, staging.ajcc9.bound, staging.ajcc9.could_be) == ("T1", "at_least", "T3")
    assert staging.evidence[0].note == "the marrow signal does not decide"


@pytest.mark.parametrize("structure", BONES)
def test_bone_is_not_assessable_on_a_fat_suppressed_t1(cases, structure):
    head = cases.Head().on_the_wall().into(structure)
    staging = head.stage(volumes=head.volumes("yes"))
    assert (staging.ajcc9.t, staging.ajcc9.bound, staging.ajcc9.could_be) == ("T1", "at_least", "T3")
    assert {gap.structure for gap in staging.not_assessable} == set(BONES)
    assert {gap.why for gap in staging.not_assessable} == {
        "the T1 is fat suppressed: marrow cannot be judged"
    }
    assert staging.evidence == ()


def test_bone_is_not_assessable_without_a_t1(cases):
    head = cases.Head().on_the_wall().into("clivus")
    staging = head.stage(volumes=head.volumes(without=("t1",)))
    assert staging.ajcc9.t == "T1"
    assert {gap.structure for gap in staging.not_assessable} == set(BONES)


def test_undeclared_fat_suppression_is_read_from_fat_and_muscle(cases):
    head = cases.Head().on_the_wall().into("clivus")
    assert head.stage(volumes=head.volumes("unknown")).ajcc9.t == "T3"
    fat = np.isin(head.structures, [cases.order.index("parapharyngeal_space") + 1 + s for s in (0, 100)])
    head.t1[fat] = 90.0
    staging = head.stage(volumes=head.volumes("unknown"))
    assert (staging.ajcc9.t, staging.ajcc9.could_be) == ("T1", "T3")
    assert "fat suppressed is not known" in staging.evidence[0].note


@pytest.mark.parametrize("structure", ["sphenoid_sinus", "ethmoid_sinus", "maxillary_sinus"])
@pytest.mark.parametrize(("tissue", "t"), [("tumour", "T3"), ("fluid", "T1"), ("air", "T1")])
def test_secretion_and_air_in_a_sinus_are_no_invasion(cases, structure, tissue, t):
    staging = cases.Head().on_the_wall().into(structure, tissue=tissue).stage()
    assert staging.ajcc8.t == staging.ajcc9.t == t
    assert len(staging.evidence) == (t == "T3")


def test_without_a_t2_a_filled_sinus_is_equivocal(cases):
    head = cases.Head().on_the_wall().into("sphenoid_sinus")
    staging = head.stage(volumes=head.volumes(without=("t2",)))
    assert (staging.ajcc9.t, staging.ajcc9.bound, staging.ajcc9.could_be) == ("T1", "at_least", "T3")


def test_a_palsy_is_t4_under_both_editions(cases):
    staging = cases.Head().on_the_wall().stage(options=Options(cranial_nerves="palsy"))
    for category in (staging.ajcc8, staging.ajcc9):
        assert (category.t, category.bound) == ("T4", "exact")
        assert category.distribution["T4"] == 1.0
    assert staging.evidence[0].structure == "cranial_nerves"
    assert "operator input" in staging.evidence[0].note


def test_nerves_not_asked_about_are_said_and_leave_the_bound_to_imaging(cases):
    staging = cases.Head().on_the_wall().stage(options=Options())
    assert (staging.ajcc9.t, staging.ajcc9.bound, staging.ajcc9.could_be) == ("T1", "exact", None)
    assert [(gap.structure, gap.why) for gap in staging.not_assessable] == [
        ("cranial_nerves", "not supplied by the operator")
    ]


def test_after_treatment_the_category_is_the_clinicians(cases):
    staging = cases.Head().on_the_wall().into("orbit").stage(options=Options(context="treated"))
    assert staging.ajcc8 is None
    assert staging.ajcc9 is None
    assert staging.evidence[0].structure == "orbit"


@pytest.mark.parametrize("finding", ["not_suspicious", "indeterminate"])
def test_only_a_suspicious_study_has_a_category(cases, finding):
    detection = Detection(finding, 0.4, 0.5, -0.4)
    staging = cases.Head().on_the_wall().into("orbit").stage(detection=detection)
    assert (staging.ajcc8, staging.ajcc9, staging.evidence) == (None, None, ())


def test_no_tumour_has_no_category_and_never_t0(cases):
    staging = cases.Head().stage()
    assert (staging.ajcc8, staging.ajcc9) == (None, None)
    assert set(CATEGORIES) == {"T1", "T2", "T3", "T4"}


def test_a_structure_outside_the_field_of_view_is_said_and_bounds(cases):
    head = cases.Head().on_the_wall().into("medial_pterygoid")
    head.structures[head.structures == cases.order.index("hypopharynx") + 1] = 0
    staging = head.stage()
    assert [(g.structure, g.side, g.why) for g in staging.not_assessable] == [
        ("hypopharynx", None, "outside the field of view")
    ]
    assert (staging.ajcc8.t, staging.ajcc8.bound, staging.ajcc8.could_be) == ("T2", "at_least", "T4")


def test_one_side_unseen_is_said_of_that_side(cases):
    head = cases.Head().on_the_wall()
    head.structures[head.structures == cases.order.index("parotid") + 101] = 0
    gaps = head.stage().not_assessable
    assert [(g.structure, g.side) for g in gaps] == [("parotid", "right")]


def test_a_label_the_bundle_lacks_is_said(cases):
    staging = cases.Head(leave_out=("orbit", "lateral_pterygoid")).on_the_wall().stage()
    assert {(g.structure, g.why) for g in staging.not_assessable} == {
        (name, "no label in this bundle")
        for name in ("orbit", "lateral_pterygoid", "beyond_lateral_surface", "beyond_anterolateral_surface")
    }


def test_nothing_is_open_above_t4(cases):
    head = cases.Head(leave_out=("hypopharynx", "sphenoid_sinus")).on_the_wall().into("orbit")
    staging = head.stage(options=Options())
    assert (staging.ajcc9.t, staging.ajcc9.bound, staging.ajcc9.could_be) == ("T4", "exact", None)
    assert len(staging.not_assessable) == 3


def test_a_tumour_at_the_edge_of_what_was_seen_is_a_lower_bound(cases):
    head = cases.Head().paint(cases.mm_mask(-10, 10, -3, 8, -40, 10))
    gaps = {gap.structure for gap in head.stage().not_assessable}
    assert gaps == {"tumour_extent"}


def test_a_bundle_without_anatomy_says_that_nothing_was_assessed(cases):
    bundle = cases.manifest()
    network = bundle.networks[0].model_dump() | {"outputs": [{"name": "all", "kind": "segmentation"}]}
    staging = cases.Head().on_the_wall().stage(cases.manifest(networks=[network]))
    assert (staging.ajcc8, staging.ajcc9, staging.evidence) == (None, None, ())
    assert {gap.why for gap in staging.not_assessable} == {"the bundle predicts no anatomy under the tumour"}


def test_rules_of_another_version_are_refused(cases):
    bundle = cases.manifest(staging={"rules": "99", "thresholds": ()})
    with pytest.raises(BundleError, match="staging rules 99"):
        cases.Head().on_the_wall().stage(bundle)


def test_the_distribution_follows_the_sweep(cases):
    head = cases.Head().on_the_wall().into("clivus", probability=0.75)
    spec = {"rules": "1", "thresholds": (0.5, 0.6, 0.7, 0.8), "smoothing": 0.0}
    staging = head.stage(cases.manifest(staging=spec))
    assert staging.ajcc9.t == "T1"
    assert staging.ajcc9.distribution == pytest.approx({"T1": 0.25, "T2": 0.0, "T3": 0.75, "T4": 0.0})
    sharp = head.stage(cases.manifest(staging=spec | {"distribution_temperature": 0.5})).ajcc9.distribution
    assert sharp == pytest.approx({"T1": 0.1, "T2": 0.0, "T3": 0.9, "T4": 0.0})
    smooth = head.stage(cases.manifest(staging=spec | {"smoothing": 1.0})).ajcc9.distribution
    assert smooth == pytest.approx({"T1": 0.25, "T2": 0.125, "T3": 0.5, "T4": 0.125})


SOFT = [
    "parapharyngeal_space",
    "medial_pterygoid",
    "pterygopalatine_fossa",
    "intracranial",
    "orbit",
    "parotid",
]
GROWTH = st.tuples(
    st.sampled_from(SOFT), st.sampled_from(["left", "right"]), st.floats(1, 7), st.integers(1, 3)
)


@settings(max_examples=15, deadline=None)
@given(first=st.lists(GROWTH, max_size=2), more=st.lists(GROWTH, min_size=1, max_size=2))
def test_more_tumour_never_lowers_the_category(cases, first, more):
    """On otherwise equal evidence: structures whose rule asks for no signal, and no node near."""
    head = cases.Head().on_the_wall()
    for name, side, wide, slices in first:
        head.into(name, side if name in cases.paired else "midline", wide=wide, slices=slices)
    before = head.stage()
    for name, side, wide, slices in more:
        head.into(name, side if name in cases.paired else "midline", wide=wide, slices=slices)
    after = head.stage()
    assert CATEGORIES.index(after.ajcc8.t) >= CATEGORIES.index(before.ajcc8.t)
    assert CATEGORIES.index(after.ajcc9.t) >= CATEGORIES.index(before.ajcc9.t)
    for staging in (before, after):
        for category in (staging.ajcc8, staging.ajcc9):
            assert sum(category.distribution.values()) == pytest.approx(1.0)
            assert (category.could_be is not None) == (category.bound == "at_least")
