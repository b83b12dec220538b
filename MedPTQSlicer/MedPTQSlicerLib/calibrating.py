"""The way of scans, or of loaded volumes, through the worker to an INT8 network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medptq.errors import ScanError
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.volumeToScan import writeScanSteps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

    from MedPTQSlicerLib.jobs import Steps
    from MedPTQSlicerLib.workerClient import WorkerClient


def calibrateSteps(
    client: WorkerClient, model: str, scans: Path, recipe: Mapping[str, Any]
) -> Steps[dict[str, Any]]:
    """Make the INT8 twin of a model in the library, from a folder of scans; replace an older one.

    Args:
        client: The worker's.
        model: The model's id.
        scans: The folder, or one scan.
        recipe: What differs from the standard; see :class:`medptq.quantization.recipe.Recipe`.

    Returns:
        What the worker's method ``quantize`` answers.
    """
    answer: dict[str, Any] = yield client.request(
        "quantize", model=model, scans=scans, recipe=dict(recipe), overwrite=True
    )
    return answer


def calibrateOnVolumesSteps(
    client: WorkerClient,
    model: str,
    volumeNodes: Sequence[vtkMRMLScalarVolumeNode],
    recipe: Mapping[str, Any],
) -> Steps[dict[str, Any]]:
    """Likewise, from volumes of the scene; one that is removed before its turn is left out."""
    with jobFolder() as folder:
        written = 0
        yield "Handing over the volumes"
        for volumeNode in volumeNodes:
            if volumeNode.GetScene() is not None:
                written += 1
                yield from writeScanSteps(volumeNode, folder / f"scan-{written:03}.nrrd")
        if not written:
            raise ScanError(
                "none",
                "Calibration did not start",
                why="none of the volumes is in the scene",
                todo="Load some, or choose a folder of scans",
            )
        return (yield from calibrateSteps(client, model, folder, recipe))
