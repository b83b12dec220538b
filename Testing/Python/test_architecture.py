"""The rooms of medptq and which may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "MedPTQSlicer" / "medptq"

# From the foundation up: a room may import from those above it in this list, never from below.
ROOMS = (
    *("errors", "progress", "artifacts", "threads", "parent_watch", "installation", "versions"),
    *("scans", "graph", "models", "quantization", "engines", "inference", "evaluate"),
    *("benchmarking", "housekeeping", "studies", "api", "answers", "cli", "worker"),
)
# Two ways in, side by side: neither may import the other.
DOORS = {"cli", "worker"}
FOREIGN = {"slicer", "qt", "ctk", "vtk", "MedPTQSlicerLib"}


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return found


SOURCES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_one_way(path: Path) -> None:
    room = _room(path)
    for name in _imports(path):
        parts = name.split(".")
        assert parts[0] not in FOREIGN, f"{path.name} imports {name}"
        if parts[0] != "medptq" or len(parts) == 1 or room in ("__init__", "__main__"):
            continue
        assert ROOMS.index(parts[1]) <= ROOMS.index(room), f"{room} imports {name}"
        assert parts[1] == room or not {parts[1], room} <= DOORS, f"{room} imports {name}"


def test_every_room_is_known() -> None:
    rooms = {_room(path) for path in SOURCES} - {"__init__", "__main__"}
    assert rooms == set(ROOMS)


def test_importing_the_package_is_light() -> None:
    code = "import medptq, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "openvino", "SimpleITK"} & set(done.stdout.split())
