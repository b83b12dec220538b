"""Finding out what an installation would change, without changing anything."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from medptq.installation.facts import Facts
from MedPTQSlicerLib.installErrors import (
    InstallationError,
    constraintLines,
    pipError,
    requireInstallable,
)
from MedPTQSlicerLib.installPlan import InstallPlan, PlannedPackage, plannedPackages
from MedPTQSlicerLib.jobFolder import jobFolder
from MedPTQSlicerLib.programRun import ProgramRequest
from MedPTQSlicerLib.requirements import REQUIREMENTS_FILE, loadRequirements, unmetRequirements
from MedPTQSlicerLib.workerLaunch import WorkerPython, workerEnvironment

CPU_INDEX = "https://download.pytorch.org/whl/cpu"
"""PyTorch's own index of builds for CPUs: a tenth of the size of PyPI's for Linux."""

# Only ready-made files: to build one, its own code would be run, and a compiler be needed.
PIP = ("-m", "pip")
PIP_OPTIONS = ("--no-input", "--disable-pip-version-check", "--only-binary", ":all:")

_NOTHING = "Nothing was installed"
_UNPACKED = 4  # times the size of the download, with the download itself


def planSteps(
    python: WorkerPython, facts: Facts, requirementsFile: Path = REQUIREMENTS_FILE
) -> Generator[Any, Any, InstallPlan]:
    """Find out exactly what would be installed; the steps of a job that changes nothing.

    Args:
        python: The Python to install into.
        facts: What it has.
        requirementsFile: What it needs.

    Raises:
        InstallationError: It cannot be installed, or is refused; see
            :mod:`MedPTQSlicerLib.installErrors`.
    """
    requireInstallable(python, facts)
    with jobFolder() as folder:
        steps = _Planning(python, facts, requirementsFile, folder)
        indexArguments, notes = yield from steps.chooseTorch()
        packages = yield from steps.dryRun(indexArguments)
        if not packages:
            raise InstallationError(
                "nothing",
                _NOTHING,
                why="pip says that all is there",
                todo="Check again; if it stays so, choose another Python",
            )
        packages = yield from steps.withSizes(packages)
    plan = InstallPlan(python, facts, packages, notes)
    needed = _UNPACKED * plan.downloadBytes
    if needed > facts.free_disk_gb * 1e9:
        raise InstallationError(
            "space",
            _NOTHING,
            why=f"about {needed / 1e9:.1f} GB are needed in {facts.site_packages}, and"
            f" {facts.free_disk_gb:.1f} GB are free",
            todo="Free some space, or choose another Python",
        )
    return plan


class _Planning:
    """The steps, on one folder for pip's files."""

    def __init__(
        self, python: WorkerPython, facts: Facts, requirementsFile: Path, folder: Path
    ) -> None:
        self._python = python
        self._facts = facts
        self._requirementsFile = requirementsFile
        self._folder = folder
        self._constraints = folder / "constraints.txt"
        self._constraints.write_text(constraintLines(facts), encoding="utf-8")

    def chooseTorch(self) -> Generator[Any, Any, tuple[tuple[str, ...], tuple[str, ...]]]:
        """Hold PyTorch to its build for CPUs where PyPI's is for GPUs and there is none.

        Returns:
            pip's options for it, and what a user should know.
        """
        unmet = unmetRequirements(self._facts, loadRequirements(self._requirementsFile))
        wanted = [str(each.requirement) for each in unmet if each.name == "torch"]
        system = self._facts.environment["sys_platform"]
        if not wanted or system == "darwin":
            return (), ()
        if self._facts.gpus:
            extension = "install PyTorch with Slicer's PyTorch extension first"
            if system == "win32":
                return (), (f"PyTorch comes in its build for CPUs: for the GPU, {extension}.",)
            return (), (
                f"PyTorch comes in its build for NVIDIA GPUs. For an old driver, {extension}.",
            )
        if system != "linux" or self._facts.environment["platform_machine"] != "x86_64":
            return (), ()
        # Asked first, and briefly: where it cannot be reached, pip would wait for it at each
        # package, which takes minutes in all.
        once = ("--no-deps", "--index-url", CPU_INDEX, "--retries", "1", "--timeout", "10")
        done = yield self._pip("Looking for PyTorch", *once, *wanted, report="torch.json")
        packages = self._report("torch.json") if done["exitCode"] == 0 else ()
        if not any(package.version.endswith("+cpu") for package in packages):
            return (), (
                "PyTorch's own index of builds for CPUs cannot be reached, so PyPI's is taken,"
                " which brings libraries for NVIDIA GPUs that are not needed here.",
            )
        with self._constraints.open("a", encoding="utf-8") as file:
            file.writelines(f"{package.name}=={package.version}\n" for package in packages)
        return ("--extra-index-url", CPU_INDEX), ()

    def dryRun(
        self, indexArguments: Sequence[str]
    ) -> Generator[Any, Any, tuple[PlannedPackage, ...]]:
        """Ask pip what it would install."""
        requirements = ("--requirement", str(self._requirementsFile))
        done = yield self._pip(
            "Finding out what would change", *indexArguments, *requirements, report="plan.json"
        )
        if done["exitCode"] != 0:
            raise pipError(done["output"] + done["errors"], _NOTHING)
        return self._report("plan.json")

    def withSizes(
        self, packages: Sequence[PlannedPackage]
    ) -> Generator[Any, Any, tuple[PlannedPackage, ...]]:
        """Ask the servers how large the files are; it does not matter where they do not tell."""
        urls = self._folder / "urls.json"
        urls.write_text(json.dumps([package.url for package in packages]), encoding="utf-8")
        arguments = ("-m", "medptq.installation.download_sizes", str(urls))
        done = yield self._request("Adding up the download", arguments)
        sizes = json.loads(done["output"]) if done["exitCode"] == 0 else [None] * len(packages)
        return tuple(
            replace(package, sizeBytes=size) for package, size in zip(packages, sizes, strict=True)
        )

    def _pip(self, stage: str, *arguments: str, report: str) -> ProgramRequest:
        options = (*PIP_OPTIONS, "--no-user", "--dry-run", "--retries", "2")
        files = ("--constraint", str(self._constraints), "--report", str(self._folder / report))
        return self._request(stage, (*PIP, "install", *options, *files, *arguments))

    def _request(self, stage: str, arguments: Sequence[str]) -> ProgramRequest:
        environment = workerEnvironment(self._python, self._folder)
        return ProgramRequest(stage, self._python.path, arguments, environment, self._folder)

    def _report(self, name: str) -> tuple[PlannedPackage, ...]:
        report = json.loads((self._folder / name).read_text(encoding="utf-8"))
        return plannedPackages(report, self._facts)
