"""scripts/slicer_calibrate.py and slicer_segment.py, each in a Slicer of its own without window."""

from __future__ import annotations

import os
import subprocess

import slicer

import slicer_testing
from slicer_testing import HERE, NETWORK, smallFiles, workerPython

SCRIPTS = HERE.parents[1] / "scripts"


class MedPTQHeadlessTest(slicer_testing.SlicerTestCase):
    def run_script(self, script: str, *arguments: object) -> tuple[int, str]:
        command = [
            slicer.app.launcherExecutableFilePath,
            "--no-splash",
            "--no-main-window",
            "--ignore-slicerrc",
            "--python-script",
            str(SCRIPTS / script),
            "--",
            *map(str, arguments),
        ]
        environment = {**slicer.util.startupEnvironment(), "MEDPTQ_WORKER_PYTHON": ""}
        for name in ("MEDPTQ_CACHE", "MEDPTQ_LIBRARY"):
            environment[name] = os.environ[name]
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=600, cwd=self.folder
        )
        return done.returncode, done.stdout + done.stderr

    def test_from_scans_to_label_maps(self) -> None:
        self.importNetwork()
        python = ("--python", workerPython())
        scans = smallFiles() / "scans"
        status, said = self.run_script("slicer_calibrate.py", NETWORK, "--scans", scans, *python)
        self.assertEqual(status, 0, said)
        self.assertIn("made from 5 scans", said)

        for name in ("found é.seg.nrrd", "found.nii.gz"):
            arguments = (NETWORK, scans / "scan-0.nii.gz", "--output", name, *python)
            status, said = self.run_script("slicer_segment.py", *arguments)
            self.assertEqual(status, 0, said)
            self.assertGreater((self.folder / name).stat().st_size, 0)
        segmentation = slicer.util.loadSegmentation(str(self.folder / "found é.seg.nrrd"))
        self.assertEqual(segmentation.GetSegmentation().GetNumberOfSegments(), 2)
        labels = slicer.util.loadLabelVolume(str(self.folder / "found.nii.gz"))
        volume = slicer.util.loadVolume(str(scans / "scan-0.nii.gz"))
        found = slicer.util.arrayFromVolume(labels)
        self.assertEqual(found.shape, slicer.util.arrayFromVolume(volume).shape)
        self.assertEqual(sorted(set(found.ravel().tolist())), [0, 1, 2])

        with self.subTest("nothing is overwritten unasked"):
            status, said = self.run_script("slicer_segment.py", *arguments)
            self.assertEqual((status, "output.exists" in said), (7, True), said)
            status, said = self.run_script(
                "slicer_calibrate.py", NETWORK, "--scans", scans, *python
            )
            self.assertEqual((status, "output.exists" in said), (7, True), said)

    def test_what_went_wrong_is_said_in_a_line_and_in_the_exit_code(self) -> None:
        scan = smallFiles() / "scans" / "scan-0.nii.gz"
        python = ("--python", workerPython())
        for expected, code, arguments in (
            (2, "error:", ("--what",)),
            (3, "scan.missing", (NETWORK, "not-there.nii", "--output", "a.nrrd", *python)),
            (4, "model.", ("no-such-model", scan, "--output", "a.nrrd", *python)),
            (7, "output.format", (NETWORK, scan, "--output", "a.docx", *python)),
            (8, "worker.no-python", (NETWORK, scan, "--output", "a.nrrd", "--python", "/none")),
        ):
            with self.subTest(code):
                status, said = self.run_script("slicer_segment.py", *arguments)
                self.assertEqual(status, expected, said)
                self.assertIn(code, said)
                self.assertNotIn("Traceback", said)

    def test_help(self) -> None:
        for script in ("slicer_segment.py", "slicer_calibrate.py"):
            status, said = self.run_script(script, "--help")
            self.assertEqual(status, 0)
            self.assertIn("exit codes", said)
