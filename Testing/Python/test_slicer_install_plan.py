"""What an installation would change, and when it is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from packaging.version import Version

from medptq.installation.facts import Facts, facts
from MedPTQSlicerLib.installErrors import (
    FROZEN,
    InstallationError,
    constraintLines,
    pipError,
    requireInstallable,
    requireUnchanged,
)
from MedPTQSlicerLib.installing import DownloadProgress
from MedPTQSlicerLib.installPlan import InstallPlan, PlannedPackage, plannedPackages
from MedPTQSlicerLib.jobs import Job
from MedPTQSlicerLib.requirements import OLDEST_PYTHON, loadRequirements
from MedPTQSlicerLib.workerLaunch import WorkerPython

ROOT = Path(__file__).parents[2]
SLICERS = WorkerPython(Path("/slicer/bin/PythonSlicer"), isSlicers=True)
FOREIGN = WorkerPython(Path("/env/bin/python"), isSlicers=False)
SHA = "0" * 64
HERE = facts()


def _facts(packages: dict[str, str], **changed: Any) -> Facts:
    usual = {"kind": "venv", "externally_managed": False, "writable": True, "packages": packages}
    return replace(HERE, **{**usual, **changed})


def _report(packages: dict[str, str], **info: Any) -> dict[str, Any]:
    """Return what ``pip install --dry-run --report`` writes, as far as it is read."""
    return {
        "install": [
            {
                "metadata": {"name": name, "version": version},
                "download_info": {
                    "url": f"https://files.pythonhosted.org/x/{name}-{version}-py3-none-any.whl",
                    "archive_info": {"hashes": {"sha256": SHA}},
                    **info,
                },
            }
            for name, version in packages.items()
        ]
    }


# The requirements


def test_requirements_are_those_of_the_package() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    assert listed
    expected = [Requirement(text) for text in re.findall(r'"([^"]+)"', listed[1])]
    assert list(loadRequirements()) == expected


def test_the_oldest_python_is_the_packages() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'requires-python = ">={".".join(map(str, OLDEST_PYTHON))}' in project


def test_frozen_names_are_requirements() -> None:
    assert set(FROZEN) <= {requirement.name.lower() for requirement in loadRequirements()}


# The rules

NAMES = ["numpy", "simpleitk", "torch", "packaging", "rich", "some-thing"]
VERSIONS = ["1.0", "1.0.1", "1.9", "1.10", "2.0rc1", "2.0", "2.0+cpu", "not a version"]
PACKAGE_SETS = st.dictionaries(st.sampled_from(NAMES), st.sampled_from(VERSIONS))


@given(installed=PACKAGE_SETS, coming=PACKAGE_SETS)
def test_only_what_is_new_or_newer_is_ever_planned(
    installed: dict[str, str], coming: dict[str, str]
) -> None:
    # pip does not list what stays as it is.
    coming = {name: version for name, version in coming.items() if installed.get(name) != version}

    def is_refused(name: str) -> bool:
        if name not in installed:
            return False
        if name in FROZEN or "not a version" in (installed[name], coming[name]):
            return True
        return Version(coming[name]) <= Version(installed[name])

    if any(map(is_refused, coming)):
        is_frozen = any(name in FROZEN and name in installed for name in coming)
        with pytest.raises(InstallationError) as caught:
            plannedPackages(_report(coming), _facts(installed))
        assert caught.value.code == f"install.{'frozen' if is_frozen else 'downgrade'}"
        return
    planned = plannedPackages(_report(coming), _facts(installed))
    assert {package.name: package.version for package in planned} == coming
    assert {p.name: p.installed for p in planned} == {n: installed.get(n) for n in coming}


@pytest.mark.parametrize("name", ["NumPy", "numpy", "SimpleITK", "simpleitk"])
def test_numpy_and_simpleitk_never_change_however_they_are_written(name: str) -> None:
    installed = _facts({"numpy": "2.0.2", "simpleitk": "2.5.0"})
    with pytest.raises(InstallationError, match="would be replaced by 99") as caught:
        plannedPackages(_report({name: "99.0"}), installed)
    assert caught.value.code == "install.frozen"
    assert plannedPackages(
        _report({name: "99.0"}), _facts({})
    )  # where it is not there, it may come


def test_the_constraints_hold_them_at_what_is_there() -> None:
    found = _facts({"numpy": "2.0.2", "simpleitk": "2.5.0.dev7", "scipy": "1.1"})
    assert constraintLines(found) == "numpy===2.0.2\nsimpleitk===2.5.0.dev7\n"
    assert constraintLines(_facts({})) == ""


@pytest.mark.parametrize(
    "info",
    [
        {"url": "https://example.org/x-1.0.tar.gz"},
        {"url": "git+https://example.org/x", "archive_info": None},
        {"url": "file:///home/x", "archive_info": None},
    ],
)
def test_nothing_is_built_here(info: dict[str, Any]) -> None:
    with pytest.raises(InstallationError, match="built on this computer") as caught:
        plannedPackages(_report({"x": "1.0"}, **info), _facts({}))
    assert caught.value.code == "install.source"


@pytest.mark.parametrize(
    ("python", "changed", "code"),
    [
        (FOREIGN, {"kind": "plain"}, "install.system"),
        (FOREIGN, {"kind": "plain", "externally_managed": True}, "install.system"),
        (FOREIGN, {"kind": "conda", "externally_managed": True}, "install.system"),
        (FOREIGN, {"writable": False}, "install.unwritable"),
        (SLICERS, {"writable": False}, "install.unwritable"),
        (SLICERS, {"packages": {}}, "install.pip"),
        (FOREIGN, {"packages": {"pip": "22.1.2"}}, "install.pip"),
        (FOREIGN, {}, None),
        (FOREIGN, {"kind": "conda"}, None),
        (SLICERS, {"kind": "plain"}, None),
        (SLICERS, {"kind": "plain", "externally_managed": True}, None),
    ],
)
def test_what_may_be_installed_into(
    python: WorkerPython, changed: dict[str, Any], code: str | None
) -> None:
    found = _facts(**{"packages": {"pip": "25.0"}, **changed})
    if code is None:
        requireInstallable(python, found)
        return
    with pytest.raises(InstallationError) as caught:
        requireInstallable(python, found)
    assert caught.value.code == code


def test_a_change_of_numpy_is_not_called_a_success() -> None:
    before = _facts({"numpy": "2.0.2", "rich": "13.0"})
    requireUnchanged(before, _facts({"numpy": "2.0.2", "rich": "15.0", "simpleitk": "2.5"}))
    for after in ({"numpy": "2.4.6"}, {}):
        with pytest.raises(InstallationError, match="NumPy was changed") as caught:
            requireUnchanged(before, _facts(after))
        assert "numpy==2.0.2" in caught.value.todo


# What a user is shown


def _plan(python: WorkerPython = SLICERS, **sizes: int | None) -> InstallPlan:
    installed = {"numpy": "2.4.6", "simpleitk": "2.5.5", "packaging": "24.0", "pip": "25.0"}
    packages = tuple(
        PlannedPackage(
            name,
            "26.3" if name == "packaging" else "1.0",
            installed.get(name),
            "https://download.pytorch.org/x.whl"
            if name == "torch"
            else "https://files.pythonhosted.org/x.whl",
            SHA,
            size,
        )
        for name, size in sizes.items()
    )
    return InstallPlan(python, _facts(installed, site_packages="/opt/site-packages"), packages)


def test_the_question_says_exactly_what_changes() -> None:
    plan = _plan(torch=190_000_000, packaging=78_000, rich=310_000)
    question = plan.question()
    assert "3 packages will be installed into Slicer's Python, in /opt/site-packages." in question
    assert "190.4 MB are downloaded from download.pytorch.org and files.pythonhosted" in question
    assert "NumPy 2.4.6 and SimpleITK 2.5.5 stay as they are." in question
    assert "Replaced: packaging 24.0 by 26.3." in question
    assert "Restart Slicer afterwards" in question
    assert plan.table().splitlines() == [
        "torch 1.0, 190.0 MB",
        "packaging 26.3, 78 kB, replaces 24.0",
        "rich 1.0, 310 kB",
    ]


def test_sizes_that_are_not_told_are_not_made_up() -> None:
    assert "More than 2.5 GB are downloaded" in _plan(torch=2_500_000_000, rich=None).question()
    nothing = _plan(FOREIGN, rich=None)
    assert "Files of unknown size are downloaded" in nothing.question()
    assert "1 package will be installed into the Python that you have chosen" in nothing.question()
    assert "No package that is there now is changed" in nothing.question()
    assert "Restart" not in nothing.question()
    assert nothing.table() == "rich 1.0, size unknown"


def test_what_is_installed_is_pinned_by_version_and_hash() -> None:
    plan = _plan(rich=1)
    assert plan.installLines() == f"rich==1.0 --hash=sha256:{SHA}\n"
    assert plan.downloadLines() == f"rich @ {plan.packages[0].url} --hash=sha256:{SHA}\n"


# The download

PIP_26 = """\
Looking in indexes: https://pypi.org/simple, https://download.pytorch.org/whl/cpu
Collecting rich==1.0 (from -r plan.txt (line 1))
  Downloading rich-1.0-py3-none-any.whl.metadata (18 kB)
