"""The volumes of the scene in a list, to be ticked."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from MedPTQSlicerLib.sceneVolumes import volumes

if TYPE_CHECKING:
    import qt
    from slicer import vtkMRMLScalarVolumeNode

_ID_ROLE = 256  # Qt::UserRole


class VolumeList:
    """Lists the scene's volumes while the panel is seen; which are ticked is kept by their IDs.

    Args:
        widget: The list.
        changed: Called when a tick was set or removed.
    """

    def __init__(self, widget: qt.QListWidget, changed: Callable[[], None]) -> None:
        self._widget = widget
        self._changed = changed
        self._checked: set[str] = set()
        self._isFilling = False
        self._tags: list[int] = []
        widget.connect("itemChanged(QListWidgetItem*)", self._onItemChanged)

    def enter(self) -> None:
        """List what there is, and from now on what comes and goes."""
        import slicer

        scene = slicer.vtkMRMLScene
        if not self._tags:
            events = (scene.NodeAddedEvent, scene.NodeRemovedEvent, scene.EndCloseEvent)
            self._tags = [
                slicer.mrmlScene.AddObserver(event, self._onSceneChanged) for event in events
            ]
        self.refresh()

    def exit(self) -> None:
        """Listen to the scene no more."""
        import slicer

        for tag in self._tags:
            slicer.mrmlScene.RemoveObserver(tag)
        self._tags = []

    def checked(self) -> list[vtkMRMLScalarVolumeNode]:
        """Return the volumes that are ticked and in the scene."""
        return [node for node in volumes() if node.GetID() in self._checked]

    def refresh(self) -> None:
        """List the scene's volumes anew."""
        import qt

        found = volumes()
        self._checked &= {node.GetID() for node in found}
        self._isFilling = True
        self._widget.clear()
        for node in found:
            item = qt.QListWidgetItem(node.GetName())
            item.setData(_ID_ROLE, node.GetID())
            isChecked = node.GetID() in self._checked
            item.setCheckState(qt.Qt.Checked if isChecked else qt.Qt.Unchecked)
            self._widget.addItem(item)
        self._isFilling = False

    def _onItemChanged(self, item: qt.QListWidgetItem) -> None:
        import qt

        if self._isFilling:
            return
        nodeId = item.data(_ID_ROLE)
        if item.checkState() == qt.Qt.Checked:
            self._checked.add(nodeId)
        else:
            self._checked.discard(nodeId)
        self._changed()

    def _onSceneChanged(self, *_: object) -> None:
        import slicer

        if not slicer.mrmlScene.IsBatchProcessing():
            self.refresh()
            self._changed()
