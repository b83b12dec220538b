"""What a segment is, in the terms of SNOMED CT, as Slicer stores it and DICOM SEG needs it."""

from __future__ import annotations

from medptq.models.segmentation_model import Coding

_CONTEXT = "Segmentation category and type - DICOM master list"
_REGION_CONTEXT = "Anatomic codes - DICOM master list"

_ANATOMY = Coding("123037004", "Anatomical Structure")
_TISSUE = Coding("85756007", "Tissue")
_ALTERED = Coding("49755003", "Morphologically Altered Structure")
_SUBSTANCE = Coding("91720002", "Body Substance")

# DICOM wants a category beside the type. These types are no anatomical structures in Slicer's
# DICOM master list: context groups 7166 and 7159 of DICOM PS3.16, and substances of the body.
_CATEGORY_OF = {
    **dict.fromkeys(
        (
            *("248300009", "12402003", "39937001", "71616004", "74135004", "13024002", "52082005"),
            *("21793004", "59820001", "20982000", "51114001", "29092000", "87612001", "59441001"),
            *("89890002", "83555006", "85756007", "113343008", "272673000", "309312004"),
            "119410002",
        ),
        _TISSUE,
    ),
    **dict.fromkeys(
        (
            *("4147007", "27925004", "367643001", "75753009", "55584005", "79654002", "50960005"),
            *("23583003", "44132006", "6574001", "86049000", "14799000", "108369006"),
        ),
        _ALTERED,
    ),
    **dict.fromkeys(("74947009", "39477002", "70150004", "78014005", "32457005"), _SUBSTANCE),
}


def terminologyOf(coding: Coding | None) -> str:
    """Return a segment's terminology entry in Slicer's serialized form.

    Args:
        coding: What the segment is, with its side or another modifier, and the region it lies in;
            without a coding it is a tissue, as Slicer's own new segments are.

    Returns:
        ``context~category~type~type modifier~region context~region~region modifier``, each of the
        concepts as ``scheme^code^meaning``.

    Example:
        >>> terminologyOf(Coding("12738006", "Brain")).split("~")[1:3]
        ['SCT^123037004^Anatomical Structure', 'SCT^12738006^Brain']
    """
    coding = coding or _TISSUE
    category = _CATEGORY_OF.get(coding.code, _ANATOMY)
    region = coding.region
    return "~".join(
        (
            _CONTEXT,
            _serialized(category),
            _serialized(coding),
            _serialized(coding.modifier),
            _REGION_CONTEXT,
            _serialized(region),
            _serialized(region.modifier if region else None),
        )
    )


def _serialized(coding: Coding | None) -> str:
    if coding is None:
        return "^^"
    # The form has no way to write its own separators, nor a segmentation's file to write "|".
    meaning = coding.meaning.translate(str.maketrans("~^|", "   "))
    return f"{coding.scheme}^{coding.code}^{meaning}"
