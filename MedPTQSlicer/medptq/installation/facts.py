"""A Python's version, place, packages and GPUs, as plain values."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from medptq.installation.nvidia import Gpu, nvidia_gpus


@dataclass(frozen=True)
class Facts:
    """What a Python has.

    Attributes:
        python: Its version.
        executable: The program.
        prefix: The folder of its environment.
        kind: ``"venv"``, ``"conda"`` or ``"plain"``, which is neither.
        externally_managed: Whether its system forbids pip to change it (PEP 668).
        site_packages: The folder where pip would install.
        writable: Whether files can be made there.
        free_disk_gb: Space that is free there.
        packages: The installed versions by normalized name.
        environment: What markers of requirements are evaluated in (PEP 508).
        system: Operating system and its version.
        gpus: The NVIDIA GPUs.
    """

    python: str
    executable: str
    prefix: str
    kind: str
    externally_managed: bool
    site_packages: str
    writable: bool
    free_disk_gb: float
    packages: Mapping[str, str]
    environment: Mapping[str, str]
    system: str
    gpus: tuple[Gpu, ...]

    def to_json(self) -> str:
        """Return them as one line of ASCII."""
        return json.dumps(asdict(self), ensure_ascii=True)

    @staticmethod
    def from_json(text: str) -> Facts:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: It is something else.
        """
        try:
            values = json.loads(text)
            return Facts(**{**values, "gpus": tuple(Gpu(**gpu) for gpu in values["gpus"])})
        except (ValueError, TypeError, KeyError):
            raise ValueError("these are no facts about a Python") from None


def facts() -> Facts:
    """Return what the Python that runs this has."""
    site_packages = sysconfig.get_path("purelib")
    return Facts(
        python=platform.python_version(),
        executable=sys.executable,
        prefix=sys.prefix,
        kind=_kind(),
        externally_managed=_is_externally_managed(),
        site_packages=site_packages,
        writable=_is_writable(site_packages),
        free_disk_gb=_free_disk_gb(site_packages),
        packages=_packages(),
        environment=_environment(),
        system=platform.platform(terse=True),
        gpus=nvidia_gpus(),
    )


def _kind() -> str:
    if sys.prefix != sys.base_prefix:
        return "venv"
    return "conda" if (Path(sys.prefix) / "conda-meta").is_dir() else "plain"


def _is_externally_managed() -> bool:
    marker = Path(sysconfig.get_path("stdlib")) / "EXTERNALLY-MANAGED"
    return _kind() != "venv" and marker.is_file()


def _is_writable(folder: str) -> bool:
    try:
        with tempfile.TemporaryFile(dir=folder):  # Windows does not tell in any other way
            return True
    except OSError:
        return False


def _free_disk_gb(folder: str) -> float:
    existing = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
    return shutil.disk_usage(existing).free / 1e9


def _packages() -> dict[str, str]:
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata["Name"], distribution.metadata["Version"]
        except FileNotFoundError:  # so says the package importlib_metadata, where others import it
            continue
        if name and version:  # what an interrupted installation leaves has neither
            normalized = re.sub(r"[-_.]+", "-", name).lower()
            found.setdefault(normalized, version)  # the first one is what an import finds
    return found


def _environment() -> dict[str, str]:
    version = sys.implementation.version
    suffix = "" if version.releaselevel == "final" else f"{version.releaselevel[0]}{version.serial}"
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": f"{version.major}.{version.minor}.{version.micro}{suffix}",
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": platform.python_version(),
        "python_version": ".".join(platform.python_version_tuple()[:2]),
        "sys_platform": sys.platform,
    }
