"""What Slicer's selectors of nodes do not do by themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from slicer import qMRMLNodeComboBox, vtkMRMLNode


def chooseNoneAfterDeletion(selector: qMRMLNodeComboBox) -> None:
    """Have a selector choose none when the node that is chosen is deleted.

    By itself it would choose the next node, which nobody has asked for: it could be overwritten.

    Args:
        selector: One in which none can be chosen.
    """

    def onAboutToBeRemoved(node: vtkMRMLNode) -> None:
        if node.GetID() == selector.currentNodeID:
            selector.setCurrentNode(None)

    selector.connect("nodeAboutToBeRemoved(vtkMRMLNode*)", onAboutToBeRemoved)
