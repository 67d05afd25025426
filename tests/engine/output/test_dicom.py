"""SEG, RTSTRUCT and SR: what viewers and planning systems must find in them."""

import dataclasses
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import highdicom as hd
import numpy as np
import output_cases as cases
import pytest
from outside import tool
from pydicom import Dataset, dcmread
from pydicom.dataset import FileDataset

from npc_edge.engine.errors import OutputError
from npc_edge.engine.output import dicom, folder, objects, publish, rtstruct, seg, segments
from npc_edge.engine.output.result import Outcome

SHAPES = {
    "axial": cases.Shape(),
    "oblique": cases.Shape(tilt_deg=14.0),
    "reversed": cases.Shape(reversed_instances=True),
    "enhanced": cases.Shape(enhanced=True, reversed_instances=True),
    "odd size": cases.Shape(shape=(9, 61, 67)),
}


def write_seg(outcome: Outcome, path: Path) -> None:
    path.write_bytes(objects.encoded(folder.SEG, outcome))


def write_sr(outcome: Outcome, path: Path) -> None:
    path.write_bytes(objects.encoded(folder.SR, outcome))


@pytest.fixture(params=SHAPES)
def outcome(request: pytest.FixtureRequest) -> Outcome:
    return cases.outcome(SHAPES[request.param])


@pytest.mark.parametrize("evidence", ["synthetic", "retrospective"])
def test_dciodvfy_finds_no_error(outcome: Outcome, tmp_path: Path, evidence: str) -> None:
    program = tool("dciodvfy")
    facts = dataclasses.replace(outcome.facts, evidence=evidence)  # type: ignore[arg-type]
    publish.write(dataclasses.replace(outcome, facts=facts), tmp_path / "out", False)
    for name in ("seg.dcm", "rtstruct.dcm", "sr.dcm"):
        said = subprocess.run([program, tmp_path / "out" / name], capture_output=True, text=True, check=False)
        lines = (said.stdout + said.stderr).splitlines()
        assert not [line for line in lines if line.startswith("Error")], (name, lines)
        warnings = [line for line in lines if line.startswith("Warning") and dicom.PRIVATE_SCHEME not in line]
        assert not warnings, (name, warnings)


def plain(dataset: Dataset, like: bytes) -> bytes:
    """What pydicom makes of it when left to itself, under the file meta information of `like`."""
    file = FileDataset("", {}, file_meta=dcmread(BytesIO(like)).file_meta, preamble=b"\0" * 128)
    for element in dataset:
        file[element.tag] = element
    made = BytesIO()
    file.save_as(made, implicit_vr=False, little_endian=True, enforce_file_format=True)
    return made.getvalue()


@pytest.mark.parametrize("several", [True, False])
def test_encoding_once_what_frames_share_changes_no_byte(outcome: Outcome, several: bool) -> None:
    if not several:  # one segment: its identification is shared by all frames
        masks = dataclasses.replace(
            outcome.segmentation, structures=np.zeros_like(outcome.segmentation.structures)
        )
        outcome = dataclasses.replace(
            outcome, findings=dataclasses.replace(outcome.concluded, segmentation=masks)
        )
    made = objects.encoded(folder.SEG, outcome)
    assert len(seg.build(outcome).SegmentSequence) == (1 if not several else len(segments.segments(outcome)))
    assert made == plain(seg.build(outcome), made)


def test_highdicom_reads_every_segment_where_it_was_meant(outcome: Outcome, tmp_path: Path) -> None:
    write_seg(outcome, tmp_path / "seg.dcm")
    read = hd.seg.segread(tmp_path / "seg.dcm")
    assert read.segmentation_type == hd.seg.SegmentationTypeValues.BINARY
    masks, grid = outcome.segmentation, outcome.reference_volume.geometry
    for segment in segments.segments(outcome):
        volume = read.get_volume(segment_numbers=[segment.number], combine_segments=True, relabel=True)
        meant = masks.tumour > 0 if segment.code is None else masks.structures == segment.code
        found = np.argwhere(volume.array > 0)
        world = (volume.affine @ np.column_stack([found, np.ones(len(found))]).T).T[:, :3]
        index = np.round(grid.to_index(world)).astype(int)
        assert np.abs(grid.to_world(index) - world).max() < 0.05
        again = np.zeros(meant.shape, bool)
        again[tuple(index[:, ::-1].T)] = True
        assert np.array_equal(again, meant)


