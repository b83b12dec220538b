"""What the panel remembers with the scene."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

from slicer import (
    vtkMRMLScalarVolumeNode,
    vtkMRMLScriptedModuleNode,
    vtkMRMLSegmentationNode,
)
from slicer.parameterNodeWrapper import WithinRange, parameterNodeWrapper


class _Choice(Enum):
    """A choice in a combo box; the name is saved, the value is shown."""

    def label(self) -> str:
        """Return what Slicer's parameter node wrapper shows."""
        return str(self.value)


class ScanSource(_Choice):
    """Where the scans for calibration come from."""

    FOLDER = "A folder of scans"
    VOLUMES = "Volumes loaded in Slicer"


class Observer(_Choice):
    """How the range of an activation is chosen; see :mod:`medptq.quantization.observers`."""

    AGREEMENT = "Best agreement with FP32 (default)"
    MSE = "Least squared error"
    ENTROPY = "Least entropy"
    PERCENTILE = "Percentile"
    MAX = "Maximum"


class Precision(_Choice):
    """What a volume is segmented at."""

    BEST = "Best for this computer"
    INT8 = "INT8"
    FP32 = "FP32"
    BOTH = "Both, INT8 and FP32"


class CompareView(_Choice):
    """How the compare section shows FP32 and INT8."""

    SIDE_BY_SIDE = "Side by side"
    BOTH = "Both"
    DISAGREEMENT = "Differences"


@parameterNodeWrapper
class PanelState:
    """The panel's choices; Slicer saves and restores them with the scene.

    The folder of scans is none of them: its name may be a patient's, and a scene is handed on.

    Attributes:
        modelId: The model that is chosen, or ``""``.
        scanSource: Where the scans for calibration come from.
        observer: How ranges are chosen.
        percentile: For the observer of that name, in percent.
        patches: How many patches of the scans are run through the network, at most.
        seed: Of the choice of scans and patches.
        inputVolume: The volume to segment and to compare on.
        precision: What it is segmented at.
        outputSegmentation: What is replaced by the result; a new one is made without.
        show3D: Whether closed surfaces are made.
        compareReference: What FP32 and INT8 are held against beside each other, or None.
        compareView: What the compare section shows.
        compareBlink: Whether it switches between FP32 and INT8 all the time.
    """

    modelId: str
    scanSource: ScanSource
    observer: Observer
    percentile: Annotated[float, WithinRange(50.001, 100.0)] = 99.99
    patches: Annotated[int, WithinRange(1, 9999)] = 16
    seed: Annotated[int, WithinRange(0, 999999999)] = 0
    inputVolume: vtkMRMLScalarVolumeNode
    precision: Precision
    outputSegmentation: vtkMRMLSegmentationNode
    show3D: bool
    compareReference: vtkMRMLSegmentationNode
    compareView: CompareView
    compareBlink: bool

    if TYPE_CHECKING:  # what the decorator makes

        def __init__(self, node: vtkMRMLScriptedModuleNode) -> None: ...

        def connectGui(self, gui: Any) -> int:
            """Connect the widgets that name a parameter; return what disconnects them."""

        def disconnectGui(self, tag: int) -> None:
            """Disconnect them."""

        def AddObserver(self, event: str, callback: Callable[..., None]) -> int:
            """Have a function called when the node has changed."""

        def RemoveObserver(self, tag: int) -> None:
            """Call it no more."""


def panelStateOf(node: vtkMRMLScriptedModuleNode) -> PanelState:
    """Return the panel's state in a module node; what cannot be read there is set to its default.

    Args:
        node: The node; a scene that another version saved may hold choices that there are no more.
    """
    node.UnsetParameter("scansFolder")  # of an older version; it is not to be saved again
    try:
        return PanelState(node)
    except ValueError:
        for name in list(node.GetParameterNames()):
            node.UnsetParameter(name)
        return PanelState(node)