Collecting torch==1.0 (from -r plan.txt (line 2))
  Downloading torch-1.0-cp312-cp312-manylinux_2_28_x86_64.whl.metadata (29 kB)
Using cached rich-1.0-py3-none-any.whl (0.1 MB)
Downloading https://download.pytorch.org/torch-1.0-cp312-cp312-manylinux_2_28_x86_64.whl (0.9 MB)
Progress 0 of 900
Progress 450 of 900
Progress 900 of 900
Saved ./rich-1.0-py3-none-any.whl
"""


def _follow(progress: DownloadProgress) -> list[tuple[str, float | None, float | None]]:
    stages: list[tuple[str, float | None, float | None]] = []
    job: Job[None] = Job("", (_ for _ in ()))
    job.observe(changed=lambda job: stages.append((job.stage, job.fraction, job.etaSeconds)))
    for line in PIP_26.splitlines():
        progress.onLine(line, job)
    return stages


def test_progress_is_read_from_what_pip_prints() -> None:
    seconds = iter(range(100))
    stages = _follow(DownloadProgress(_plan(rich=100, torch=900), clock=lambda: next(seconds)))
    assert [fraction for _, fraction, _ in stages] == [0, 0.1, 0.1, pytest.approx(0.55), 1]
    assert [name for name, _, _ in stages] == ["Downloading rich 1.0"] + 4 * [
        "Downloading torch 1.0"
    ]
    assert [eta for _, _, eta in stages] == [None, 9, 18, pytest.approx(3 * 45 / 55), 0]


def test_progress_without_sizes_names_the_files_alone() -> None:
    stages = _follow(DownloadProgress(_plan(rich=None, torch=None)))
    assert stages[-1] == ("Downloading torch 1.0", None, None)


# When pip fails


@pytest.mark.parametrize(
    ("output", "code", "word"),
    [
        (
            "WARNING: Retrying (Retry(total=0, connect=None)) after connection broken by "
            "'NewConnectionError'\nERROR: No matching distribution found for torch>=2.6\n",
            "install.offline",
            "proxy",
        ),
        ("ERROR: No matching distribution found for openvino\n", "install.conflict", "python -m"),
        (
            "ERROR: Cannot install a and b.\nERROR: ResolutionImpossible: for help visit\n",
            "install.conflict",
            "this one stays as it is",
        ),
        ("ERROR: Could not install: [Errno 28] No space left on device\n", "install.space", "Free"),
        ("Traceback\nValueError: no\n", "install.pip-failed", "log"),
        ("", "install.pip-failed", "log"),
    ],
)
def test_pips_failures_are_told_in_one_sentence(output: str, code: str, word: str) -> None:
    error = pipError(output, "Nothing was installed")
    assert error.code == code
    assert error.what == "Nothing was installed"
    assert word in error.todo
    assert "\n" not in str(error)
