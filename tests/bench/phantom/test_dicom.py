import json
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import outside
import pytest
import SimpleITK as sitk
from phantom_scene import acquired, write_study
from pydicom import dcmread

from npc_edge.bench.phantom.dicom import stored_slices
from npc_edge.bench.phantom.protocol import PhantomSpec, draw_protocol
from npc_edge.bench.phantom.study import write_phantom
from npc_edge.bench.phantom.vendors import Vendor
from npc_edge.engine.errors import UsageError

SMALL = PhantomSpec("T2", 8, matrix=64, slices=10, with_contrast=True, fat_sat=True)
VENDORS: tuple[Vendor, ...] = ("siemens", "ge", "philips", "uih")

Slices = dict[tuple[float, ...], np.ndarray]


def files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def real_values(folder: Path) -> dict[str, Slices]:
    """Series → position → real values, by a reader of its own for both kinds of object."""
    found: dict[str, Slices] = {}
    for path in files(folder):
        data = dcmread(path)
        name = str(data.SeriesDescription)
        if "NumberOfFrames" not in data:
            slope, intercept = float(data.get("RescaleSlope", 1)), float(data.get("RescaleIntercept", 0))
            key = tuple(round(float(v), 5) for v in data.ImagePositionPatient)
            found.setdefault(name, {})[key] = data.pixel_array * slope + intercept
            continue
        for frame, pixels in zip(data.PerFrameFunctionalGroupsSequence, data.pixel_array, strict=True):
            key = tuple(round(float(v), 5) for v in frame.PlanePositionSequence[0].ImagePositionPatient)
            value = frame.PixelValueTransformationSequence[0]
            found.setdefault(name, {})[key] = pixels * float(value.RescaleSlope) + float(
                value.RescaleIntercept
            )
    return found


@pytest.mark.parametrize("enhanced", [False, True])
@pytest.mark.parametrize("vendor", VENDORS)
def test_dciodvfy_finds_no_error(vendor: Vendor, enhanced: bool, tmp_path: Path) -> None:
    dciodvfy = outside.tool("dciodvfy")
    # over seeds that draw every way of fat suppression
    for seed in (1, 15, 17):
        spec = replace(SMALL, vendor=vendor, enhanced=enhanced, seed=seed, oblique=seed == 15)
        for folder in sorted(write_study(spec, tmp_path / str(seed)).iterdir()):
            path = files(folder)[-1]
            said = subprocess.run([dciodvfy, str(path)], capture_output=True, text=True, check=False)
            assert "Error" not in said.stderr + said.stdout, f"{path}: {said.stderr}"


def test_dcm2niix_agrees_on_place_and_values(tmp_path: Path) -> None:
    dcm2niix = outside.tool("dcm2niix")
    spec = replace(SMALL, vendor="philips", oblique=True, with_contrast=False)
    write_study(spec, tmp_path / "study")
    (tmp_path / "out").mkdir()
    command = [dcm2niix, "-z", "n", "-f", "%d", "-o", str(tmp_path / "out"), str(tmp_path / "study")]
    subprocess.run(command, capture_output=True, check=True)
    _, series = acquired(spec)
    for one in series[1:]:
        geometry, _ = one.stacks[0]
        image = sitk.ReadImage(str(tmp_path / "out" / f"{one.plan.description}.nii"))
        assert sorted(image.GetSize()) == sorted(geometry.shape)
        for index in ([0, 0, 0], [63, 0, 0], [0, 63, 9], [20, 30, 5]):
            world = geometry.to_world([index])[0]
            back = image.TransformPhysicalPointToContinuousIndex(world.tolist())
            np.testing.assert_allclose(np.array(back), np.round(back), atol=0.01)
            stored = stored_slices(one, "philips")[index[2]]
            real = stored.pixels[index[1], index[0]] * stored.slope + stored.intercept
            nearest = [round(v) for v in back]
            assert image.GetPixel(nearest) == pytest.approx(real, abs=0.01)


