"""The logic's verbs without any widget, as the Python console and scripts use them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medptq.errors import Cancelled, MedPTQError, OutputError, ScanError
from slicer_gui import Gui
from slicer_panel import (  # noqa: F401 - fixtures
    MODEL,
    add_volume,
    data,
    libraries,
    scan_array,
    segmentations,
)
from slicer_scenes import affine, right_angled
from slicer_worker import nothing_left, until

PATIENCE = 60


@pytest.fixture
def logic(
    gui_without_window: Gui,
    libraries: dict[str, Path],  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Any:
    """The logic, without a main window, with a calibrated model in the library."""
    shutil.copytree(libraries["calibrated"], tmp_path / "library")
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))
    from MedPTQSlicerLib.background import background
    from MedPTQSlicerLib.logic import MedPTQLogic

    with nothing_left(gui_without_window):
        yield MedPTQLogic()
        background().stop()


def found_in(segmentation: Any, volume: Any) -> Any:
    """Return the label map that a segmentation stands for on a volume's grid."""
    import slicer
    import vtk

    labels = np.zeros(slicer.util.arrayFromVolume(volume).shape, np.uint8)
    for value in (1, 2):
        ids = vtk.vtkStringArray()
        ids.InsertNextValue(f"Label_{value}")
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode")
        slicer.vtkSlicerSegmentationsModuleLogic.ExportSegmentsToLabelmapNode(
            segmentation, ids, node, volume
        )
        labels[slicer.util.arrayFromVolume(node) != 0] = value
        slicer.mrmlScene.RemoveNode(node)
    return labels


def passed_files(the_gui: Gui) -> list[str]:
    """Return the files that lie about for the worker, without the log and the marks of owners."""
    files = [path for path in Path(the_gui.app.temporaryPath).rglob("*") if path.is_file()]
    return [path.name for path in files if path.name not in (".owner", "MedPTQ-worker.log")]


def dice(a: Any, b: Any) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


def listed(logic: Any) -> dict[str, Any]:
    return {model.id: model for model in logic.models().wait(PATIENCE)}


def test_models_come_are_calibrated_and_go(logic: Any, data: Path) -> None:  # noqa: F811
    models = listed(logic)
    deepbet, mine = models["deepbet"], models[MODEL]
    assert (deepbet.id, deepbet.stateText, deepbet.takesWholeScan) == (
        "deepbet",
        "Not downloaded",
        True,
    )
    assert (mine.id, mine.isImported, mine.int8.scans, mine.takesWholeScan) == (
        MODEL,
        True,
        2,
        False,
    )
    assert [label.name for label in mine.labels] == ["Bright", "Very bright"]
    assert logic.cacheMb == 0

    logic.deleteModel(MODEL).wait(PATIENCE)
    assert listed(logic)[MODEL].int8 is None
    assert logic.inspectScans(data / "scans").wait(PATIENCE)["scans"] == 2
    made = logic.calibrate(MODEL, data / "scans", recipe={"patches": 3}).wait(PATIENCE)
    assert (made["scans"], made["patches"]) == (2, 3)
    volumes = [add_volume(f"Head {seed}", seed=seed) for seed in range(3)]
    made = logic.calibrate(MODEL, volumes, recipe={"patches": 3}).wait(PATIENCE)
    assert listed(logic)[MODEL].int8.scans == made["scans"] == 3

    logic.deleteModel(MODEL, "all").wait(PATIENCE)
    assert set(listed(logic)) == set(models) - {MODEL}
    assert logic.importModel(data / "net.onnx").wait(PATIENCE) == MODEL
    again = logic.importModel(data / "net.onnx")
    assert again.wait(PATIENCE) == MODEL
    assert "already" in again.warnings[0]


def test_a_volume_is_segmented_where_it_lies(logic: Any) -> None:
    import slicer

    from MedPTQSlicerLib.segmentationRun import runOf

    volume = add_volume()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "Turn")
    turn = affine(right_angled((1, 1, 1), (1, 1, 1), (0.4, 0.1, -0.7)), (10, -20, 30.5))
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    volume.SetAndObserveTransformNodeID(transform.GetID())
    fp32, int8 = logic.segment(volume, MODEL, precision="both").wait(PATIENCE)
    for node, precision in ((fp32, "FP32"), (int8, "INT8")):
        assert node.GetName() == f"T1 of Jane Doe - Brightness {precision}"
        assert node.GetTransformNodeID() == transform.GetID()
        run = runOf(node)
        assert run is not None
        assert (run.model, run.precision) == (MODEL, precision.lower())
        assert run.total == pytest.approx(sum(run.seconds.values()))
        assert run.sentence.startswith("Segmented in ")
        assert "Jane" not in node.GetAttribute("MedPTQ.Run")
        labels = found_in(node, volume)
        assert dice(labels > 0, scan_array() > 30) > 0.9
    assert logic.cacheMb is not None

    first = logic.segment(volume, MODEL, precision="int8", segmentationNode=int8)
    assert first.wait(PATIENCE) == [int8]
    slicer.mrmlScene.RemoveNode(int8)
    [again] = logic.segment(volume, MODEL, precision="int8", segmentationNode=int8).wait(PATIENCE)
    assert again is not int8  # it is gone, but the result is not
    assert len(segmentations()) == 2


