"""`npc-edge run` on several studies, on NIfTI files, and what it prints."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk
from cli import run

from npc_edge.bench.phantom.study import PhantomSpec, write_phantom


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two studies, `a` and `b`, the second without a T1."""
    root = tmp_path_factory.mktemp("run")
    for name, defect in (("a", None), ("b", "no-t1")):
        spec = PhantomSpec(stage="T1", seed=42, vendor="siemens", matrix=160, slices=24, defect=defect)
        (write_phantom(spec, root / f"made-{name}") / "study").rename(root / name)
    return root


def test_one_refusal_does_not_stop_the_others_and_the_worst_code_returns(
    phantoms: Path, tmp_path: Path
) -> None:
    ran = run(
        "run", phantoms / "b", phantoms / "a", "--out", tmp_path / "out", "--json", "--state", tmp_path / "s"
    )
    assert ran.returncode == 3
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert [line["outcome"] for line in lines] == ["no-result", "result"]
    assert ran.stderr.count("\n") == 1
    assert "NO_T1" in ran.stderr
    assert (tmp_path / "out" / "a" / "result.json").is_file()
    assert (tmp_path / "out" / "b" / "report.html").is_file()


def test_a_person_reads_a_few_lines(phantoms: Path, tmp_path: Path) -> None:
    ran = run("run", phantoms / "a", "--out", tmp_path / "out", "--state", tmp_path / "s")
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("a: research use only")
    assert f"report: {tmp_path / 'out' / 'report.html'}" in ran.stdout
    assert ran.stderr == ""
    assert (
        run("run", phantoms / "a", "--out", tmp_path / "o2", "--state", tmp_path / "s", "--quiet").stdout
        == ""
    )


def test_nifti_files_give_the_masks_and_no_dicom(phantoms: Path, tmp_path: Path) -> None:
    for name in ("t1", "t2"):
        series = next(f for f in (phantoms / "a").iterdir() if name in f.name.lower())
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(series)))
        sitk.WriteImage(reader.Execute(), str(tmp_path / f"{name}.nii.gz"))
    images = [part for name in ("t1", "t2") for part in ("--image", f"{name}={tmp_path / name}.nii.gz")]
    ran = run("run", *images, "--out", tmp_path / "out", "--state", tmp_path / "s")
    assert ran.returncode == 0, ran.stderr
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"result.json", "report.html", "tumour.nii.gz", "structures.nii.gz"}
    assert json.loads((tmp_path / "out" / "result.json").read_text())["study"] is None
