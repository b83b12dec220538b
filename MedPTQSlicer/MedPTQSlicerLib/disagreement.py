"""Where two label maps of one volume differ: what to show, and where to jump to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medptq.models.segmentation_model import Label
from medptq.scans.scan import LabelArray

DISAGREEMENT_LABELS = (
    Label(1, "Only in FP32", (240, 110, 60)),
    Label(2, "Only in INT8", (70, 190, 235)),
    Label(3, "Another structure", (245, 225, 80)),
)
"""The structures of :func:`disagreementMap`."""

_MOST = 200  # that anyone would step through


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


def disagreementMap(fp32: LabelArray, int8: LabelArray) -> LabelArray:
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


def findDisagreements(fp32: LabelArray, int8: LabelArray) -> tuple[Disagreement, ...]:
    """Return the connected pieces of what differs, the largest first, 200 at most.

    The work grows with the number of voxels that differ, not with that of the volume.

    Args:
        fp32: Label map, [K, J, I].
        int8: Label map of the same shape.
    """
    flat = np.flatnonzero(fp32 != int8)
    if not len(flat):
        return ()
    pieces = _connected(flat, fp32.shape)
    where = np.stack(np.unravel_index(flat, fp32.shape), axis=1)
    labels = np.stack((fp32.ravel()[flat], int8.ravel()[flat]), axis=1)
    sizes = np.bincount(pieces)
    members = np.split(np.argsort(pieces, kind="stable"), np.cumsum(sizes)[:-1])
    largest = np.argsort(-sizes, kind="stable")[:_MOST]
    return tuple(_piece(where[members[piece]], labels[members[piece]]) for piece in largest)


def _connected(flat: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the number of the connected piece that each voxel belongs to.

    Args:
        flat: Flat indices of the voxels in an array of that shape, ascending.
        shape: (K, J, I).
    """
    from scipy import sparse

    links = []
    for axis in range(3):
        step = int(np.prod(shape[axis + 1 :], dtype=np.intp))
        first = np.flatnonzero(flat // step % shape[axis] < shape[axis] - 1)
        second = np.searchsorted(flat, flat[first] + step)
        isThere = flat[np.minimum(second, len(flat) - 1)] == flat[first] + step
        links.append(np.stack((first[isThere], second[isThere])))
    rows, columns = np.concatenate(links, axis=1)
    graph = sparse.coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(flat), len(flat))
    )
    pieces: NDArray[np.int32] = sparse.csgraph.connected_components(graph, directed=False)[1]
    return pieces


def _piece(where: NDArray[np.intp], labels: NDArray[np.unsignedinteger[Any]]) -> Disagreement:
    nearest = ((where - where.mean(axis=0)) ** 2).sum(axis=1).argmin()
    k, j, i = (int(index) for index in where[nearest])
    fp32, int8 = (int(np.bincount(column).argmax()) for column in labels.T)
    return Disagreement(voxels=len(where), centre=(k, j, i), fp32=fp32, int8=int8)
