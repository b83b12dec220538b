"""Where the frames of one DICOM file lie.

ITK stacks the frames of an enhanced object (multi-frame MR or CT) as they come, at the distance of
two of them, and SimpleITK does not show the sequences that say where each lies.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_PER_FRAME = "PerFrameFunctionalGroupsSequence"


def frame_positions(path: Path) -> NDArray[np.float64] | None:
    """Return the LPS position of the first voxel of each frame in mm, [frames, 3], in file order.

    Args:
        path: A DICOM file.

    Returns:
        None if the file has no groups for its frames, as those of other kinds than enhanced ones.

    Raises:
        ValueError: It has such groups, and they do not say where the frames lie.
    """
    import pydicom  # 0.2 s that few scans need

    with warnings.catch_warnings():
        # They may quote what the file says of the patient.
        warnings.simplefilter("ignore")
        file = pydicom.dcmread(
            path, stop_before_pixels=True, force=True, specific_tags=[_PER_FRAME]
        )
        if _PER_FRAME not in file:
            return None
        try:
            return np.array(
                [
                    [
                        float(number)
                        for number in frame.PlanePositionSequence[0].ImagePositionPatient
                    ]
                    for frame in file[_PER_FRAME].value
                ]
            ).reshape(-1, 3)
        except (AttributeError, IndexError, TypeError) as error:
            raise ValueError("a frame has no position") from error
