"""What becomes of a job when its volume leaves the scene while it runs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from medptq.errors import Cancelled, ScanError

if TYPE_CHECKING:
    from slicer import vtkMRMLVolumeNode

    from MedPTQSlicerLib.jobs import Job


def requireInScene(volumeNode: vtkMRMLVolumeNode) -> None:
    """Make sure that a volume is still in its scene.

    Raises:
        ScanError: ``gone`` - it was removed, or the scene was closed.
    """
    if volumeNode.GetScene() is None:
        raise ScanError(
            "gone",
            "The work was stopped",
            why="its volume was removed, or the scene was closed, in the meantime",
            todo="Load the volume again, and start anew",
        )


@contextlib.contextmanager
def stoppedByScene(volumeNode: vtkMRMLVolumeNode) -> Iterator[None]:
    """Let a block begin only with its volume in the scene, and say so if its end has stopped it.

    Raises:
        ScanError: See :func:`requireInScene`.
    """
    requireInScene(volumeNode)
    try:
        yield
    except Cancelled:
        requireInScene(volumeNode)
        raise


def cancelWithVolume(job: Job[Any], volumeNode: vtkMRMLVolumeNode) -> None:
    """Cancel a job as soon as its volume is no longer in the scene, so that others have their turn.

    Args:
        job: The job; it is no longer watched once it has ended.
        volumeNode: The volume.
    """
    import slicer

    scene = volumeNode.GetScene()
    if scene is None:
        return

    def onSceneChanged(*_: object) -> None:
        if volumeNode.GetScene() is None:
            job.cancel()

    events = (slicer.vtkMRMLScene.NodeRemovedEvent, slicer.vtkMRMLScene.EndCloseEvent)
    tags = [scene.AddObserver(event, onSceneChanged) for event in events]

    def stopWatching(_: Job[Any]) -> None:
        for tag in tags:
            scene.RemoveObserver(tag)

    job.observe(finished=stopWatching)
