"""The volumes of the scene that a network can be run on."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode

_CLASS = "vtkMRMLScalarVolumeNode"


def volumes() -> list[vtkMRMLScalarVolumeNode]:
    """Return the volumes: no label maps, no colours, nothing that is hidden from the user."""
    import slicer

    return [
        node
        for node in slicer.util.getNodesByClass(_CLASS)
        if node.GetClassName() == _CLASS and not node.GetHideFromEditors()
    ]


def volumeInView() -> vtkMRMLScalarVolumeNode | None:
    """Return the volume that the user looks at, or the first one that there is."""
    import slicer

    shown = slicer.app.applicationLogic().GetSelectionNode().GetActiveVolumeID()
    found = volumes()
    return next((node for node in found if node.GetID() == shown), found[0] if found else None)
