"""The scan: an image and where it lies in the patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
LabelArray: TypeAlias = NDArray[np.unsignedinteger]
Affine: TypeAlias = NDArray[np.float64]


@dataclass(frozen=True)
class Scan:
    """A 3D image with its geometry.

    Attributes:
        array: Intensities, float32, axes [C, K, J, I]; I runs along the first image axis, as in
            3D Slicer's ``arrayFromVolume``.
        ijk_to_ras: 4x4 matrix from voxel indices (i, j, k, 1) to patient coordinates in mm,
            right-anterior-superior, as in 3D Slicer and NIfTI.
        name: A name to show for it: the file's or the folder's, without the suffix. Never
            written to a log or a manifest, as it may name the patient.
        stored_ijk_to_ras: The same matrix to the last bit of the file's header, where that is
            known: MONAI takes another grid for a rounding error.
    """

    array: FloatArray
    ijk_to_ras: Affine
    name: str
    stored_ijk_to_ras: Affine | None = None

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (K, J, I)."""
        _, k, j, i = self.array.shape
        return k, j, i

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Voxel size in mm along (K, J, I)."""
        i, j, k = np.linalg.norm(self.ijk_to_ras[:3, :3], axis=0)
        return float(k), float(j), float(i)
