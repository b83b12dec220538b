"""Connected pieces of a set of voxels that is small beside its volume.

The work grows with the number of voxels in the set, not with that of the volume. Needs NumPy and
SciPy alone, as 3D Slicer's own process uses it too.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def connected_pieces(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> list[NDArray[np.intp]]:
    """Take a set of voxels apart into pieces whose voxels share faces.

    Args:
        voxels: Flat indices of the voxels in an array of that shape, ascending.
        shape: (K, J, I).

    Returns:
        The pieces as flat indices, ascending; the largest piece first, and of pieces of one size
        the one that begins first.
    """
    if not len(voxels):
        return []
    piece_of = _piece_of_each(voxels, shape)
    sizes = np.bincount(piece_of)
    members = np.split(voxels[np.argsort(piece_of, kind="stable")], np.cumsum(sizes)[:-1])
    return sorted(members, key=lambda piece: (-len(piece), piece[0]))


def centre_of(piece: NDArray[np.intp], shape: tuple[int, ...]) -> tuple[int, int, int]:
    """Return the (k, j, i) of a piece's own voxel that is nearest to its centre of mass.

    Args:
        piece: Flat indices of its voxels in an array of that shape.
        shape: (K, J, I).
    """
    where = np.stack(np.unravel_index(piece, shape), axis=1)
    nearest = ((where - where.mean(axis=0)) ** 2).sum(axis=1).argmin()
    k, j, i = (int(index) for index in where[nearest])
    return k, j, i


def _piece_of_each(voxels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.int32]:
    """Return the number of the piece that each voxel belongs to."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    links = []
    for axis in range(3):
        step = int(np.prod(shape[axis + 1 :], dtype=np.intp))
        first = np.flatnonzero(voxels // step % shape[axis] < shape[axis] - 1)
        second = np.searchsorted(voxels, voxels[first] + step)
        is_there = voxels[np.minimum(second, len(voxels) - 1)] == voxels[first] + step
        links.append(np.stack((first[is_there], second[is_there])))
    rows, columns = np.concatenate(links, axis=1)
    graph = coo_array(
        (np.ones(len(rows), dtype=np.int8), (rows, columns)), shape=(len(voxels), len(voxels))
    )
    pieces: NDArray[np.int32] = connected_components(graph, directed=False)[1]
    return pieces