@pytest.mark.parametrize("vendor", VENDORS)
def test_enhanced_and_reversed_hold_the_same_values_in_the_same_places(
    vendor: Vendor, tmp_path: Path
) -> None:
    spec = replace(SMALL, vendor=vendor)
    plain = real_values(write_study(spec, tmp_path / "plain"))
    assert {len(slices) for slices in plain.values()} == {9, 10}
    for name, other in (
        ("enhanced", replace(spec, enhanced=True)),
        ("reversed", replace(spec, reversed=True)),
    ):
        same = real_values(write_study(other, tmp_path / name))
        assert same.keys() == plain.keys()
        for series, slices in plain.items():
            assert same[series].keys() == slices.keys()
            for place, values in slices.items():
                np.testing.assert_array_equal(same[series][place], values)


def test_reversed_numbers_the_other_way(tmp_path: Path) -> None:
    def heights(spec: PhantomSpec, folder: Path) -> list[float]:
        headers = [dcmread(p, stop_before_pixels=True) for p in files(write_study(spec, folder))]
        t1 = [h for h in headers if float(h.EchoTime) < 30 and h.SeriesNumber == 2]
        return [float(h.ImagePositionPatient[2]) for h in sorted(t1, key=lambda h: int(h.InstanceNumber))]

    spec = next(
        s for s in (replace(SMALL, seed=n) for n in range(20)) if draw_protocol(s).plan("T1").number == 2
    )
    up = heights(spec, tmp_path / "a")
    assert up == sorted(up)
    assert heights(replace(spec, reversed=True), tmp_path / "b") == up[::-1]


def test_philips_scales_every_slice_on_its_own(tmp_path: Path) -> None:
    spec = replace(SMALL, vendor="philips")
    headers = [dcmread(p) for p in files(write_study(spec, tmp_path))]
    t1 = [h for h in headers if h.SeriesDescription == draw_protocol(spec).plan("T1").description]
    assert len({str(h.RescaleSlope) for h in t1}) > 5
    assert len({str(h.RescaleIntercept) for h in t1}) > 1
    _, series = acquired(spec)
    one = next(s for s in series if s.plan.role == "T1")
    voxels = one.stacks[0][1]
    stored = stored_slices(one, "philips")
    real = np.stack([s.pixels * s.slope + s.intercept for s in stored])
    level = real.max() / voxels.max()
    np.testing.assert_allclose(real, voxels * level, atol=1.0 + 0.001 * real.max())


def test_headers_say_what_they_must(tmp_path: Path) -> None:
    spec = SMALL
    headers = [dcmread(p, stop_before_pixels=True) for p in files(write_study(spec, tmp_path))]
    assert {h.QualityControlSubject for h in headers} == {"YES"}
    assert {str(h.PatientName) for h in headers} == {"PHANTOM^SEED8"}
    for keyword in ("FrameOfReferenceUID", "StudyInstanceUID", "PatientID"):
        assert len({h[keyword].value for h in headers}) == 1
    assert len({h.SeriesInstanceUID for h in headers}) == 4
    assert len({h.SOPInstanceUID for h in headers}) == len(headers)
    assert all(h.SOPInstanceUID.startswith("2.25.") and len(h.SOPInstanceUID) <= 64 for h in headers)
    scout = [h for h in headers if h.SeriesNumber == 1]
    assert len({tuple(h.ImageOrientationPatient) for h in scout}) == 3
    post = [h for h in headers if "ContrastBolusAgent" in h]
    pre = [h for h in headers if "ContrastBolusAgent" not in h]
    assert len(post) == 10
    assert min(h.AcquisitionTime for h in post) > max(h.AcquisitionTime for h in pre)
    assert all(h.AcquisitionTime > h.ContrastBolusStartTime for h in post)
    assert any(word in post[0].SeriesDescription.lower() for word in ("+c", "gd"))


