"""The extension as it is installed: CMake's lists, the disk, and a copy of what is listed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
MODULE = ROOT / "MedPTQSlicer"
GENERATED = ("__pycache__", "egg-info")


def _list(cmake: Path, variable: str) -> list[str]:
    text = re.sub(r"#.*", "", cmake.read_text(encoding="utf-8"))
    listed = re.search(rf"set\({variable}\s+([^)]*)\)", text)
    assert listed, f"{cmake} has no {variable}"
    return listed[1].replace("${MODULE_NAME}", "MedPTQSlicer").split()


SCRIPTS = _list(MODULE / "CMakeLists.txt", "MODULE_PYTHON_SCRIPTS")
RESOURCES = _list(MODULE / "CMakeLists.txt", "MODULE_PYTHON_RESOURCES")


def test_every_file_of_the_module_is_installed() -> None:
    on_disk = {
        path.relative_to(MODULE).as_posix()
        for path in MODULE.rglob("*")
        if path.is_file() and not any(word in str(path) for word in GENERATED)
    }
    assert set(SCRIPTS + RESOURCES) == on_disk - {"CMakeLists.txt"}


def test_each_is_listed_once_and_in_its_list() -> None:
    assert len(SCRIPTS + RESOURCES) == len({name.lower() for name in SCRIPTS + RESOURCES})
    assert all(name.endswith(".py") for name in SCRIPTS)
    assert not [name for name in RESOURCES if name.endswith(".py")]


def test_what_is_listed_is_all_that_medptq_needs(tmp_path: Path) -> None:
    installed = tmp_path / "qt-scripted-modules"
    for name in SCRIPTS + RESOURCES:
        (installed / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(MODULE / name, installed / name)
    modules = [
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        for name in SCRIPTS
        if name.startswith("medptq/") and not name.endswith("__main__.py")
    ]
    code = f"""
import importlib, sys
sys.path.insert(0, {str(installed)!r})
for name in {modules!r}:
    module = importlib.import_module(name)
    assert module.__file__.startswith({str(installed)!r}), module.__file__
import medptq.cli
sys.exit(medptq.cli.main(["models", "--json"]))
"""
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert '"deepbet"' in done.stdout


def test_the_extension_is_named_as_slicers_index_asks() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    assert "project(MedPTQSlicer)" in text
    for place in re.findall(r"\$\{_files\}/([^\"]+)\"", text):
        assert (ROOT / "Resources" / place).is_file()
    [repository] = re.findall(r'set\(_repository "[^/]+/([^"]+)"\)', text)
    assert repository.startswith("Slicer")


def test_every_test_for_a_real_slicer_is_registered_with_and_without_a_window() -> None:
    folder = ROOT / "Testing" / "Slicer"
    text = (folder / "CMakeLists.txt").read_text(encoding="utf-8")
    names = {path.name for path in folder.glob("*Test.py")}
    assert names
    assert set(re.findall(r"SCRIPT (\w+\.py)", text)) == names
