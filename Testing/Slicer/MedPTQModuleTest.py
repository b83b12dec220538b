"""The module as Slicer loads it: found, made, entered, left, and reloaded."""

from __future__ import annotations

import tempfile
from pathlib import Path

import slicer

import slicer_testing
from slicer_testing import letItWork


class MedPTQModuleTest(slicer_testing.SlicerTestCase):
    def test_the_module_is_loaded_with_icon_and_help(self) -> None:
        module = slicer.modules.medptqslicer
        self.assertEqual(module.name, "MedPTQSlicer")
        manager = slicer.app.moduleManager().factoryManager()
        self.assertIn("MedPTQSlicer", manager.loadedModuleNames())
        self.assertTrue(module.helpText)
        self.assertTrue(module.contributors)
        self.assertFalse(module.icon.isNull())

    def test_its_widget_can_be_made_entered_and_left(self) -> None:
        widget = slicer.modules.medptqslicer.widgetRepresentation().self()
        widget.enter()
        letItWork(0.5)
        self.assertTrue(widget.ui.segmentApply.text)
        self.assertIs(widget.ui.modelList.parent() is None, False)
        widget.exit()

    def test_its_logic_can_be_made_without_a_widget(self) -> None:
        from MedPTQSlicer import MedPTQSlicerLogic

        self.assertTrue(callable(MedPTQSlicerLogic().segment))

    def test_sample_data_is_registered_with_checksums(self) -> None:
        letItWork(0.5)  # it is done when Slicer has started
        sources = slicer.modules.sampleDataSources["MedPTQSlicer"]
        self.assertEqual(len(sources), 2)
        for source in sources:
            self.assertEqual(len(source.uris), len(source.checksums))
            for uri, checksum in zip(source.uris, source.checksums, strict=True):
                self.assertTrue(uri.startswith("https://"))
                self.assertIn(checksum.removeprefix("SHA256:"), uri)
            self.assertTrue(Path(source.thumbnailFileName).is_file())

    def test_a_scene_saved_amid_a_comparison_is_shown_again(self) -> None:
        from MedPTQSlicerLib import compareSegmentations

        letItWork(0.5)
        node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "mine")
        node.CreateDefaultDisplayNodes()
        compareSegmentations.hideAll(slicer.mrmlScene)
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "scene.mrb")
            self.assertTrue(slicer.util.saveScene(path))
            slicer.mrmlScene.Clear()
            slicer.util.loadScene(path)
        self.assertTrue(slicer.util.getNode("mine").GetDisplayNode().GetVisibility())

    def test_nothing_outside_of_the_worker_is_loaded(self) -> None:
        import sys

        slicer.modules.medptqslicer.widgetRepresentation()
        heavy = {"torch", "monai", "onnx", "openvino", "psutil"} & sys.modules.keys()
        self.assertEqual(heavy, set())

    def test_no_worker_is_started_before_it_is_needed(self) -> None:
        from MedPTQSlicerLib.background import background

        self.assertEqual(background().client.state, "stopped")
