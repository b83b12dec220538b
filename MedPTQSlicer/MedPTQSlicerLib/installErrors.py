"""When nothing is installed, and why an installation failed, in the words that a user is shown."""

from __future__ import annotations

import re
from typing import ClassVar

from packaging.version import Version

from medptq.errors import MedPTQError
from medptq.installation.facts import Facts
from MedPTQSlicerLib.requirements import packageTitle
from MedPTQSlicerLib.workerLaunch import WorkerPython

FROZEN = ("numpy", "simpleitk")
"""Slicer and its extensions are built for the versions that are there: these never change."""

OLDEST_PIP = Version("22.2")
"""The first that tells what it would install."""

NEW_ENVIRONMENT = (
    'Make an environment of its own ("python -m venv FOLDER") and choose its Python here; this one'
    " stays as it is"
)


class InstallationError(MedPTQError):
    """What is missing cannot be installed."""

    family: ClassVar[str] = "install"


def constraintLines(facts: Facts) -> str:
    """Return a constraints file that keeps pip from changing NumPy and SimpleITK."""
    return "".join(
        f"{name}==={facts.packages[name]}\n" for name in FROZEN if name in facts.packages
    )


def requireInstallable(python: WorkerPython, facts: Facts) -> None:
    """Refuse a Python that nothing may be installed into.

    Raises:
        InstallationError: ``system`` - it belongs to the system, or is no environment of its own;
            ``unwritable`` - its folder cannot be written to; ``pip`` - it has none, or too old a
            one.
    """
    if not python.isSlicers and (facts.externally_managed or facts.kind == "plain"):
        raise InstallationError(
            "system",
            "Nothing is installed into this Python",
            why="it belongs to the system"
            if facts.externally_managed
            else "it is no environment of its own, and other programs may use it",
            todo=NEW_ENVIRONMENT,
        )
    if not facts.writable:
        raise InstallationError(
            "unwritable",
            "Nothing can be installed into this Python",
            why=f"{facts.site_packages} cannot be written to",
            todo="Start Slicer as a user who may write there, or choose another Python here",
        )
    pip = facts.packages.get("pip")
    if pip is None or Version(pip) < OLDEST_PIP:
        how = "ensurepip" if pip is None else "pip install --upgrade pip"
        raise InstallationError(
            "pip",
            "Nothing can be installed into this Python",
            why="it has no pip" if pip is None else f"its pip {pip} is too old",
            todo=f'Run "{python.path} -m {how}", and check again',
        )


def requireUnchanged(before: Facts, after: Facts) -> None:
    """Refuse to call an installation good that changed what must not change.

    Raises:
        InstallationError: ``changed``
    """
    for name in FROZEN:
        if name in before.packages and before.packages[name] != after.packages.get(name):
            raise InstallationError(
                "changed",
                f"{packageTitle(name)} was changed",
                why=f"it was {before.packages[name]} and is {after.packages.get(name, 'gone')}",
                todo=f'Run "{before.executable} -m pip install {name}=={before.packages[name]}"',
            )


def pipError(output: str, what: str) -> InstallationError:
    """Return in one sentence why pip failed.

    Args:
        output: All that it printed.
        what: What did not happen.
    """
    errors = re.findall(r"^ERROR: (.*)$", output, re.MULTILINE)
    said = f'pip says "{errors[-1].rstrip(".")}"' if errors else "pip failed without a word"
    if "No space left on device" in output:
        return InstallationError(
            "space", what, why="the disk is full", todo="Free some space, and try again"
        )
    if re.search(r"Retrying \(|NewConnectionError|ProxyError|SSLError|ReadTimeout", output):
        return InstallationError(
            "offline",
            what,
            why=f"the package index cannot be reached; {said}",
            todo="Connect to the network, and check pip's index, proxy and certificates",
        )
    if "ResolutionImpossible" in output or "No matching distribution" in output:
        return InstallationError(
            "conflict",
            what,
            why=f"the packages do not go with what is in this Python: {_conflict(output) or said}",
            todo=NEW_ENVIRONMENT,
        )
    return InstallationError(
        "pip-failed", what, why=said, todo="See the log, and choose another Python if it stays so"
    )


def _conflict(output: str) -> str:
    """Return what pip says of a conflict, in one line."""
    told = re.search(r"^The conflict is caused by:\n((?: +\S.*\n)+)", output, re.MULTILINE)
    lines = told[1].splitlines() if told else []
    kept = (re.sub(r".*\(constraint\) (.+?)===?(.+)", r"\1 stays \2", line) for line in lines)
    return "; ".join(line.strip() for line in kept)
