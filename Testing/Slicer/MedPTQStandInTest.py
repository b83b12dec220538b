"""What the stand-in of Testing/StandIn claims of PythonQt and of Slicer, asked of Slicer itself."""

from __future__ import annotations

import sys
import unittest
from collections.abc import Callable
from pathlib import Path

import slicer

sys.path.append(str(Path(__file__).resolve().parents[1]))

from StandIn.claims import all_claims


class MedPTQStandInTest(unittest.TestCase):
    def setUp(self) -> None:
        slicer.mrmlScene.Clear()


def _test(claim: Callable[[], None]) -> Callable[[unittest.TestCase], None]:
    return lambda _: claim()


for _claim in all_claims():
    setattr(MedPTQStandInTest, f"test_{_claim.__name__}", _test(_claim))
