"""Where two label maps of one volume differ: what to show, and where to jump to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medptq.evaluate.pieces import centre_of, connected_pieces
from medptq.models.segmentation_model import Label

DISAGREEMENT_LABELS = (
    Label(1, "Only in FP32", (240, 110, 60)),
    Label(2, "Only in INT8", (70, 190, 235)),
    Label(3, "Another structure", (245, 225, 80)),
)
"""The structures of :func:`disagreementMap`."""

MOST_DISAGREEMENTS = 200
"""That are listed; no one would step through more."""


@dataclass(frozen=True)
class Disagreement:
    """A connected piece of what differs (face-connected voxels).

    Attributes:
        voxels: Its size.
        centre: Index (k, j, i) of the piece's own voxel nearest to its centre of mass;
            :func:`MedPTQSlicerLib.geometry.worldPosition` says where that is in the patient.
        fp32: What FP32 has found in most of it.
        int8: What INT8 has found in most of it.
    """

    voxels: int
    centre: tuple[int, int, int]
    fp32: int
    int8: int


def disagreementMap(
    fp32: NDArray[np.integer[Any]], int8: NDArray[np.integer[Any]]
) -> NDArray[np.uint8]:
    """Return a label map of the voxels that differ; see :data:`DISAGREEMENT_LABELS`.

    Args:
        fp32: Label map, [K, J, I].
        int8: Label map of the same shape.

    Returns:
        uint8 [K, J, I]: 0 where both are the same, 1 where only ``fp32`` has found something, 2
        where only ``int8`` has, 3 where they have found two different structures.
    """
    found = np.zeros(fp32.size, np.uint8)
    flat = np.flatnonzero(fp32 != int8)
    found[flat] = (fp32.ravel()[flat] != 0) + 2 * (int8.ravel()[flat] != 0)
    return found.reshape(fp32.shape)


def findDisagreements(
    fp32: NDArray[np.integer[Any]], int8: NDArray[np.integer[Any]]
) -> tuple[Disagreement, ...]:
    """Return the connected pieces of what differs, the largest first, 200 at most.

    The work grows with the number of voxels that differ, not with that of the volume.

    Args:
        fp32: Label map, [K, J, I].
        int8: Label map of the same shape.
    """
    pieces = connected_pieces(np.flatnonzero(fp32 != int8), fp32.shape)

    def mostly(labels: NDArray[np.integer[Any]], piece: NDArray[np.intp]) -> int:
        return int(np.bincount(labels.ravel()[piece]).argmax())

    return tuple(
        Disagreement(
            voxels=len(piece),
            centre=centre_of(piece, fp32.shape),
            fp32=mostly(fp32, piece),
            int8=mostly(int8, piece),
        )
        for piece in pieces[:MOST_DISAGREEMENTS]
    )