def test_the_tumour_comes_first_and_every_source_image_is_referenced(
    outcome: Outcome, tmp_path: Path
) -> None:
    write_seg(outcome, tmp_path / "seg.dcm")
    read = dcmread(tmp_path / "seg.dcm")
    first = read.SegmentSequence[0]
    assert first.SegmentedPropertyTypeCodeSequence[0].CodeValue == "52988006"
    assert len(read.SegmentSequence) == 1 + len(np.unique(outcome.segmentation.structures)) - 1
    (series,) = read.ReferencedSeriesSequence
    named = {item.ReferencedSOPInstanceUID for item in series.ReferencedInstanceSequence}
    assert named == {piece.sop_instance_uid for piece in outcome.reference_volume.slices}
    for frame in read.PerFrameFunctionalGroupsSequence:
        source = frame.DerivationImageSequence[0].SourceImageSequence[0]
        at = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        (piece,) = (p for p in outcome.reference_volume.slices if np.allclose(p.position, at, atol=1e-3))
        assert source.ReferencedSOPInstanceUID == piece.sop_instance_uid
        assert int(source.get("ReferencedFrameNumber", 1)) == piece.frame_number


def test_seg_says_whether_segments_overlap() -> None:
    """The tumour lies over the anatomy beneath it; without it every voxel has one label."""
    outcome = cases.outcome()
    masks = outcome.segmentation
    both = masks.structures[masks.tumour > 0]
    assert both.any()
    assert seg.build(outcome).SegmentsOverlap == "YES"
    bare = dataclasses.replace(masks, structures=np.where(masks.tumour > 0, 0, masks.structures))
    findings = dataclasses.replace(outcome.concluded, segmentation=bare)
    assert seg.build(dataclasses.replace(outcome, findings=findings)).SegmentsOverlap == "NO"


def one_millilitre(tilt_deg: float) -> Outcome:
    shape = cases.Shape(shape=(20, 96, 96), spacing=(0.5, 0.5, 3.0), tilt_deg=tilt_deg, tumour_mm=6.2)
    return cases.outcome(shape, evidence="retrospective")


@pytest.mark.parametrize("tilt_deg", [0.0, 17.0])
def test_contours_of_a_one_millilitre_tumour_keep_area_and_centroid(tmp_path: Path, tilt_deg: float) -> None:
    outcome = one_millilitre(tilt_deg)
    assert outcome.segmentation.volume_ml == pytest.approx(1.0, rel=0.05)
    rtstruct.write(outcome, tmp_path / "rtstruct.dcm")
    grid, mask = outcome.reference_volume.geometry, outcome.segmentation.tumour
    slices = {piece.sop_instance_uid: z for z, piece in enumerate(outcome.reference_volume.slices)}
    seen = set()
    for item in dcmread(tmp_path / "rtstruct.dcm").ROIContourSequence[0].ContourSequence:
        z = slices[item.ContourImageSequence[0].ReferencedSOPInstanceUID]
        seen.add(z)
        index = grid.to_index(np.array(item.ContourData, float).reshape(-1, 3))
        assert np.abs(index[:, 2] - z).max() < 1e-3
        x, y = index[:, 0], index[:, 1]
        cross = x * np.roll(y, -1) - np.roll(x, -1) * y
        area = cross.sum() / 2
        centre = [((v + np.roll(v, -1)) * cross).sum() / (6 * area) for v in (x, y)]
        rows, columns = np.nonzero(mask[z])
        assert area == pytest.approx(mask[z].sum(), rel=0.02)
        assert np.abs(np.array(centre) - [columns.mean(), rows.mean()]).max() < 0.1
    assert seen == set(np.flatnonzero(mask.any(axis=(1, 2))))


