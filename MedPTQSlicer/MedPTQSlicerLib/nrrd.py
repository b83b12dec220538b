"""Writing a volume to an NRRD file, so that nothing of its geometry is lost.

NumPy alone: the file is written at the speed of the disk, in the volume's own voxel type, with
every number of its matrix in full. The format is described at
https://teem.sourceforge.net/nrrd/format.html.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from medptq.errors import OutputError
from medptq.scans.scan import Affine

_SLAB_BYTES = 16_000_000
_FLOAT_TYPES = {"float32": "float", "float64": "double"}  # integers go by NumPy's names


def writeNrrdSteps(
    array: NDArray[Any], ijkToRas: Affine, path: Path
) -> Generator[None, None, None]:
    """Write a volume, uncompressed, slab by slab; a file of that name is replaced.

    Args:
        array: Voxels [K, J, I], integers or floating-point numbers.
        ijkToRas: 4x4 matrix from (i, j, k, 1) to RAS in mm.
        path: The file, ``.nrrd``.

    Yields:
        None between the slabs, so that who writes it can do something else in between.

    Raises:
        OutputError: ``unwritable`` - the disk is full, or the folder may not be written to. No
            half of a file is left then, nor when the iterator is closed early.
    """
    i, j, k, origin = (_vector(column) for column in ijkToRas[:3].T)
    header = [
        "NRRD0004",
        f"type: {_FLOAT_TYPES.get(array.dtype.name, array.dtype.name)}",
        "dimension: 3",
        "space: right-anterior-superior",
        "sizes: {} {} {}".format(*array.shape[::-1]),
        f"space directions: {i} {j} {k}",
        "kinds: domain domain domain",
        f"endian: {sys.byteorder}",
        "encoding: raw",
        f"space origin: {origin}",
    ]
    planes = max(1, _SLAB_BYTES // array[:1].nbytes)
    try:
        with path.open("wb") as file:
            file.write("\n".join([*header, "", ""]).encode("ascii"))
            for start in range(0, len(array), planes):
                np.ascontiguousarray(array[start : start + planes]).tofile(file)
                yield
    except OSError as error:
        _removeQuietly(path)
        raise OutputError(
            "unwritable",
            f"{path} could not be written",
            why=error.strerror or str(error),
            todo="Free some space, or choose a folder that you may write to",
        ) from error
    except GeneratorExit:
        _removeQuietly(path)
        raise


def _removeQuietly(path: Path) -> None:
    with contextlib.suppress(OSError):  # which would hide the error that led here
        path.unlink(missing_ok=True)


def _vector(column: NDArray[np.float64]) -> str:
    return "({})".format(",".join(repr(float(part)) for part in column))
