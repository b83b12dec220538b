"""All that the panel can do, for the Python console and scripts too; no widget is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

from medptq.models.card import Card
from MedPTQSlicerLib.background import background
from MedPTQSlicerLib.calibrating import calibrateOnVolumesSteps, calibrateSteps
from MedPTQSlicerLib.comparing import ComparisonResult, compareSteps, saveReport
from MedPTQSlicerLib.computerCheck import ComputerReport, checkSteps
from MedPTQSlicerLib.jobs import Job, Steps
from MedPTQSlicerLib.modelState import ModelState, modelStateOf
from MedPTQSlicerLib.sceneWatch import cancelWithVolume, stoppedByScene
from MedPTQSlicerLib.segmenting import Precision, segmentSteps

if TYPE_CHECKING:
    from slicer import vtkMRMLScalarVolumeNode, vtkMRMLSegmentationNode

T = TypeVar("T")


class MedPTQLogic:
    """Calibrates, segments and compares in the background.

    Every verb returns a :class:`MedPTQSlicerLib.jobs.Job` at once. ``wait()`` on it gives the
    result and keeps Slicer alive meanwhile; ``observe()`` calls back. What fails raises, or hands
    over, a :class:`medptq.errors.MedPTQError` that says what happened, why, and what to do.

    Attributes:
        cacheMb: Size of what :meth:`clearCache` would remove, in MB; None before :meth:`models`.

    Example:
        From a volume and a folder of scans to segmentations in FP32 and INT8::

            from MedPTQSlicer import MedPTQSlicerLogic
            logic = MedPTQSlicerLogic()
            volume = slicer.util.getNode("MRHead")
            logic.calibrate("deepbet", Path("/data/heads")).wait()
            fp32, int8 = logic.segment(volume, "deepbet", precision="both").wait()
            result = logic.compare(volume, "deepbet").wait()
            logic.saveReport(result, Path("/data/report"))
    """

    def __init__(self) -> None:
        super().__init__()
        self.cacheMb: float | None = None
        self._cards: dict[str, Card] = {}

    def models(self) -> Job[list[ModelState]]:
        """List the models of the catalogue and those that were imported, with their states.

        Example:
            >>> [(m.id, m.stateText) for m in logic.models().wait()]   # doctest: +SKIP
            [('deepbet', 'INT8 ready')]
        """
        return self._run("Listing the models", "models", self._modelsSteps())

    def importModel(self, path: Path) -> Job[str]:
        """Add a network of the user's own to the library.

        Args:
            path: An ONNX, TorchScript or checkpoint file with its card beside it, or the folder
                or zip file of a MONAI bundle or nnU-Net model, or a zip file of file and card.

        Returns:
            A job that gives the model's id.

        Example:
            >>> logic.importModel(Path("/data/spleen.onnx")).wait()    # doctest: +SKIP
            'spleen'
        """

        def steps() -> Steps[str]:
            answer = yield background().client.request("import", path=path)
            self._cards.clear()
            return str(answer["id"])

        return self._run("Importing a model", "import", steps())

    def deleteModel(self, modelId: str, what: Literal["int8", "all"] = "int8") -> Job[float]:
        """Remove a model's INT8 twin, or all that is kept of the model.

        Args:
            modelId: The model's id.
            what: ``"int8"``, or ``"all"``: its download, what was built of it, and the network
                itself if it was imported.

        Returns:
            A job that gives how many MB were freed.
        """

        def steps() -> Steps[float]:
            answer = yield background().client.request("remove", model=modelId, what=what)
            self._cards.clear()
            return float(answer["freed_mb"])

        return self._run(f"Deleting {modelId}", "delete", steps())

    def clearCache(self) -> Job[float]:
        """Remove downloads, exported networks and engines, which come back when they are needed.

        Returns:
            A job that gives how many MB were freed.
        """

        def steps() -> Steps[float]:
            answer = yield background().client.request("clear")
            return float(answer["freed_mb"])

        return self._run("Clearing the cache", "clear", steps())

    def inspectScans(self, folder: Path, *, channels: int = 1) -> Job[dict[str, Any]]:
        """Look through a folder of scans, before calibration starts.

        Args:
            folder: The folder.
            channels: Channels that a scan must have.

        Returns:
            A job that gives what the worker's method ``inspect`` answers: how many ``scans``, their
            ``formats``, what is ``unusable`` and why, and the range of their voxel sizes.

        Example:
            >>> logic.inspectScans(Path("/data/heads")).wait()["scans"]    # doctest: +SKIP
            24
        """

        def steps() -> Steps[dict[str, Any]]:
            client = background().client
            answer: dict[str, Any] = yield client.request(
                "inspect", scans=folder, channels=channels
            )
            return answer

        return self._run("Looking through the scans", "inspect", steps())

    def calibrate(
        self,
        modelId: str,
        scans: Path | Sequence[vtkMRMLScalarVolumeNode],
        *,
        recipe: Mapping[str, Any] | None = None,
    ) -> Job[dict[str, Any]]:
        """Make the INT8 twin of a model from unlabeled scans; an older one is replaced.

        Args:
            modelId: The model's id.
            scans: A folder of scans of the kind that the model will be used on, or volumes that
                are loaded.
            recipe: What differs from the standard: ``observer``, ``percentile``, ``patches``,
                ``seed``; see :class:`medptq.quantization.recipe.Recipe`.

        Returns:
            A job that gives what the worker's method ``quantize`` answers: ``scans``, ``patches``,
            ``fp32_mb``, ``int8_mb`` and ``agreement_with_fp32``.

        Example:
            >>> job = logic.calibrate("deepbet", Path("/data/heads"))      # doctest: +SKIP
            >>> job.wait()["agreement_with_fp32"]["voxels_equal"]          # doctest: +SKIP
            0.9997
        """
        client = background().client
        if isinstance(scans, Path):
            steps = calibrateSteps(client, modelId, scans, recipe or {})
        else:
            steps = calibrateOnVolumesSteps(client, modelId, list(scans), recipe or {})
        return self._run(f"Calibrating {modelId}", "calibrate", steps)

    def segment(
        self,
        volumeNode: vtkMRMLScalarVolumeNode,
        modelId: str,
        *,
        precision: Precision = "best",
        segmentationNode: vtkMRMLSegmentationNode | None = None,
        show3D: bool = False,
    ) -> Job[list[vtkMRMLSegmentationNode]]:
        """Segment a volume.

        The segmentation is on the volume's own grid, under the same transform, and in the same
        study; its segments carry names, colours and SNOMED CT codes.

        Args:
            volumeNode: The volume. If it leaves the scene meanwhile, the job stops.
            modelId: The model's id, or the path of a network.
            precision: ``"best"`` for the fastest here, INT8 only where it agrees with FP32,
                ``"int8"``, ``"fp32"``, or ``"both"`` for a segmentation each.
            segmentationNode: Filled instead of a new one, where there is one result; what was in
                it is replaced.
            show3D: Whether to make closed surfaces too.

        Returns:
            A job that gives the segmentations, for ``"both"`` FP32's first.
            :func:`MedPTQSlicerLib.segmentationRun.runOf` tells how each came about.

        Example:
            >>> [brain] = logic.segment(volume, "deepbet").wait()          # doctest: +SKIP
            >>> brain.GetName()                                            # doctest: +SKIP
            'MRHead - deepbet INT8'
        """

        def steps() -> Steps[list[vtkMRMLSegmentationNode]]:
            with stoppedByScene(volumeNode):
                card = yield from self._cardSteps(modelId)
                return (
                    yield from segmentSteps(
                        background().client,
                        card,
                        modelId,
                        volumeNode,
                        precision,
                        segmentationNode,
                        show3D,
                    )
                )

        job = self._run(f"Segmenting with {modelId}", "segment", steps())
        cancelWithVolume(job, volumeNode)
        return job

    def compare(
        self,
        volumeNode: vtkMRMLScalarVolumeNode,
        modelId: str,
        *,
        reference: vtkMRMLSegmentationNode | None = None,
    ) -> Job[ComparisonResult]:
        """Run FP32 and INT8 on a volume and hold the two together.

        Args:
            volumeNode: The volume. If it leaves the scene meanwhile, the job stops.
            modelId: The id of a model that was calibrated.
            reference: A segmentation of the same structures, by name, to hold both against.

        Returns:
            A job that gives both segmentations and the report; its files are kept until the
            result's ``close()``.
        """

        def steps() -> Steps[ComparisonResult]:
            with stoppedByScene(volumeNode):
                card = yield from self._cardSteps(modelId)
                client = background().client
                return (yield from compareSteps(client, card, modelId, volumeNode, reference))

        job = self._run(f"Comparing FP32 and INT8 of {modelId}", "compare", steps())
        cancelWithVolume(job, volumeNode)
        return job

    def saveReport(
        self, result: ComparisonResult, folder: Path, *, overwrite: bool = False
    ) -> Path:
        """Save a comparison's report; see :func:`MedPTQSlicerLib.comparing.saveReport`."""
        return saveReport(result, folder, overwrite=overwrite)

    def checkComputer(self) -> Job[ComputerReport]:
        """See what this machine has, proved by running a small network.

        Example:
            >>> logic.checkComputer().wait().verdict.line                  # doctest: +SKIP
            'Ready: OpenVINO, INT8 on the CPU'
        """
        return self._run("Checking this computer", "check", checkSteps(background().client))

    def _modelsSteps(self) -> Steps[list[ModelState]]:
        answer = yield background().client.request("models")
        states = [modelStateOf(row) for row in answer["models"]]
        self._cards = {state.id: state.card for state in states if state.card}
        self.cacheMb = float(answer["cache_mb"])
        return states

    def _cardSteps(self, modelId: str) -> Steps[Card]:
        if modelId not in self._cards:
            yield from self._modelsSteps()
        if modelId not in self._cards:  # it is a path
            answer = yield background().client.request("load", model=modelId)
            self._cards[modelId] = answer["card"]
        return self._cards[modelId]

    def _run(self, title: str, kind: str, steps: Steps[T]) -> Job[T]:
        return background().run(Job(title, steps, kind=kind))