def test_rtstruct_says_whose_contour_it_is(tmp_path: Path) -> None:
    said = {}
    for evidence in ("synthetic", "prospective"):
        outcome = cases.outcome(evidence=evidence)
        rtstruct.write(outcome, tmp_path / "rtstruct.dcm")
        read = dcmread(tmp_path / "rtstruct.dcm")
        said[evidence] = (
            read.StructureSetROISequence[0].ROIName,
            read.RTROIObservationsSequence[0].RTROIInterpretedType or "",
        )
        assert read.ApprovalStatus == "UNAPPROVED"
        assert len(read.StructureSetLabel) <= 16
        assert "not registered to planning CT" in read.StructureSetDescription
        assert read.StructureSetROISequence[0].ROIGenerationAlgorithm == "AUTOMATIC"
        assert read.FrameOfReferenceUID == read.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    assert said == {"synthetic": ("zDEMO_GTVp", ""), "prospective": ("GTVp^AI", "GTV")}


def test_no_decimal_string_is_longer_than_sixteen_characters(tmp_path: Path) -> None:
    rtstruct.write(one_millilitre(17.0), tmp_path / "rtstruct.dcm")
    read = dcmread(tmp_path / "rtstruct.dcm")
    for item in read.ROIContourSequence[0].ContourSequence:
        raw = item.get_item("ContourData").value
        texts = raw.decode().split("\\") if isinstance(raw, bytes) else [str(v) for v in raw]
        assert max(len(text.strip()) for text in texts) <= 16
    for value in (-1 / 3, 1e-17, -0.0, 123456.789012345, -99999999.123456789, 1e15):
        assert len(dicom.decimal(value)) <= 16
        assert float(dicom.decimal(value)) == pytest.approx(value, rel=1e-7, abs=1e-8)
    with pytest.raises(ValueError, match="decimal string"):
        dicom.decimal(1e20)


def contents(item: Dataset) -> list[Dataset]:
    children = list(item.get("ContentSequence", []))
    return [*children, *(deeper for child in children for deeper in contents(child))]


def concepts(path: Path) -> dict[str, list[Dataset]]:
    found: dict[str, list[Dataset]] = {}
    for item in contents(dcmread(path)):
        if "ConceptNameCodeSequence" in item:
            found.setdefault(str(item.ConceptNameCodeSequence[0].CodeValue), []).append(item)
    return found


def test_the_score_is_a_probability_only_where_patients_calibrated_it(tmp_path: Path) -> None:
    write_sr(cases.outcome(evidence="synthetic"), tmp_path / "demo.dcm")
    write_sr(cases.outcome(evidence="retrospective"), tmp_path / "real.dcm")
    demo, real = concepts(tmp_path / "demo.dcm"), concepts(tmp_path / "real.dcm")
    assert "111047" not in demo
    assert float(demo["MODEL_SCORE"][0].MeasuredValueSequence[0].NumericValue) == pytest.approx(0.93)
    assert float(real["111047"][0].MeasuredValueSequence[0].NumericValue) == pytest.approx(93.0)
    assert "MODEL_SCORE" not in real


