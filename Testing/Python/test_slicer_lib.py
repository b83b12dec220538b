"""The files of the Slicer module as such: what they may import."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

LIBRARY = Path(__file__).parents[2] / "MedPTQSlicer" / "MedPTQSlicerLib"
TESTING = Path(__file__).parents[1]
SOURCES = sorted(LIBRARY.rglob("*.py"))

# What Slicer 5.10 and later bundle, of what is of use here. Anything else is in the worker's
# Python, or would have to be installed into Slicer's, which is what breaks other extensions.
BUNDLED = {"numpy", "packaging", "pydicom", "requests", "scipy", "SimpleITK"}
SLICER = {"SampleData", "ctk", "qt", "slicer", "vtk"}
OWN = {"medptq", "MedPTQSlicerLib"}


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.partition(".")[0])
    return found


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_only_what_slicer_bundles_is_imported(path: Path) -> None:
    assert _imports(path) <= BUNDLED | SLICER | OWN | sys.stdlib_module_names


def test_nor_does_what_is_imported_of_medptq_need_more() -> None:
    pytest.importorskip("slicer", reason="slicer-core is not installed")
    pytest.importorskip(
        "PySide6.QtWidgets", reason="PySide6 is not installed", exc_type=ImportError
    )
    modules = [path.stem for path in SOURCES if path.parent == LIBRARY and path.stem != "__init__"]
    imports = "".join(f"import MedPTQSlicerLib.{name}\n" for name in modules)
    # Some take Slicer's classes at once; what the stand-in itself needs is loaded before.
    slicer = "import sys, StandIn\nStandIn.install()\nbefore = set(sys.modules)\n"
    done = subprocess.run(
        [sys.executable, "-c", f"{slicer}{imports}print(*set(sys.modules) - before)"],
        cwd=LIBRARY.parent,
        env={**os.environ, "PYTHONPATH": str(TESTING)},
        capture_output=True,
        text=True,
        check=True,
    )
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded >= OWN
    assert loaded - {"cython_runtime", "slicer"} <= BUNDLED | OWN | sys.stdlib_module_names
