"""Connected pieces of few voxels, held against scipy's labelling of the whole volume."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from medptq.evaluate.pieces import centre_of, connected_pieces

MASKS = hnp.arrays(bool, hnp.array_shapes(min_dims=3, max_dims=3, min_side=1, max_side=6))


@settings(max_examples=150)
@given(MASKS)
def test_they_are_those_that_scipy_finds(mask):
    labelled, count = ndimage.label(mask)
    pieces = connected_pieces(np.flatnonzero(mask), mask.shape)
    assert len(pieces) == count
    assert [len(piece) for piece in pieces] == sorted(map(len, pieces), reverse=True)
    for piece in pieces:
        number = labelled.ravel()[piece[0]]
        np.testing.assert_array_equal(piece, np.flatnonzero(labelled == number))


@settings(max_examples=50)
@given(MASKS.filter(np.any), st.data())
def test_the_centre_is_the_nearest_of_its_own_voxels(mask, data):
    pieces = connected_pieces(np.flatnonzero(mask), mask.shape)
    piece = data.draw(st.sampled_from(pieces))
    where = np.stack(np.unravel_index(piece, mask.shape), axis=1)
    distances = np.linalg.norm(where - where.mean(axis=0), axis=1)
    nearest = where[np.isclose(distances, distances.min())].tolist()
    assert list(centre_of(piece, mask.shape)) in nearest


def test_it_needs_nothing_that_slicer_lacks():
    code = (
        "import sys, medptq.evaluate.pieces as p, numpy as np\n"
        "p.connected_pieces(np.arange(3), (1, 1, 3))\n"
        "assert not {'torch', 'monai', 'onnx', 'psutil'} & sys.modules.keys()\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
