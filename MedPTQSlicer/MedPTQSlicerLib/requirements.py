"""What the worker's Python needs, and what of it a Python lacks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from medptq.installation.facts import Facts

REQUIREMENTS_FILE = Path(__file__).parents[1] / "Resources" / "requirements.txt"

OLDEST_PYTHON = (3, 10)
"""As in pyproject.toml. Whether a newer one will do is shown by what can be installed into it."""

_LARGEST = ("torch", "openvino", "monai", "onnx")
_MOST_NAMED = 3
_TITLES = {
    "monai": "MONAI",
    "numpy": "NumPy",
    "onnx": "ONNX",
    "onnx-ir": "ONNX IR",
    "openvino": "OpenVINO",
    "pillow": "Pillow",
    "scipy": "SciPy",
    "simpleitk": "SimpleITK",
    "torch": "PyTorch",
}


@dataclass(frozen=True)
class Unmet:
    """A requirement that a Python does not meet.

    Attributes:
        requirement: What is needed.
        installed: The version that is there, or None.
    """

    requirement: Requirement
    installed: str | None

    @property
    def name(self) -> str:
        """The package's normalized name."""
        return canonicalize_name(self.requirement.name)

    @property
    def title(self) -> str:
        """The package's name as its makers write it."""
        return packageTitle(self.requirement.name)

    def __str__(self) -> str:
        if self.installed is None:
            return f"{self.title} is missing"
        return f"{self.title} {self.installed} is not {self.requirement.specifier}"


def loadRequirements(path: Path = REQUIREMENTS_FILE) -> tuple[Requirement, ...]:
    """Read a requirements file, as ``slicer.packaging.load_requirements`` does from 5.12 on."""
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    return tuple(Requirement(line) for line in lines if line and not line.startswith(("#", "-")))


def unmetRequirements(facts: Facts, requirements: tuple[Requirement, ...]) -> tuple[Unmet, ...]:
    """Return the requirements that a Python does not meet, in their order."""
    unmet = []
    for requirement in requirements:
        marker = requirement.marker
        if marker is not None and not marker.evaluate(dict(facts.environment)):
            continue
        installed = facts.packages.get(canonicalize_name(requirement.name))
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            unmet.append(Unmet(requirement, installed))
    return tuple(unmet)


def lackLine(unmet: Sequence[Unmet]) -> str:
    """Return in one line what is missing; the largest are named.

    Args:
        unmet: At least one.
    """
    if len(unmet) == 1:
        return str(unmet[0])
    state = "missing" if all(each.installed is None for each in unmet) else "missing or too old"
    named = [each.title for each in sorted(unmet, key=_rank)[:_MOST_NAMED]]
    rest = len(unmet) - len(named)
    more = f" and {rest} more" if rest else ""
    return f"{len(unmet)} packages are {state}: {', '.join(named)}{more}"


def _rank(unmet: Unmet) -> int:
    return _LARGEST.index(unmet.name) if unmet.name in _LARGEST else len(_LARGEST)


def isOldPython(facts: Facts) -> bool:
    """Tell whether a Python is older than medptq can be run with."""
    major, minor = facts.python.split(".")[:2]
    return (int(major), int(minor)) < OLDEST_PYTHON


def packageTitle(name: str) -> str:
    """Return a package's name as its makers write it."""
    return _TITLES.get(canonicalize_name(name), name)