def test_sr_holds_one_category_per_edition_the_volume_and_its_segment(tmp_path: Path) -> None:
    outcome = cases.outcome()
    write_sr(outcome, tmp_path / "sr.dcm")
    found, read = concepts(tmp_path / "sr.dcm"), dcmread(tmp_path / "sr.dcm")
    assert (read.VerificationFlag, read.PreliminaryFlag) == ("UNVERIFIED", "PRELIMINARY")
    said = {
        item.ContentSequence[0].ConceptCodeSequence[0].CodeValue: item.ConceptCodeSequence[0].CodeValue
        for item in found["AI_IMAGING_T"]
    }
    assert said == {"897275008": "T2_AT_LEAST", "AJCC_V9_NPC": "T2"}
    volume = float(found["118565006"][0].MeasuredValueSequence[0].NumericValue)
    assert volume == pytest.approx(outcome.segmentation.volume_ml, abs=1e-3)
    reference = found["121191"][0].ReferencedSOPSequence[0]
    write_seg(outcome, tmp_path / "seg.dcm")
    assert reference.ReferencedSOPInstanceUID == dcmread(tmp_path / "seg.dcm").SOPInstanceUID
    assert reference.ReferencedSegmentNumber == 1
    comments = [item.TextValue for item in found["121106"]]
    assert any("RESEARCH USE ONLY" in text for text in comments)
    assert any(">= T2 (hypopharynx outside the field of view" in text for text in comments)


def test_without_a_suspicious_finding_no_lesion_is_named_and_no_structure_set_written(tmp_path: Path) -> None:
    files = publish.write(cases.outcome(finding="not_suspicious"), tmp_path / "out", False).files
    assert "rtstruct.dcm" not in {path.name for path in files}
    found = concepts(tmp_path / "out" / "sr.dcm")
    assert "121071" not in found
    assert "AI_IMAGING_T" not in found
    assert found["CONCLUSION"][0].ConceptCodeSequence[0].CodeValue == "NOT_SUSPICIOUS"


NAMES = {
    "latin": (b"ISO_IR 100", "Müller^Jörg".encode("latin-1")),
    "untagged gbk": (None, "王^小东".encode("gbk")),
    "utf-8": (b"ISO_IR 192", "王^小东=Wang^XiaoDong".encode()),
    "korean": (rb"\ISO 2022 IR 149", b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7"),
    "nonsense": (b"ANONYMIZED", b"a\\b^\xff\xfe"),
}


@pytest.mark.parametrize("case", NAMES)
def test_the_patient_module_arrives_byte_for_byte(tmp_path: Path, case: str) -> None:
    charset, name = NAMES[case]
    outcome = cases.outcome()
    assert outcome.study is not None
    study = dataclasses.replace(outcome.study, patient_module=cases.patient_module(charset, name))
    publish.write(dataclasses.replace(outcome, study=study), tmp_path / "out", False)
    for file in ("seg.dcm", "rtstruct.dcm", "sr.dcm"):
        data = (tmp_path / "out" / file).read_bytes()
        assert data[:128] == bytes(128)
        assert cases.element(0x0010, 0x0010, b"PN", name) in data
        tagged = b"\x08\x00\x05\x00CS" in data
        assert tagged == (charset is not None)
        if charset is not None:
            assert cases.element(0x0008, 0x0005, b"CS", charset) in data


def test_a_lost_patient_element_is_noticed_before_publishing(tmp_path: Path) -> None:
    outcome = cases.outcome()
    assert outcome.study is not None
    rtstruct.write(outcome, tmp_path / "rtstruct.dcm")
    other = dataclasses.replace(outcome.study, patient_module=cases.patient_module(name=b"Some^One"))
    with pytest.raises(OutputError, match="patient module"):
        rtstruct.check(dataclasses.replace(outcome, study=other), tmp_path / "rtstruct.dcm")


@pytest.mark.parametrize(
    ("write", "check"),
    [(write_seg, segments.check), (rtstruct.write, rtstruct.check)],
    ids=["SEG", "RTSTRUCT"],
)
def test_a_voxel_that_went_missing_is_noticed_before_publishing(
    tmp_path: Path, write: Callable[[Outcome, Path], None], check: Callable[[Outcome, Path], None]
) -> None:
    outcome = cases.outcome()
    write(outcome, tmp_path / "x.dcm")
    outcome.segmentation.tumour[tuple(np.argwhere(outcome.segmentation.tumour)[0])] = 0
    with pytest.raises(OutputError, match=r"meant|lacks"):
        check(outcome, tmp_path / "x.dcm")
