"""The user's cache: downloads, exported networks and built engines, kept between runs.

It lies where the system keeps caches, or where the environment variable ``MEDPTQ_CACHE`` says.
Everything in it can be made again, so it may be cleared at any time.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Literal, TypeAlias, get_args

import platformdirs

from medptq.artifacts import folder_size
from medptq.errors import ModelError
from medptq.models.user_folders import user_folder

Part: TypeAlias = Literal["downloads", "networks", "engines"]


def cache_root() -> Path:
    """Return the cache's folder; it need not exist yet."""
    return user_folder(
        "MEDPTQ_CACHE", lambda: platformdirs.user_cache_path("medptq", appauthor=False)
    )


def cache_folder(part: Part) -> Path:
    """Return one of the cache's parts; it need not exist yet.

    The folders carry the program's name, so that clearing the cache deletes nothing of the
    user's where ``MEDPTQ_CACHE`` names a folder that also holds other things.
    """
    return cache_root() / f"medptq-{part}"


def cache_size() -> int:
    """Return the cache's size in bytes."""
    return sum(folder_size(cache_folder(part)) for part in get_args(Part))


def clear_cache() -> int:
    """Delete everything in the cache.

    Returns:
        The bytes that were freed.

    Raises:
        ModelError: ``model.cache`` - something in it cannot be deleted.
    """
    freed = cache_size()
    for part in get_args(Part):
        folder = cache_folder(part)
        try:
            if folder.exists():
                shutil.rmtree(folder)
        except OSError as error:
            raise ModelError(
                "cache",
                f"The cache {folder} could not be cleared",
                why=error.strerror or str(error),
                todo="Close the programs that use it, or delete the folder by hand",
            ) from error
    return freed
