"""What several tests of reading start from."""

from pathlib import Path

import pytest

from .dicom_files import T1, T2, write_stack


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """T1 and T2 in sub-folders, among files that are not DICOM."""
    write_stack(tmp_path / "study" / "a", 1, **T1)
    write_stack(tmp_path / "study" / "b" / "c", 2, **T2)
    (tmp_path / "study" / "notes.txt").write_text("not DICOM")
    (tmp_path / "study" / "empty").touch()
    return tmp_path / "study"
