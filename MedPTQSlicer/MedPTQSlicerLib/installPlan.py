"""Exactly what an installation would change, and when that is refused."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from medptq.installation.facts import Facts
from MedPTQSlicerLib.installErrors import FROZEN, NEW_ENVIRONMENT, InstallationError
from MedPTQSlicerLib.requirements import packageTitle
from MedPTQSlicerLib.workerLaunch import WorkerPython


@dataclass(frozen=True)
class PlannedPackage:
    """One package that would be installed.

    Attributes:
        name: Its name.
        version: The version to come.
        installed: The version that it replaces, or None.
        url: Where it is downloaded from.
        sha256: What its file must hash to, or None where the index does not say.
        sizeBytes: The size of the file, or None where the server does not tell.
    """

    name: str
    version: str
    installed: str | None
    url: str
    sha256: str | None
    sizeBytes: int | None = None


@dataclass(frozen=True)
class InstallPlan:
    """An installation, ready to be shown and then done as shown.

    Attributes:
        python: The Python that is changed.
        facts: What it has now.
        packages: All that is installed, by name.
        notes: What else should be known; sentences.
    """

    python: WorkerPython
    facts: Facts
    packages: tuple[PlannedPackage, ...]
    notes: tuple[str, ...] = ()

    @property
    def downloadBytes(self) -> int:
        """What is downloaded in all, as far as it is known."""
        return sum(package.sizeBytes or 0 for package in self.packages)

    def downloadLines(self) -> str:
        """Return a requirements file of these very files, by address and hash."""
        return self._lines(" @ ", lambda package: package.url)

    def installLines(self) -> str:
        """Return a requirements file that allows these packages alone, by version and hash."""
        return self._lines("==", lambda package: package.version)

    def _lines(self, joint: str, source: Callable[[PlannedPackage], str]) -> str:
        hasHashes = all(package.sha256 for package in self.packages)  # pip wants all or none
        return "".join(
            f"{package.name}{joint}{source(package)}"
            + (f" --hash=sha256:{package.sha256}\n" if hasHashes else "\n")
            for package in self.packages
        )

    def question(self) -> str:
        """Return what a user is asked before anything is done; a few sentences."""
        count = len(self.packages)
        unknown = sum(package.sizeBytes is None for package in self.packages)
        size = f"{_sizeText(self.downloadBytes)} are"
        if unknown:
            size = f"More than {size}" if self.downloadBytes else "Files of unknown size are"
        where = "Slicer's Python" if self.python.isSlicers else "the Python that you have chosen"
        hosts = sorted(
            {urlsplit(package.url).hostname or "this computer" for package in self.packages}
        )
        changes = [package for package in self.packages if package.installed is not None]
        frozen = [
            f"{packageTitle(name)} {self.facts.packages[name]}"
            for name in FROZEN
            if name in self.facts.packages
        ]
        kept = f"{' and '.join(frozen)} stay as they are. " if len(frozen) > 1 else ""
        changed = (
            f"Replaced: {', '.join(f'{p.name} {p.installed} by {p.version}' for p in changes)}."
            if changes
            else "No package that is there now is changed or removed."
        )
        notes = [*self.notes]
        if changes and self.python.isSlicers:
            notes.append("Restart Slicer afterwards: it may have the replaced ones loaded.")
        return "\n\n".join(
            [
                f"{count} package{'s' if count > 1 else ''} will be installed into {where}, in"
                f" {self.facts.site_packages}.",
                f"{size} downloaded from {_listed(sorted(hosts))}. {kept}{changed}",
                *notes,
                "Install now?",
            ]
        )

    def table(self) -> str:
        """Return a line for each package: name, version, size, what it replaces."""
        return "\n".join(
            f"{package.name} {package.version}, "
            f"{'size unknown' if package.sizeBytes is None else _sizeText(package.sizeBytes)}"
            + (f", replaces {package.installed}" if package.installed is not None else "")
            for package in self.packages
        )


def plannedPackages(report: Mapping[str, Any], facts: Facts) -> tuple[PlannedPackage, ...]:
    """Return what pip would install, by name, or refuse it.

    Args:
        report: What ``pip install --dry-run --report`` wrote.
        facts: What the Python has now.

    Raises:
        InstallationError: ``frozen`` - NumPy or SimpleITK would change; ``downgrade`` - something
            would be replaced by an older version; ``source`` - something is not a file of an
            index.
    """
    packages = sorted(
        (_package(entry, facts) for entry in report["install"]), key=lambda package: package.name
    )
    _refuse(packages)
    return tuple(packages)


def _package(entry: Mapping[str, Any], facts: Facts) -> PlannedPackage:
    name, version = entry["metadata"]["name"], entry["metadata"]["version"]
    archive = entry["download_info"].get("archive_info")
    url = entry["download_info"]["url"]
    if archive is None or not urlsplit(url).path.endswith(".whl"):
        raise InstallationError(
            "source",
            "Nothing was installed",
            why=f"{name} {version} would have to be built on this computer",
            todo="Choose another Python, for which there are ready-made files",
        )
    return PlannedPackage(
        name=canonicalize_name(name),
        version=version,
        installed=facts.packages.get(canonicalize_name(name)),
        url=url,
        sha256=(archive.get("hashes") or {}).get("sha256"),
    )


def _refuse(packages: Iterable[PlannedPackage]) -> None:
    replacing = [package for package in packages if package.installed is not None]
    for package in replacing:
        if package.name in FROZEN:
            raise InstallationError(
                "frozen",
                "Nothing was installed",
                why=f"{packageTitle(package.name)} {package.installed} would be replaced by"
                f" {package.version}, which can break what else uses it",
                todo=NEW_ENVIRONMENT,
            )
    for package in replacing:
        if not _isNewer(package.version, str(package.installed)):
            raise InstallationError(
                "downgrade",
                "Nothing was installed",
                why=f"{package.name} {package.installed} would be replaced by {package.version},"
                " and what else is installed there may need it",
                todo=NEW_ENVIRONMENT,
            )


def _isNewer(version: str, installed: str) -> bool:
    try:
        return Version(version) > Version(installed)
    except InvalidVersion:
        return False


def _listed(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _sizeText(size: float) -> str:
    for unit, bytes_ in (("GB", 1e9), ("MB", 1e6)):
        if size >= bytes_:
            return f"{size / bytes_:.1f} {unit}"
    return f"{size / 1e3:.0f} kB"
