"""Folders for jobs: where they are made, who may read them, and what becomes of them."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pytest

# Makes a folder as another Slicer does, tells its path, and lives until its stdin ends.
OTHER = """
import sys, types
sys.path.insert(0, sys.argv[1])
app = types.SimpleNamespace(temporaryPath=sys.argv[2])
sys.modules["slicer"] = types.SimpleNamespace(app=app)
from MedPTQSlicerLib.jobFolder import JobFolder
folder = JobFolder()
print(folder.path, flush=True)
sys.stdin.read()
import os; os._exit(9)
"""
LIBRARY = Path(__file__).parents[2] / "MedPTQSlicer"


@pytest.fixture
def temporary(
    gui_without_window: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    """Slicer's temporary folder; leftovers have not been looked for yet."""
    from MedPTQSlicerLib import jobFolder

    monkeypatch.setattr(jobFolder, "_hasLooked", False)
    return Path(gui_without_window.app.temporaryPath)


def _other(temporary: Path) -> tuple[subprocess.Popen[str], Path]:
    process = subprocess.Popen(
        [sys.executable, "-c", OTHER, str(LIBRARY), str(temporary)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    return process, Path(process.stdout.readline().strip())


def test_it_is_this_users_alone_and_goes_with_the_block(temporary: Path) -> None:
    from MedPTQSlicerLib.jobFolder import jobFolder

    def steps() -> Any:
        with jobFolder() as folder:
            yield folder
            raise KeyError

    running = steps()
    folder = next(running)
    assert folder.parent == temporary
    if sys.platform != "win32":
        assert folder.stat().st_mode & 0o777 == 0o700
    (folder / "inner").mkdir()
    (folder / "inner" / "scan.nrrd").write_bytes(b"voxels")
    with jobFolder() as another:
        assert another != folder
    assert folder.exists()
    with pytest.raises(KeyError):
        next(running)
    assert list(temporary.iterdir()) == []


def test_a_folder_of_scans_holds_nothing_else(temporary: Path) -> None:
    from MedPTQSlicerLib.jobFolder import jobFolder

    with jobFolder() as folder:
        assert [path for path in folder.iterdir() if not path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["tmp é", "٢٠٢٦", "臨時"])
def test_the_path_is_ascii_where_slicers_is_not(
    temporary: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    import slicer

    from MedPTQSlicerLib.jobFolder import jobFolder

    class App:
        temporaryPath = str(tmp_path / name)  # noqa: N815

    (tmp_path / name).mkdir()
    monkeypatch.setattr(slicer, "app", App)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with jobFolder() as folder:
        assert str(folder).isascii()
        assert len(str(folder)) < 60
    assert not folder.exists()
    assert list((tmp_path / name).iterdir()) == []


def test_what_a_dead_slicer_has_left_is_removed_and_no_other(temporary: Path) -> None:
    from MedPTQSlicerLib.jobFolder import JobFolder

    dead, left = _other(temporary)
    (left / "files").mkdir()
    (left / "files" / "scan.nrrd").write_bytes(b"voxels")
    dead.communicate()
    alive, used = _other(temporary)  # which has looked for leftovers itself
    assert not left.exists()
    dead, left = _other(temporary)
    assert used.exists()
    dead.communicate()

    not_ours = temporary / "medptq-job-results"
    not_ours.mkdir()
    (not_ours / "mine.txt").write_text("keep")
    just_made, abandoned = temporary / "medptq-job-new", temporary / "medptq-job-old"
    for folder in (just_made, abandoned):
        folder.mkdir()
    os.utime(abandoned, (1, 1))
    if sys.platform != "win32":
        (temporary / "medptq-job-link").symlink_to(used)
    with_lock = JobFolder()
    second = JobFolder()
    assert not left.exists()
    assert not abandoned.exists()
    assert all(path.exists() for path in (used, not_ours, just_made, with_lock.path))
    second.close()
    assert with_lock.path.exists()
    with_lock.close()
    alive.communicate()
    assert used.exists()  # it was alive when this Slicer looked


def test_what_cannot_be_removed_now_is_removed_later(
    temporary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib import jobFolder

    def is_open(path: Path, **_: Any) -> None:
        raise PermissionError(path)  # as on Windows, where a process has it open

    folder = jobFolder.JobFolder()
    (folder.path / "inner").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", is_open)
        folder.close()
    assert folder.path.exists()
    jobFolder.JobFolder().close()
    assert list(temporary.iterdir()) == []
