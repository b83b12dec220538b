"""Where the user's own files of this program lie: as the system has it, or as the user says."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from medptq.errors import OutputError


def user_folder(variable: str, usual: Callable[[], Path]) -> Path:
    """Return a folder that an environment variable names, or the system's own; it need not exist.

    Args:
        variable: The variable's name.
        usual: Returns the folder that it is without.

    Raises:
        OutputError: ``output.unwritable`` - the user has no home folder, as in some containers.
    """
    chosen = os.environ.get(variable)
    try:
        folder = Path(chosen).expanduser() if chosen else usual()
    except RuntimeError as error:
        raise OutputError(
            "unwritable",
            "The folder for this program's files was not found",
            why="the system knows no home folder of this user",
            todo=f"Name a folder with the environment variable {variable}",
        ) from error
    return folder.absolute()
