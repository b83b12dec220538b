"""Where FP32 and INT8 differ: the map, the pieces, and where they lie in the patient."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from MedPTQSlicerLib.disagreement import DISAGREEMENT_LABELS, disagreementMap, findDisagreements
from MedPTQSlicerLib.geometry import worldPosition
from MedPTQSlicerLib.labelsToSegmentation import addSegmentation
from slicer_scenes import SlicerScene, slicer, tilted

SHAPES = hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Any, Any]:
    shape, dtype = draw(SHAPES), draw(st.sampled_from([np.uint8, np.uint16]))
    labels = hnp.arrays(dtype, shape, elements=st.integers(0, 2))
    return draw(labels), draw(labels)


@settings(max_examples=100)
@given(pairs())
def test_pieces_are_those_that_scipy_finds(pair: tuple[Any, Any]) -> None:
    fp32, int8 = pair
    pieces, count = ndimage.label(fp32 != int8)
    found = findDisagreements(fp32, int8)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:]
    assert [piece.voxels for piece in found] == sorted(sizes.tolist(), reverse=True)
    assert len({pieces[piece.centre] for piece in found} - {0}) == count
    for piece in found:
        mine = pieces == pieces[piece.centre]
        assert piece.voxels == mine.sum()
        for label, labels in ((piece.fp32, fp32), (piece.int8, int8)):
            counts = np.bincount(labels[mine])
            assert counts[label] == counts.max()


@settings(max_examples=50)
@given(pairs())
def test_the_map_says_how_they_differ(pair: tuple[Any, Any]) -> None:
    fp32, int8 = pair
    found = disagreementMap(fp32, int8)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found != 0, fp32 != int8)
    np.testing.assert_array_equal(found == 1, (fp32 != 0) & (int8 == 0))
    np.testing.assert_array_equal(found == 2, (fp32 == 0) & (int8 != 0))


def test_the_same_twice_has_none() -> None:
    labels = np.ones((3, 4, 5), np.uint8)
    assert findDisagreements(labels, labels) == ()
    assert not disagreementMap(labels, labels).any()


def test_many_pieces_are_cut_to_those_worth_a_look() -> None:
    fp32 = np.zeros((20, 20, 20), np.uint8)
    fp32[::2, ::2, ::2] = 1
    fp32[0, 0, :4] = 1
    found = findDisagreements(fp32, np.zeros_like(fp32))
    assert len(found) == 200
    assert found[0].voxels == 5  # 0 to 4, as one piece


def test_next_disagreement_goes_to_the_voxel_in_the_patient() -> None:
    scene = SlicerScene()
    fp32 = np.zeros((20, 30, 40), np.uint8)
    fp32[5:15, 5:15, 5:15] = 1
    int8 = fp32.copy()
    int8[5:8, 5:8, 5:8] = 0  # 27 voxels around (6, 6, 6)
    int8[18, 20, 30] = 2
    volume = scene.volume(fp32.astype(np.int16), tilted())
    large, small = findDisagreements(fp32, int8)
    assert (large.voxels, large.centre, large.fp32, large.int8) == (27, (6, 6, 6), 1, 0)
    assert (small.voxels, small.centre, small.fp32, small.int8) == (1, (18, 20, 30), 0, 2)
    expected = (tilted() @ [30, 20, 18, 1])[:3]
    np.testing.assert_allclose(worldPosition(volume, small.centre), expected)


def test_the_map_can_be_shown_as_a_segmentation() -> None:
    scene = SlicerScene()
    fp32 = np.zeros((4, 5, 6), np.uint8)
    int8 = fp32.copy()
    fp32[0, 0, 0], int8[1, 1, 1] = 1, 1
    volume = scene.volume(fp32.astype(np.int16), tilted())
    segmentation = addSegmentation(
        "Disagreement", disagreementMap(fp32, int8), DISAGREEMENT_LABELS, volume, "comparison"
    )
    inner = segmentation.GetSegmentation()
    names = [inner.GetNthSegment(index).GetName() for index in range(3)]
    assert names == ["Only in FP32", "Only in INT8", "Another structure"]
    assert isinstance(inner.GetNthSegment(0), slicer.vtkSegment)
    assert scene.segment_array(segmentation, "Label_2", volume)[1, 1, 1]