def test_the_protocol_stays_within_what_scanners_do() -> None:
    suppressed = 0
    for seed in range(60):
        spec = PhantomSpec(seed=seed, vendor=VENDORS[seed % 4], oblique=seed % 3 == 0)
        protocol = draw_protocol(spec)
        t1, t2 = protocol.plan("T1"), protocol.plan("T2")
        suppressed += t2.parameters.fat_suppression != "none"
        for plan in (t1, t2):
            assert plan.geometry is not None
            x, y, z = plan.geometry.spacing
            assert 0.39 <= x == pytest.approx(y)
            assert x <= 0.93
            assert 3 <= plan.thickness_mm <= 6
            assert 0 <= z - plan.thickness_mm <= 1.0001
            assert 24 <= plan.geometry.shape[0] <= 40
            assert plan.geometry.plane() == "axial"
            assert (plan.geometry.tilt_deg() > 7) == spec.oblique
        assert 400 <= t1.parameters.tr_ms <= 800
        assert 8 <= t1.parameters.te_ms <= 20
        assert 2500 <= t2.parameters.tr_ms <= 6000
    assert 12 <= suppressed <= 32


def test_a_phantom_with_its_truth_twice_the_same_bytes(tmp_path: Path) -> None:
    spec = PhantomSpec("T1", 3, "uih", matrix=96, slices=14)
    first, second = (write_phantom(spec, tmp_path / name) for name in "ab")
    assert [p.relative_to(first) for p in files(first)] == [p.relative_to(second) for p in files(second)]
    for one, two in zip(files(first), files(second), strict=True):
        assert one.read_bytes() == two.read_bytes(), one
    truth = json.loads((first / "truth/truth.json").read_text())
    assert truth["npc"] is True
    assert (truth["ajcc8"], truth["ajcc9"], truth["seed"]) == ("T1", "T1", 3)
    tumour = sitk.ReadImage(str(first / "truth/tumour.nii.gz"))
    structures = sitk.ReadImage(str(first / "truth/structures.nii.gz"))
    geometry = draw_protocol(spec).plan("T1").geometry
    assert geometry is not None
    assert tumour.GetSize() == structures.GetSize() == geometry.shape[::-1]
    np.testing.assert_allclose(tumour.GetOrigin(), geometry.origin, atol=1e-3)
    mask = sitk.GetArrayFromImage(tumour)
    assert set(np.unique(mask)) == {0, 1}
    millilitres = float(mask.sum()) * geometry.voxel_mm3 / 1000
    assert millilitres == pytest.approx(truth["tumour_mask_ml"], rel=1e-3)
    assert millilitres == pytest.approx(truth["tumour_volume_ml"], rel=0.35)
    assert len(np.unique(sitk.GetArrayFromImage(structures))) > 12
    assert {c["structure"] for c in truth["criteria"] if c["invaded"]} >= {"nasopharynx"}


def test_a_healthy_phantom_has_no_category(tmp_path: Path) -> None:
    out = write_phantom(PhantomSpec(seed=2, matrix=64, slices=12), tmp_path / "new" / "healthy")
    truth = json.loads((out / "truth/truth.json").read_text())
    assert truth["npc"] is False
    assert truth["ajcc8"] is truth["ajcc9"] is None
    assert truth["tumour_volume_ml"] == 0
    assert not sitk.GetArrayFromImage(sitk.ReadImage(str(out / "truth/tumour.nii.gz"))).any()


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/notes").write_text("keep")
    with pytest.raises(UsageError, match="not an empty folder"):
        write_phantom(PhantomSpec(matrix=64, slices=8), tmp_path / "mine")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "notes"]
    with pytest.raises(UsageError, match="no defect"):
        write_phantom(PhantomSpec(defect="nonsense"), tmp_path / "other")
    assert not (tmp_path / "other").exists()
