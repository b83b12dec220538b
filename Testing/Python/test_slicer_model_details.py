"""What the panel says of how far INT8 agrees with FP32."""

from __future__ import annotations

from MedPTQSlicerLib.modelDetails import agreementText, html
from MedPTQSlicerLib.modelState import Int8State, ModelState

WHOLE = {"voxels_equal": 0.99876, "least_alike": {"name": "Globus pallidus", "dice": 0.94321}}


def test_the_structure_that_is_least_alike_is_named() -> None:
    assert agreementText(WHOLE) == (
        "it finds the same as FP32 in 99.88 % of the voxels; "
        "least alike is Globus pallidus (Dice 0.9432)"
    )


def test_where_no_structure_was_found_or_measured_none_is_named() -> None:
    old = {"voxels_equal": 1.0}
    assert agreementText(old) == "it finds the same as FP32 in 100 % of the voxels"
    assert agreementText({**old, "least_alike": None}) == agreementText(old)
    assert agreementText({}) == ""


def test_a_name_from_a_card_is_text_and_no_markup() -> None:
    least = {"name": '<img src="x">', "dice": 0.5}
    int8 = Int8State("2026-11-22", 1, {"voxels_equal": 0.9, "least_alike": least}, True, 1.0)
    words = dict.fromkeys(("id", "title", "task", "modality", "region"), "net")
    words |= dict.fromkeys(("licence", "source", "citation"), "")
    flags = dict.fromkeys(("isImported", "isIncluded", "isDownloaded", "isFp32Ready"), True)
    shown = html(ModelState(**words, **flags, labels=(), sizeMb=1.0, card={}, int8=int8))
    assert "least alike is &lt;img src=&quot;x&quot;&gt; (Dice 0.5000)" in shown
    assert "<img" not in shown
