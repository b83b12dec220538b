"""What the panel says of how far INT8 agrees with FP32."""

from __future__ import annotations

from MedPTQSlicerLib.modelDetails import agreementText

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