def test_what_cannot_be_segmented_is_refused_with_a_reason(logic: Any, tmp_path: Path) -> None:
    import slicer

    label_map = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "Labels")
    slicer.util.updateVolumeFromArray(label_map, np.ones((4, 4, 4), np.uint8))
    with pytest.raises(ScanError, match="it is a label map"):
        logic.segment(label_map, MODEL).wait(PATIENCE)
    volume = add_volume()
    with pytest.raises(MedPTQError, match="nonsense"):
        logic.segment(volume, "nonsense").wait(PATIENCE)
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(ScanError, match="removed"):
        logic.segment(volume, MODEL).wait(PATIENCE)
    with pytest.raises(ScanError, match="none of the volumes"):
        logic.calibrate(MODEL, [volume]).wait(PATIENCE)
    with pytest.raises(ScanError) as missing:
        logic.inspectScans(tmp_path / "gone").wait(PATIENCE)
    assert missing.value.code == "scan.missing"
    assert segmentations() == []


def test_jobs_are_cancelled_by_their_user_and_by_their_volume(
    logic: Any,
    gui_without_window: Gui,
    data: Path,  # noqa: F811
) -> None:
    import slicer

    long = logic.calibrate(MODEL, data / "large", recipe={"patches": 100_000})
    until(lambda: long.stage == "Calibrating")
    volume = add_volume()
    waiting = logic.segment(volume, MODEL)
    until(lambda: waiting.stage == "Waiting for other work")
    slicer.mrmlScene.RemoveNode(volume)
    with pytest.raises(ScanError) as gone:
        waiting.wait(2)
    assert gone.value.code == "scan.gone"
    assert long.state == "running"
    long.cancel()
    with pytest.raises(Cancelled):
        long.wait(2)
    assert passed_files(gui_without_window) == []
    assert listed(logic)[MODEL].int8.scans == 2  # the old twin is whole


def test_a_comparison_and_its_report(logic: Any, tmp_path: Path) -> None:
    import slicer

    volume = add_volume()
    result = logic.compare(volume, MODEL).wait(PATIENCE)
    assert result.volumeNode is volume
    assert segmentations() == [
        "T1 of Jane Doe - Brightness FP32",
        "T1 of Jane Doe - Brightness INT8",
    ]
    for labels, node in (
        (result.fp32Labels, result.fp32Segmentation),
        (result.int8Labels, result.int8Segmentation),
    ):
        np.testing.assert_array_equal(labels, found_in(node, volume))
    assert result.report["headline"]["precision"] == "int8"

    page = logic.saveReport(result, tmp_path / "report")
    written = {path.name for path in page.parent.iterdir()}
    tables = {"report.csv", "structures.csv"}
    assert written == {"report.html", "report.json", "overlay.png", *tables}
    assert all("Jane" not in path.read_text("utf-8") for path in page.parent.glob("*.[hjc]*"))
    with pytest.raises(OutputError) as taken:
        logic.saveReport(result, tmp_path / "report")
    assert taken.value.code == "output.exists"
    assert logic.saveReport(result, tmp_path / "report", overwrite=True) == page
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError) as unwritable:
        logic.saveReport(result, tmp_path / "file" / "report")
    assert unwritable.value.code == "output.unwritable"

    result.close()
    with pytest.raises(OutputError):
        logic.saveReport(result, tmp_path / "late")
    slicer.mrmlScene.RemoveNode(volume)
    assert len(segmentations()) == 2  # they are the user's


def test_a_comparison_whose_volume_goes_leaves_nothing(
    logic: Any,
    gui_without_window: Gui,
) -> None:
    import slicer

    volume = add_volume()
    job = logic.compare(volume, MODEL)
    until(lambda: job.stage not in ("", "Starting the worker", "Handing over the volume"))
    slicer.mrmlScene.Clear()
    with pytest.raises(ScanError) as gone:
        job.wait(3)
    assert gone.value.code == "scan.gone"
    assert segmentations() == []
    assert passed_files(gui_without_window) == []
