"""Telling the user that something is done, wherever they are in Slicer."""

from __future__ import annotations

_MODULE = "MedPTQSlicer"
_STATUS_MS = 10_000
_boxes: list[object] = []  # a box that nothing holds is gone at once


def notify(text: str) -> None:
    """Say it in the status bar, and in a box if another module is open, which blocks nothing.

    Args:
        text: One sentence or two.
    """
    import slicer

    slicer.util.showStatusMessage(text, _STATUS_MS)
    if slicer.util.mainWindow() is not None and slicer.util.selectedModule() != _MODULE:
        _showBox(text)


def _showBox(text: str) -> None:
    import qt
    import slicer

    box = qt.QMessageBox(slicer.util.mainWindow())
    box.setWindowTitle("MedPTQ")
    box.setText(text)
    box.setModal(False)
    openButton = box.addButton("Open MedPTQ", qt.QMessageBox.AcceptRole)
    box.addButton("Close", qt.QMessageBox.RejectRole)

    def onFinished(*_: object) -> None:
        _boxes.remove(box)
        if box.clickedButton() == openButton:
            slicer.util.selectModule(_MODULE)
        box.deleteLater()

    box.connect("finished(int)", onFinished)
    _boxes.append(box)
    box.show()
