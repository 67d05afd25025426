"""What the reader learns for the monitor: scanner, station, accession number; shown in no text of a value."""

from pathlib import Path

import pytest

from npc_edge.engine.study.read import Reader
from npc_edge.engine.types import Study

from .dicom_files import T1, T2, write_stack


def read(folder: Path) -> Study:
    with Reader() as reader:
        return reader.read(folder)


def test_scanner_and_accession_number_come_with_the_study(tmp_path: Path) -> None:
    names = {"StationName": "MR7", "ManufacturerModelName": "Model X", "AccessionNumber": "A 1"}
    write_stack(tmp_path, 1, **T1, **names)
    write_stack(tmp_path, 2, **T2, **names)
    study = read(tmp_path)
    assert study.accession_number == "A 1"
    assert [(s.acquisition.station, s.acquisition.model) for s in study.series] == [("MR7", "Model X")] * 2
    assert [name for name in ("MR7", "Model X", "A 1") if name in repr((study.series, study.skipped))] == []
    assert "accession_number" not in repr(study)


@pytest.mark.parametrize("number", ["A2", ""])
def test_several_accession_numbers_are_none(tmp_path: Path, number: str) -> None:
    write_stack(tmp_path, 1, **T1, AccessionNumber="A1")
    write_stack(tmp_path, 2, **T2, AccessionNumber=number)
    assert read(tmp_path).accession_number == ""
