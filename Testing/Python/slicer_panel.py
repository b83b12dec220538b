"""The whole module on real Qt, with a real worker and a small real network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from slicer_gui import Gui
from slicer_worker import data, slicer_worker  # noqa: F401 - fixtures

MODEL = "brightness"
OFFERED = ["Brain regions (T1)", "deepbet", "Hippocampus (T1)"]
"""Titles of the networks of the catalogue that were tried."""


def scan_array(shape: tuple[int, int, int] = (24, 22, 20), seed: int = 0) -> Any:
    """Return what :func:`tiny_network.write_scan` writes."""
    array = np.random.default_rng(seed).normal(10, 3, shape)
    k, j, i = (n // 4 for n in shape)
    array[k : 3 * k, j : 3 * j, i : 3 * i] += 40
    array[k : 2 * k, j : 2 * j, i : 2 * i] += 40
    return array.astype(np.float32)


def add_volume(name: str = "T1 of Jane Doe", **scan: Any) -> Any:
    """Add a volume to Slicer's scene."""
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", name)
    slicer.util.updateVolumeFromArray(node, scan_array(**scan))
    matrix = np.array([[0, -1.5, 0, 12], [1, 0, 0, 30], [0, 0, 2, 7], [0, 0, 0, 1.0]])
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(matrix))
    return node


def segmentations() -> list[str]:
    """Return the names of the scene's segmentations."""
    import slicer

    nodes = slicer.util.getNodesByClass("vtkMRMLSegmentationNode")
    return [node.GetName() for node in nodes if not node.GetHideFromEditors()]


def read_mrb(path: Path, folder: Path) -> None:
    """Read a scene, as Slicer's application does: what is in it is unpacked into a folder."""
    import slicer

    cache = slicer.vtkCacheManager()
    cache.SetRemoteCacheDirectory(str(folder))
    files = slicer.vtkDataIOManager()
    files.SetCacheManager(cache)
    slicer.mrmlScene.SetDataIOManager(files)
    assert slicer.mrmlScene.ReadFromMRB(str(path))


@pytest.fixture(scope="session")
def libraries(data: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:  # noqa: F811
    """Return two libraries: with the small network imported, and with its INT8 twin too."""
    root = tmp_path_factory.mktemp("libraries")

    def medptq(*arguments: str | Path) -> None:
        environment = {**os.environ, "MEDPTQ_LIBRARY": str(root / "made")}
        environment["MEDPTQ_CACHE"] = str(root / "cache")
        command = [sys.executable, "-m", "medptq", *map(str, arguments)]
        subprocess.run(command, check=True, env=environment, capture_output=True)

    medptq("import", data / "net.onnx")
    shutil.copytree(root / "made", root / "imported")
    medptq("quantize", MODEL, "--scans", data / "scans", "--patches", "4")
    return {"imported": root / "imported", "calibrated": root / "made"}


@dataclass
class Panel:
    """The module as a user has it before them.

    Attributes:
        gui: The application.
        ui: The panel's widgets.
        widget: The module's widget object.
    """

    gui: Gui
    widget: Any

    @property
    def ui(self) -> Any:
        return self.widget.ui

    @property
    def logic(self) -> Any:
        return self.widget.logic

    @property
    def state(self) -> Any:
        return self.widget.panel.state

    def click(self, name: str) -> None:
        self.gui.click(getattr(self.ui, name))

    def import_network(self, path: Path) -> None:
        """Choose a file or a folder in the menu and dialog of *Import*."""
        self.gui.dialogs.answer(str(path))
        file, folder = self.ui.modelImport.menu().actions()
        (folder if path.is_dir() else file).trigger()

    def until(self, condition: Callable[[], Any], seconds: float = 30) -> None:
        self.gui.waitUntil(lambda: bool(condition()), seconds)

    def until_enabled(self, name: str, seconds: float = 30) -> None:
        self.until(lambda: getattr(self.ui, name).enabled, seconds)

    def models(self) -> list[str]:
        """Return the models that are listed, but for those of the catalogue that nobody tried."""
        return [title for title, state in self.listed() if "untried" not in state]

    def listed(self) -> list[tuple[str, str]]:
        """Return the title and the state of every model that is listed."""
        tree = self.ui.modelList
        items = [tree.topLevelItem(index) for index in range(tree.topLevelItemCount)]
        return [(item.text(0), item.text(1)) for item in items if not item.isHidden()]

    def choose_model(self, title: str) -> None:
        """Choose a model once it is listed."""
        self.until(lambda: title in dict(self.listed()))
        tree = self.ui.modelList
        for index in range(tree.topLevelItemCount):
            if tree.topLevelItem(index).text(0) == title:
                tree.setCurrentItem(tree.topLevelItem(index))
        self.gui.process()

    def model_state(self) -> str:
        items = self.ui.modelList.selectedItems()
        return str(items[0].text(1)) if items else ""

    def choose_folder(self, folder: Path) -> None:
        """Choose a folder of scans, and wait until it was looked through."""
        self.ui.calibrateFolder.currentPath = str(folder)
        self.until(lambda: "Looking" not in self.ui.calibrateFound.text)

    def of_job(self, place: str, name: str) -> Any:
        """Return a widget of the view of a section's job."""
        import slicer

        return getattr(slicer.util.childWidgetVariables(getattr(self.ui, place)), name)

    def is_seen(self, place: str, name: str) -> bool:
        """Tell whether a part of the view of a section's job is to be seen."""
        outer, inner = getattr(self.ui, place), self.of_job(place, name)
        return not outer.isHidden() and not inner.isHidden()

    def failure(self, place: str) -> str:
        """Return what is said of a failure, or an empty text."""
        if not self.is_seen(place, "jobEnded"):
            return ""
        return "\n".join(self.of_job(place, name).text for name in ("jobWhat", "jobWhy", "jobCode"))

    def cancel(self, place: str) -> None:
        self.gui.click(self.of_job(place, "jobCancel"))

    def boxes(self) -> list[Any]:
        """Return the message boxes that are open, which block nothing."""
        from PySide6 import QtWidgets

        widgets = QtWidgets.QApplication.topLevelWidgets()
        return [w for w in widgets if isinstance(w, QtWidgets.QMessageBox) and w.isVisible()]

    def picture(self, path: Path, width: int = 460) -> Path:
        """Save what the whole panel looks like at a width, as high as it then is."""
        import slicer

        from StandIn import pythonqt

        panel = slicer.modules.medptqslicer.widgetRepresentation()
        height = pythonqt.unwrap(panel).layout().heightForWidth(width)
        return self.gui.picture(panel, path, width, height)


def _open(the_gui: Gui, library: Path | None, folder: Path) -> Panel:
    if library is not None:
        shutil.copytree(library, folder / "library")
    return Panel(the_gui, the_gui.load_module())


@pytest.fixture
def panel(slicer_worker: Any, gui: Gui, libraries: dict[str, Path], tmp_path: Path) -> Panel:  # noqa: F811
    """The module just opened, with the small network in the library."""
    return _open(gui, libraries["imported"], tmp_path)


@pytest.fixture
def calibrated(slicer_worker: Any, gui: Gui, libraries: dict[str, Path], tmp_path: Path) -> Panel:  # noqa: F811
    """The same, but calibrated and chosen, with a volume to segment."""
    add_volume()
    opened = _open(gui, libraries["calibrated"], tmp_path)
    opened.choose_model("Brightness")
    opened.until_enabled("segmentApply")
    return opened
