"""Runs one module of tests in this Slicer and writes a line a test; see scripts/test_slicer.sh.

``Slicer --testing --python-script run_tests.py -- MODULE LINES_FILE``
"""

from __future__ import annotations

import sys
import time
import unittest
from pathlib import Path
from typing import Any, TextIO

import slicer


class LineResult(unittest.TextTestResult):
    """Writes each test's outcome to a file as soon as it is known."""

    lines: TextIO

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self._start = time.monotonic()

    def addSuccess(self, test: unittest.TestCase) -> None:
        super().addSuccess(test)
        self._write("ok", test)

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        super().addError(test, err)
        self._write("ERROR", test, str(err[1]))

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        super().addFailure(test, err)
        self._write("FAILED", test, str(err[1]))

    def addSubTest(self, test: unittest.TestCase, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self._write("FAILED", test, f"{subtest}: {err[1]}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        super().addSkip(test, reason)
        self._write("skipped", test, reason)

    def _write(self, outcome: str, test: unittest.TestCase, why: str = "") -> None:
        seconds = time.monotonic() - getattr(self, "_start", time.monotonic())
        name = test.id() if isinstance(test, unittest.TestCase) else str(test)
        first = (why.strip().splitlines() or [""])[0]
        print(f"{outcome:8}{seconds:7.1f} s  {name}  {first}".rstrip(), file=self.lines, flush=True)


def main(module: str, linesFile: str) -> int:
    sys.path.append(str(Path(__file__).resolve().parent))
    suite = unittest.defaultTestLoader.loadTestsFromName(module)
    with Path(linesFile).open("a", encoding="utf-8") as lines:
        LineResult.lines = lines
        result = unittest.TextTestRunner(sys.stderr, resultclass=LineResult, verbosity=2).run(suite)
    return 0 if result.wasSuccessful() and result.testsRun else 1


slicer.util.exit(main(*sys.argv[1:]))
