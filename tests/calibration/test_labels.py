"""Labels from a table: what is taken, and that every fault names its line and quotes nothing."""

import pytest

from npc_edge.calibration.labels import COLUMNS, UNKNOWN, LabelFault, criteria_of, read_labels
from npc_edge.calibration.record import Truth

STRUCTURES = {"clivus", "parotid"}
CASES = {"A1": ("c1",), "A2": ("c2",), "TWO": ("c3", "c4")}


def find(accession: str, case: str) -> tuple[str, ...]:
    return CASES.get(accession, ()) if accession else (case,) if case.startswith("c") else ()


def faults(text: str, skip_unknown: bool = False) -> list[tuple[int, str]]:
    with pytest.raises(LabelFault) as caught:
        read_labels(text, find, STRUCTURES, 7, skip_unknown)
    return caught.value.faults


def test_a_table_that_says_everything() -> None:
    text = ",".join(COLUMNS) + "\n"
    text += "A1,,biopsy,2026-05-12,yes,t3,ajcc9,clivus=yes parotid.left=no,corrected,0.8\n"
    text += ',,,,,,,,,\n,c9,Radiologist,2026-05-13,,,,,"accept",\n'
    found = read_labels(text, find, STRUCTURES, 7)
    criteria = {"clivus": True, "parotid.left": False}
    assert found.truths == (
        Truth("c1", 7, "biopsy", "2026-05-12", True, "T3", "ajcc9", criteria, "corrected", 0.8),
        Truth("c9", 7, "radiologist", "2026-05-13", review="accept"),
    )
    assert found.unknown == 0


def test_columns_in_any_order_semicolons_and_a_decimal_comma() -> None:
    text = "npc;Date ; dice;source;accession_number;review\n1;2026-05-12;0,75;biopsy; A2 ;corrected\n"
    (truth,) = read_labels(text, find, STRUCTURES, 7).truths
    assert truth == Truth("c2", 7, "biopsy", "2026-05-12", True, review="corrected", dice=0.75)


def test_every_wrong_row_is_named_by_its_line() -> None:
    rows = {
        2: "A1,biopsy,2026-05-12,perhaps,,",
        3: "A1,hearsay,2026-05-12,yes,,",
        4: "A1,biopsy,12.5.2026,yes,,",
        5: "A1,biopsy,2026-05-12,yes,T7,",
        6: "A1,biopsy,2026-05-12,no,T2,",
        7: "A1,biopsy,2026-05-12,,,",
        8: "A1,biopsy,2026-05-12,yes,,spleen=yes",
        9: "A1,biopsy,2026-05-12,yes,,clivus",
        10: "A1,biopsy,2026-05-12,yes,,parotid.behind=yes",
        11: "NEVER,biopsy,2026-05-12,yes,,",
        12: "TWO,biopsy,2026-05-12,yes,,",
        13: ",biopsy,2026-05-12,yes,,",
    }
    text = "accession_number,source,date,npc,t_category,criteria\n" + "\n".join(rows.values())
    found = faults(text)
    assert [line for line, _ in found] == list(rows)
    assert dict(found)[11] == UNKNOWN
    assert [line for line, _ in faults(text, skip_unknown=True)] == [line for line in rows if line != 11]
    said = " ".join(why for _, why in found)
    for value in ("perhaps", "hearsay", "12.5", "T7", "spleen", "behind", "NEVER", "TWO", "A1"):
        assert value not in said


def test_rows_of_studies_never_run_may_be_left_out() -> None:
    rows = [f"{number},biopsy,2026-05-12,no" for number in ("X", "A1", "Y")]
    text = "\n".join(["accession_number,source,date,npc", *rows])
    found = read_labels(text, find, STRUCTURES, 7, skip_unknown=True)
    assert [truth.case_key for truth in found.truths] == ["c1"]
    assert found.unknown == 2


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no header"),
        ("MARY SMITH,1234567,biopsy\n", "column 1, 2, 3 is none of them"),
        ("accession_number,npc,npc\n", "twice"),
        ("source,date,npc\n", "neither a column"),
        ("accession_number,source,date\nA1,biopsy\n", "not as many cells"),
        ('accession_number,source,date\n"A1,biopsy,2026', "quotes"),
    ],
)
def test_what_is_no_table_is_refused_without_quoting_it(text: str, why: str) -> None:
    ((_, said),) = faults(text)
    assert why in said
    assert "SMITH" not in said
    assert "1234567" not in said


def test_many_faults_make_one_line() -> None:
    fault = LabelFault([(line, "wrong") for line in range(2, 20)])
    assert fault.one_line(2) == "line 2: wrong; line 3: wrong; and 16 more"


def test_criteria_by_name_and_side() -> None:
    found = criteria_of(["CLIVUS=No", "parotid.right=1"], STRUCTURES)
    assert found == {"clivus": False, "parotid.right": True}
