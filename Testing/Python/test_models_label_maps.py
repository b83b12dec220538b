"""Named label maps: that their codes are codes, and what a card may say with them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from medptq.errors import ModelError
from medptq.models import label_maps
from medptq.models.card import EXAMPLE, card_of, labels_of, model_of
from medptq.models.label_maps import label_map, label_map_names, with_codes
from medptq.models.segmentation_model import Coding, Label

SIZES = {
    "abdomenatlas-1.0": 9,
    "abdomenatlas-1.1": 25,
    "braincolor": 132,
    "btcv": 13,
    "dlmuse-12": 12,
    "msd-hippocampus": 2,
    "totalsegmentator-v1": 104,
    "totalsegmentator-v2": 117,
}
SIDES = {"right": "24028007", "left": "7771000"}

# The dihedral group of order 10, as Verhoeff's check digit uses it.
_TIMES = [
    [(i + j) % 5 if j < 5 else (i + j - 5) % 5 + 5 for j in range(10)]
    if i < 5
    else [(i - 5 - j) % 5 + 5 if j < 5 else (i - j) % 5 for j in range(10)]
    for i in range(10)
]
_PERMUTED = [list(range(10)), [1, 5, 7, 6, 2, 8, 3, 0, 9, 4]]
for _ in range(6):
    _PERMUTED.append([_PERMUTED[-1][digit] for digit in _PERMUTED[1]])


def is_snomed(code: str) -> bool:
    """Tell whether an SCTID's check digit and partition are those of a concept."""
    check = 0
    for place, digit in enumerate(reversed(code)):
        check = _TIMES[check][_PERMUTED[place % 8][int(digit)]]
    return check == 0 and code[-3:-1] in ("00", "10")


def codings(coding: Coding | None) -> Iterator[Coding]:
    if coding is not None:
        yield coding
        yield from codings(coding.modifier)
        yield from codings(coding.region)


def card(labels: Any) -> dict[str, Any]:
    return {**EXAMPLE, "labels": labels}


def test_the_check_tells_codes_from_typing_errors() -> None:
    assert is_snomed("10200004")
    assert is_snomed("24028007")
    assert not is_snomed("10200005")
    assert not is_snomed("12000004")


def test_these_are_all() -> None:
    assert {name: len(label_map(name).labels) for name in label_map_names()} == SIZES


@pytest.mark.parametrize("name", SIZES)
def test_every_code_is_a_concept_of_snomed(name: str) -> None:
    found = [code for label in label_map(name).labels for code in codings(label.coding)]
    assert found
    assert not [code for code in found if not is_snomed(code.code)]
    meanings: dict[str, set[str]] = {}
    for code in found:
        meanings.setdefault(code.code, set()).add(code.meaning)
    assert all(len(names) == 1 for names in meanings.values())


@pytest.mark.parametrize("name", SIZES)
def test_values_names_and_sides_fit(name: str) -> None:
    labels = label_map(name).labels
    assert [label.value for label in labels] == list(range(1, len(labels) + 1))
    assert len({label.name for label in labels}) == len(labels)
    for label in labels:
        sides = [side for side in SIDES if side in re.split(r"[^a-z]+", label.name.lower())]
        found = {code.code for code in codings(label.coding)} & set(SIDES.values())
        names_it = label.coding is not None and any(
            side in label.coding.meaning.lower() for side in sides
        )  # "Middle lobe of right lung"
        if label.coding is not None and not names_it:
            assert found == {SIDES[side] for side in sides}, label


@pytest.mark.parametrize("name", SIZES)
def test_two_structures_are_never_coded_the_same(name: str) -> None:
    coded = [label.coding for label in label_map(name).labels if label.coding is not None]
    assert len(set(coded)) == len(coded)


