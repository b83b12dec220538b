"""NIfTI files with a known geometry, and what reading says of one that it refuses."""

from __future__ import annotations

import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from medptq.errors import ScanError
from medptq.scans.reading import read_scan

SHAPE_IJK = (4, 5, 6)
ANGLES = st.tuples(*[st.floats(-math.pi, math.pi)] * 3)
"""How a scan may be turned, about each axis, for property tests."""
SIGNS = st.tuples(*[st.sampled_from([-1, 1])] * 3)
"""Along which of its axes a scan may be mirrored, likewise."""


def voxels(shape: tuple[int, ...] = SHAPE_IJK) -> np.ndarray:
    return np.arange(math.prod(shape), dtype=np.float32).reshape(shape)


def affine(angles: tuple[float, float, float] = (0, 0, 0), signs=(1, 1, 1)) -> np.ndarray:
    matrix = np.eye(4)
    rotation = Rotation.from_euler("xyz", angles).as_matrix()
    matrix[:3, :3] = rotation * np.array([0.7, 1.1, 3.0]) * np.array(signs)
    matrix[:3, 3] = [-81.25, 12.5, 140.0]
    return matrix


def save_nifti(path: Path, array: np.ndarray | None = None, matrix=None, qform=None) -> Path:
    array = voxels() if array is None else array
    matrix = affine() if matrix is None else matrix
    image = nib.Nifti1Image(array, None)
    image.header.set_zooms([0.7, 1.1, 3.0, 1.0][: array.ndim])
    image.set_sform(matrix, 2)
    image.set_qform(qform, 0 if qform is None else 1)
    nib.save(image, path)
    return path


def refusal(path: Path, channels: int = 1) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(path, channels)
    assert str(caught.value).endswith(".")
    return caught.value.code
