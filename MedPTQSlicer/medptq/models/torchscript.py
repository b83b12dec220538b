"""Reading TorchScript files."""

from __future__ import annotations

import struct
import warnings
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from medptq.errors import ModelError

if TYPE_CHECKING:
    import torch

_HOW = (
    "Save the network with torch.jit.script(network).save(...) or torch.jit.trace, or export it"
    ' to ONNX; or, if it is one that "medptq models --architectures" lists, name it in the card\'s'
    ' field "network"'
)


def load_torchscript(path: Path) -> torch.jit.ScriptModule:
    """Load a TorchScript network onto the CPU, in evaluation mode.

    A pickled checkpoint is refused unopened: unpickling runs whatever code it names. TorchScript
    cannot call Python, yet PyTorch advises to load it from sources that one trusts only.

    Args:
        path: What ``torch.jit.save`` wrote.

    Raises:
        ModelError: ``model.missing`` - there is no such file. ``model.pickle`` - it is a pickled
            checkpoint. ``model.unreadable`` - it is no TorchScript, or a damaged one.
    """
    if not path.is_file():
        raise ModelError(
            "missing",
            f"The network {path} cannot be read",
            why="there is no such file",
            todo="Check the path",
        )
    if not _is_torchscript(path):
        if _is_pickle(path):
            raise ModelError(
                "pickle",
                f"The network {path.name} was not opened",
                why="it is a pickled checkpoint, which can run any code as it is opened and does"
                " not say how its layers are connected",
                todo=_HOW,
            )
        raise _unreadable(path, "it is no TorchScript file, or only a part of one")

    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of TorchScript altogether
            module = torch.jit.load(path, map_location="cpu")  # type: ignore[no-untyped-call]
    except (RuntimeError, ValueError, OSError) as error:
        raise _unreadable(path, f"PyTorch {torch.__version__} cannot load it") from error
    evaluating: torch.jit.ScriptModule = module.eval()
    return evaluating


def _is_torchscript(path: Path) -> bool:
    """Say whether the file is a zip archive with code in TorchScript's place."""
    tops = {name.split("/")[1] for name in _members(path) if "/" in name}
    return {"code", "constants.pkl"} <= tops


def _is_pickle(path: Path) -> bool:
    if any(name.split("/")[-1] == "data.pkl" for name in _members(path)):
        return True  # torch.save since PyTorch 1.6
    with path.open("rb") as file:
        return file.read(1) == b"\x80"  # the opcode that every pickle since protocol 2 begins with


def _members(path: Path) -> list[str]:
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.namelist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, struct.error, OSError):
        return []


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError("unreadable", f"The network {path.name} cannot be read", why=why, todo=_HOW)
