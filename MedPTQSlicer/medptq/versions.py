"""Versions of installed libraries, without importing them."""

from __future__ import annotations

import functools
import importlib.metadata


@functools.cache
def installed_version(distribution: str) -> str:
    """Return the version of a distribution, or "" if it is not installed; it is not imported.

    That is not so for ``medptq`` itself, which 3D Slicer imports from the extension's folder: its
    version is ``medptq.__version__``.
    """
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return ""