def test_a_map_is_read_without_anything_heavy() -> None:
    code = (
        "import sys\n"
        "from medptq.models.label_maps import label_map\n"
        "assert label_map('btcv').labels\n"
        "heavy = {'torch', 'monai', 'onnx', 'openvino', 'scipy', 'SimpleITK'}\n"
        "assert not heavy & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_card_names_a_map_in_place_of_a_list() -> None:
    model = model_of(card("totalsegmentator-v2"), Path("network.onnx"), "The card")
    assert model.classes == 118
    assert model.labels == label_map("totalsegmentator-v2").labels
    assert labels_of(card("btcv"))[5].name == "Liver"
    kidney = model.labels[1]
    assert kidney.name == "kidney_right"
    assert kidney.coding == Coding("64033007", "Kidney", modifier=Coding("24028007", "Right"))
    # What is written is whole: it does not change as the program's maps do.
    written = card_of(model)
    assert isinstance(written["labels"], list)
    assert model_of(written, Path("network.onnx"), "The card") == model


def test_other_fields_may_name_its_values() -> None:
    found = card("btcv") | {"postprocessing": [{"step": "largest_component", "labels": [13]}]}
    assert model_of(found, Path("n.onnx"), "The card").postprocessing[0]["labels"] == [13]
    found["postprocessing"][0]["labels"] = [14]
    with pytest.raises(ModelError, match="14"):
        model_of(found, Path("n.onnx"), "The card")


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ("totalsegmentator", "totalsegmentator-v2"),
        ("../card", "it is not one of"),
        ("", "it is not one of"),
        ([], '"labels" must contain'),
        (3, '"labels" must be'),
        (
            [
                {
                    "value": 1,
                    "name": "L",
                    "color": [1, 2, 3],
                    "snomed": {"code": "1", "meaning": "L"},
                }
            ],
            "6 to 18 digits",
        ),
        (
            [
                {
                    "value": 1,
                    "name": "L",
                    "color": [1, 2, 3],
                    "snomed": {"code": "10200004", "meaning": "L", "modifier": {"code": "7771000"}},
                }
            ],
            'lacks the field "meaning"',
        ),
    ],
)
def test_what_is_refused(labels: Any, words: str) -> None:
    with pytest.raises(ModelError) as caught:
        model_of(card(labels), Path("network.onnx"), "The card")
    assert caught.value.code == "model.card"
    assert words in str(caught.value)


def test_a_damaged_map_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"schema": 1, "title": "Mine", "sources": ["me"], "labels": [{"value": 0}]}
    (tmp_path / "mine.json").write_text(json.dumps(content), encoding="utf-8")
    monkeypatch.setattr(label_maps, "_FOLDER", tmp_path)
    with pytest.raises(ModelError, match="label map mine"):
        label_map("mine")


def test_codes_are_found_by_value_where_the_values_are_the_same() -> None:
    known = label_map("msd-hippocampus").labels
    own = (Label(2, "class 2", (0, 0, 0)), Label(1, "class 1", (0, 0, 0)))
    assert with_codes(own, known) == (known[1], known[0])


def test_codes_are_found_by_name_in_a_part_of_a_map() -> None:
    grey = (128, 128, 128)
    own = (Label(1, "Vertebrae L5", grey), Label(2, "sacrum", grey), Label(3, "screw", grey))
    found = with_codes(own, label_map("totalsegmentator-v2").labels)
    assert [label.value for label in found] == [1, 2, 3]
    assert [label.name for label in found] == ["vertebrae_L5", "sacrum", "screw"]
    assert [label.coding.code if label.coding else None for label in found] == [
        "49668003",
        "54735007",
        None,
    ]
    assert found[2] == own[2]


def test_a_name_that_contradicts_a_value_is_believed() -> None:
    known = label_map("msd-hippocampus").labels
    own = (Label(1, "Posterior hippocampus", (0, 0, 0)), Label(2, "other", (0, 0, 0)))
    found = with_codes(own, known)
    assert (found[0].value, found[0].coding) == (1, known[1].coding)
    assert found[1] == own[1]
