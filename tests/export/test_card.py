"""The card repeats the manifest's parity: once, wherever it stands, and nothing else of it changes."""

from npc_edge.engine.model.manifest import NetworkSpec
from npc_edge.export.card import with_parity

ROW = {"backend": "openvino", "precision": "int8-u8s8", "isa": "avx512_vnni", "max_relative_error": 0.03}
MEASURED = {
    **{"dice": 0.9912, "score_shift": 0.0042, "delta_dice": -0.0007},
    **{"cases": 40, "category_changes": 0, "category_bound": 0.0722},
}
CARD = "# mine 1\n\nWords.\n\n## Credits\n\n- me\n"


def network(**row: object) -> NetworkSpec:
    return NetworkSpec.model_validate(
        {
            **{"name": "npc", "region": "whole", "inputs": ["t1"], "spacing": [1, 1, 1], "window": [8, 8, 8]},
            **{"normalisation": {"method": "zscore"}, "outputs": [{"name": "tumour", "kind": "tumour"}]},
            "artefacts": [
                {"precision": "int8-u8s8", "file": "artefacts/npc.int8-u8s8.onnx", "parity": [row]}
            ],
        }
    )


def test_a_row_of_the_manifest_becomes_a_row_of_the_card() -> None:
    made = with_parity(CARD, [network(**ROW, **MEASURED)])
    assert made.startswith(CARD)
    head, rule, row = [line for line in made.splitlines() if line.startswith("|")]
    assert row == (
        "| npc.int8-u8s8.onnx | openvino int8-u8s8 avx512_vnni | 40 | 3.0e-02 | -0.0007, 0.9912 | 0.0042 "
        "| 0 (≤ 7.2%) |"
    )
    assert head.count("|") == rule.count("|") == row.count("|") == 8


def test_measured_again_it_takes_the_place_of_what_was_there() -> None:
    first = with_parity(CARD, [network(**ROW, **MEASURED)])
    again = with_parity(first, [network(**ROW, **{**MEASURED, "dice": 0.5})])
    assert again == first.replace("0.9912", "0.5000")
    followed = with_parity(f"{first}\n## More\n\nof it\n", [network(**ROW, **MEASURED)])
    assert followed == f"{first}\n## More\n\nof it\n"


def test_what_was_measured_on_no_case_is_not_in_it() -> None:
    assert with_parity(CARD, [network(**ROW)]) == CARD


def test_a_network_without_score_or_category_says_so() -> None:
    made = with_parity(CARD, [network(**ROW, cases=3, delta_dice=0.001, dice=0.9, category_changes=0)])
    assert made.splitlines()[-1].endswith("| +0.0010, 0.9000 | none | 0 (≤ none) |")
