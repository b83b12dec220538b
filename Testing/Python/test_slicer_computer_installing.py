"""Planning and doing installations with a real pip, in a real environment, from a small index."""

from __future__ import annotations

import subprocess
import sys
import time
import venv
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from medptq.errors import Cancelled
from package_index import PackageIndex
from slicer_gui import Gui
from slicer_worker import job_of

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="pip is lent by links")

FROZEN = {"numpy": "1.0", "SimpleITK": "2.0"}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment that no test changes."""
    return _make_environment(tmp_path_factory.mktemp("env") / "é with space")


def _make_environment(folder: Path) -> Path:
    """Make one with the pip that runs these tests, and "NumPy" and "SimpleITK"."""
    venv.create(folder, with_pip=False)
    python = folder / "bin" / "python"
    index = PackageIndex(folder / "index")
    wheels = [index.add(name, version) for name, version in FROZEN.items()]
    wheels.append(index.add("demo-b", "1.5"))
    pip = Path(__import__("pip").__file__).parents[1]
    [pips_own] = pip.glob("pip-*.dist-info")
    site_packages = next(folder.rglob("site-packages"))
    for name in ("pip", pips_own.name):
        (site_packages / name).symlink_to(pip / name)
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "--no-index", *wheels],
        check=True,
        cwd=folder,
    )
    return python


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageIndex]:
    """PyTorch for GPUs and for CPUs, and a package that wants a newer one than is there."""
    from MedPTQSlicerLib import installPlanning

    index = PackageIndex(tmp_path / "index")
    index.add("numpy", "9.0")
    index.add("simpleitk", "9.0")
    index.add("torch", "3.0", ["cuda-fake"])
    index.add("cuda-fake", "13.0")
    index.add("torch", "3.0+cpu", index="cpu")
    index.add("demo-a", "1.0", ["numpy", "demo-b>=2"])
    index.add("demo-b", "2.0")
    index.add("demo-b", "1.0")
    with index.serve(monkeypatch):
        monkeypatch.setattr(installPlanning, "CPU_INDEX", f"{index.url}/cpu")
        yield index


class Installer:
    """Plans and installs as the panel does, each a job."""

    def __init__(self, gui: Gui, python: Path, folder: Path) -> None:
        self.gui = gui
        self.folder = folder
        self.use(python)

    def use(self, python: Path) -> None:
        from MedPTQSlicerLib.workerLaunch import WorkerPython

        self.python = WorkerPython(python, isSlicers=False)

    def facts(self) -> Any:
        from MedPTQSlicerLib.pythonProbe import probeSteps

        return self.job(probeSteps(self.python)).wait(60)

    def plan(self, *requirements: str, facts: Any = None) -> Any:
        return self.planning(requirements, facts).wait(60)

    def planning(self, requirements: Sequence[str], facts: Any = None) -> Any:
        from MedPTQSlicerLib.installPlanning import planSteps

        wanted = self.folder / "requirements.txt"
        wanted.write_text("\n".join(["# what is needed", *requirements]), encoding="utf-8")
        return self.job(planSteps(self.python, facts or self.facts(), wanted))

    def installing(self, plan: Any) -> Any:
        from MedPTQSlicerLib.background import background
        from MedPTQSlicerLib.installing import installSteps

        return self.job(installSteps(plan, background().client))

    def job(self, steps: Any) -> Any:
        from MedPTQSlicerLib.jobs import Job

        return Job("Test", steps).start()


@pytest.fixture
def installer(gui: Gui, environment: Path, tmp_path: Path) -> Iterator[Installer]:
    made = Installer(gui, environment, tmp_path)
    yield made
    left = [path.name for path in (gui.folder / "tmp").glob("medptq-*")]
    assert left == []
    assert made.facts().packages["numpy"] == "1.0"  # whatever was tried


def _fails(job: Any, code: str) -> Any:
    from MedPTQSlicerLib.installErrors import InstallationError

    with pytest.raises(InstallationError) as raised:
        job.wait(60)
    assert raised.value.code == f"install.{code}"
    return raised.value


def test_what_was_planned_is_what_is_installed(
    installer: Installer, index: PackageIndex, tmp_path: Path
) -> None:
    installer.use(_make_environment(tmp_path / "changed"))
    before = installer.facts()
    plan = installer.plan("torch>=2.6", "demo-a>=1", "numpy>=1", "SimpleITK", facts=before)
    if sys.platform == "linux":
        assert {package.name: package.version for package in plan.packages} == {
            "demo-a": "1.0",
            "demo-b": "2.0",
            "torch": "3.0+cpu",
        }
        assert plan.notes == ()
    assert {p.name: p.installed for p in plan.packages if p.installed} == {"demo-b": "1.5"}
    assert all(package.sha256 or package.sizeBytes for package in plan.packages)
    assert plan.downloadBytes == sum(
        wheel.stat().st_size
        for package in plan.packages
        for wheel in index.folder.rglob(f"{package.name.replace('-', '_')}-{package.version}-*")
    )
    assert "Replaced: demo-b 1.5 by 2.0." in plan.question()
    assert installer.facts().packages == before.packages  # nothing has happened yet

    index.add("demo-b", "3.0")  # a newer one comes out before the user has agreed
    job = installer.installing(plan)
    job.wait(60)
    after = installer.facts()
    assert {
        name: version
        for name, version in after.packages.items()
        if before.packages.get(name) != version
    } == {package.name: package.version for package in plan.packages}
    assert any("Downloading demo-a 1.0" in line for line in job.log)


def test_no_worker_is_started_while_packages_are_replaced(
    installer: Installer, index: PackageIndex, tmp_path: Path
) -> None:
    from MedPTQSlicerLib.background import background

    client = background().client
    installer.use(_make_environment(tmp_path / "changed"))
    plan = installer.plan("demo-b>=2")
    asked = []

    def ask(job: Any) -> None:
        if job.stage.startswith("Installing") and not asked:
            asked.append(job_of(client, "models").start())

    job = installer.installing(plan)
    job.observe(changed=ask)
    job.wait(60)
    assert asked[0].error.code == "worker.installing"
    assert (client.state, client.isHeld) == ("stopped", False)
    background().stop()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere PyPI's builds are for CPUs")
def test_without_pytorchs_own_index_the_plan_says_what_comes_instead(
    installer: Installer, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedPTQSlicerLib import installPlanning

    monkeypatch.setattr(installPlanning, "CPU_INDEX", "http://127.0.0.1:9/cpu")
    plan = installer.plan("torch>=2.6")
    assert [package.name for package in plan.packages] == ["cuda-fake", "torch"]
    assert "libraries for NVIDIA GPUs that are not needed here" in plan.question()


def test_with_a_gpu_the_build_for_gpus_is_taken(installer: Installer, index: PackageIndex) -> None:
    from medptq.installation.nvidia import Gpu

    facts = replace(installer.facts(), gpus=(Gpu("NVIDIA T4", "550", 15360, 15000),))
    plan = installer.plan("torch>=2.6", facts=facts)
    assert [package.name for package in plan.packages] == ["cuda-fake", "torch"]
    assert "PyTorch comes in its build for" in plan.question()


def test_what_needs_another_numpy_is_refused(installer: Installer, index: PackageIndex) -> None:
    index.add("demo-c", "1.0", ["numpy>=2"])
    error = _fails(installer.planning(["demo-c"]), "conflict")
    assert "demo-c 1.0 depends on numpy>=2; numpy stays 1.0" in error.why
    _fails(installer.planning(["numpy>=2"]), "conflict")


def test_a_downgrade_is_refused(installer: Installer, index: PackageIndex) -> None:
    index.add("demo-d", "1.0", ["demo-b<1.5"])
    error = _fails(installer.planning(["demo-d"]), "downgrade")
    assert "demo-b 1.5 would be replaced by 1.0" in error.why


def test_what_would_have_to_be_built_is_refused(installer: Installer, index: PackageIndex) -> None:
    index.add_source("demo-e", "1.0")
    _fails(installer.planning(["demo-e"]), "conflict")


def test_no_network_is_told(
    installer: Installer, index: PackageIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    error = _fails(installer.planning(["demo-a"]), "offline")
    assert "proxy" in error.todo


def test_nothing_to_install_is_no_plan(installer: Installer, index: PackageIndex) -> None:
    _fails(installer.planning(["numpy>=1"]), "nothing")


def test_too_little_space_is_told_before(installer: Installer, index: PackageIndex) -> None:
    facts = replace(installer.facts(), free_disk_gb=1e-7)
    _fails(installer.planning(["demo-a"], facts), "space")


def test_cancelling_the_download_changes_nothing_and_leaves_nothing(
    installer: Installer, index: PackageIndex
) -> None:
    plan = installer.plan("demo-a")
    before = installer.facts()
    index.stalls = {"demo_a-1.0-py3-none-any.whl"}
    job = installer.installing(plan)
    installer.gui.waitUntil(lambda: any("Downloading demo-a" in line for line in job.log), 30)
    pips = psutil.Process().children(recursive=True)
    assert pips
    started = time.monotonic()
    job.cancel()
    with pytest.raises(Cancelled):
        job.wait(10)
    assert time.monotonic() - started < 2
    assert psutil.wait_procs(pips, 2)[1] == []
    assert installer.facts().packages == before.packages


def test_another_file_than_was_planned_is_not_installed(
    installer: Installer, index: PackageIndex
) -> None:
    plan = installer.plan("demo-a")
    plan = replace(
        plan, packages=tuple(replace(package, sha256="0" * 64) for package in plan.packages)
    )
    before = installer.facts()
    error = _fails(installer.installing(plan), "pip-failed")
    assert "HASH" in error.why.upper()
    assert installer.facts().packages == before.packages


@pytest.mark.network
def test_the_real_index_is_asked(installer: Installer, monkeypatch: pytest.MonkeyPatch) -> None:
    from MedPTQSlicerLib.installErrors import InstallationError

    monkeypatch.setenv("PIP_CONFIG_FILE", str(installer.folder / "none"))
    try:
        plan = installer.plan("packaging>=23", "platformdirs>=4")
    except InstallationError as error:
        if error.code == "install.offline":
            pytest.skip(f"no package index can be reached: {error.why}")
        raise
    assert [package.name for package in plan.packages] == ["packaging", "platformdirs"]
    assert all(package.sha256 for package in plan.packages)
    assert 50_000 < plan.downloadBytes < 1_000_000
