"""Loading a checkpoint's weights into a network, from files that nobody vouches for."""

from __future__ import annotations

import pickle
import re
import struct
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from medptq.errors import ModelError

_WRAPPERS = (
    *("state_dict", "model_state_dict", "network_weights", "model", "network", "net"),
    *("ema_model_state_dict", "weights"),
)
"""Under which a training's checkpoint keeps the weights, beside its optimizer and the like."""

_PREFIXES = ("module.", "network.", "model.", "net.", "_orig_mod.")

_WITHOUT_EFFECT = re.compile(
    r"\.num_batches_tracked$"  # of BatchNorm in training
    r"|\.norm_cross_attn\."  # MONAI's transformers have it since 1.4 and do not compute with it
    r"|\.cross_attn\."  # nor with that, which only some versions have
    r"|\.cls_token$"  # of the classifier that MONAI's transformers once were
    r"|^aux_out\."  # MedFormer's second head, which only supervises training
)
"""Weights that a checkpoint may have or lack: the output does not depend on them."""

_MOST_NAMED = 3
_TAIL = 1000  # bytes; no class has a longer name

_DAMAGED = (
    *(RuntimeError, ValueError, LookupError, TypeError, EOFError, OSError),
    *(AssertionError, AttributeError, struct.error, zipfile.BadZipFile),
)
"""What PyTorch and zipfile raise over a damaged file; UnicodeDecodeError is a ValueError."""


def load_weights(network: nn.Module, path: Path) -> None:
    """Load a checkpoint into a network.

    The file is opened with PyTorch's restricted unpickler, which builds tensors and plain data
    and calls nothing else. Weights are found under the names that trainings keep them by, and
    without the prefixes that wrappers put before each name.

    Args:
        network: What the checkpoint's weights are for; it is unchanged if they do not fit.
        path: What ``torch.save`` wrote: a state dict, or a training's checkpoint with one in it.

    Raises:
        ModelError: ``model.missing`` - there is no such file. ``model.pickle`` - it asks for code
            to be run. ``model.unreadable`` - it is damaged, or holds no weights.
            ``model.weights`` - they are those of another network.
    """
    network.load_state_dict(weights_for(network, path), strict=False)


def weights_for(network: nn.Module, path: Path) -> dict[str, Tensor]:
    """Return the weights that a checkpoint has for a network, by the network's names for them.

    Args:
        network: Only the names and shapes of its weights count.
        path: As :func:`load_weights` reads it.

    Raises:
        ModelError: As :func:`load_weights`.
    """
    state = _state_dict(checkpoint_content(path), path)
    own = network.state_dict()
    state = _without_prefix(state, own.keys())
    _require_same(path, own, state)
    return state


def checkpoint_content(path: Path) -> Any:
    """Return what a file of PyTorch holds: tensors and plain data, since nothing else is built.

    Raises:
        ModelError: As :func:`load_weights`, but for ``model.weights``.
    """
    if not path.is_file():
        raise ModelError(
            "missing",
            f"The weights {path} cannot be read",
            why="there is no such file",
            todo="Check the path",
        )
    try:
        is_zip = zipfile.is_zipfile(path)
        if is_zip:
            _require_uncompressed(path)
        with torch.serialization.safe_globals(_PLAIN_NUMBERS):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        if named is None or (not is_zip and _ends_within(path, named[1])):
            raise _unreadable(path, "it is damaged, or no PyTorch checkpoint") from error
        raise ModelError(
            "pickle",
            f"The weights {path.name} were not loaded",
            why=f"the file asks for {named[1]}, and a checkpoint that names more than tensors can"
            " run any code as it is opened",
            todo="Get weights that were saved with torch.save(network.state_dict(), ...)",
        ) from error
    except _DAMAGED as error:
        raise _unreadable(path, "it is damaged, or no PyTorch checkpoint") from error


def _ends_within(path: Path, named: str) -> bool:
    """Tell whether a pickle ends in the midst of a name, which is then no name that was meant."""
    module, _, name = named.rpartition(".")
    with path.open("rb") as file:
        file.seek(-min(path.stat().st_size, _TAIL), 2)
        tail = file.read()
    # What reads the names takes their last byte for the end of the line.
    pattern = rf"c{re.escape(module)}(\n{re.escape(name)})?.?\Z"
    return re.search(pattern.encode(), tail, re.DOTALL) is not None


def _require_uncompressed(path: Path) -> None:
    """Refuse what unpacks to more than it is: PyTorch stores members as they are."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    if any(member.compress_type != zipfile.ZIP_STORED for member in members):
        raise _unreadable(path, "its members are compressed, which PyTorch's never are")
    if sum(member.file_size for member in members) > path.stat().st_size:
        raise _unreadable(path, "it claims to hold more than it does")


def _state_dict(content: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(content, Mapping) and not _is_state_dict(content):
        wrapped = [content[name] for name in _WRAPPERS if name in content]
        content = next(filter(_is_state_dict, wrapped), content)
    if not _is_state_dict(content):
        found = ", ".join(map(str, list(content)[:5])) if isinstance(content, Mapping) else ""
        raise _unreadable(path, "it holds no weights" + (f", only {found}" if found else ""))
    return dict(content)


def _is_state_dict(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and len(content) > 0
        and all(isinstance(n, str) and isinstance(t, Tensor) for n, t in content.items())
    )


def _without_prefix(state: dict[str, Tensor], own: Iterable[str]) -> dict[str, Tensor]:
    """Strip the prefixes that all names share, as far as that makes more of them known."""
    names = frozenset(own)
    best = state
    while True:
        prefix = next((p for p in _PREFIXES if all(name.startswith(p) for name in state)), None)
        if prefix is None:
            return best
        state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
        if len(names & state.keys()) > len(names & best.keys()):
            best = state


def _require_same(path: Path, own: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> None:
    missing = [n for n in own if n not in state and not _WITHOUT_EFFECT.search(n)]
    surplus = [n for n in state if n not in own and not _WITHOUT_EFFECT.search(n)]
    misshapen = [
        f"{n} is {_shape(state[n])} and not {_shape(tensor)}"
        for n, tensor in own.items()
        if n in state and state[n].shape != tensor.shape
    ]
    reasons = [
        *([f"it lacks {_named(missing)}"] if missing else []),
        *([f"it has {_named(surplus)}, which the network has not"] if surplus else []),
        *([f"its {_named(misshapen)}"] if misshapen else []),
    ]
    if reasons:
        raise misfit(path, "; ".join(reasons))


def misfit(path: Path, why: str) -> ModelError:
    """Return the error for weights that are those of another network."""
    return ModelError(
        "weights",
        f"The weights {path.name} do not fit the network",
        why=why,
        todo="Choose the network that they were trained with, and its options",
    )


def _named(names: list[str]) -> str:
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a single number"


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError(
        "unreadable",
        f"The weights {path.name} cannot be read",
        why=why,
        todo="Download or save the checkpoint again",
    )


def _plain_numbers() -> list[Any]:
    """Return what NumPy's numbers are made of, which nnU-Net keeps beside the weights."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = ("f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "?")
    return [
        # As it is called by NumPy 1, and by NumPy 2.
        *((scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
        np.dtype,
        *(type(np.dtype(kind)) for kind in kinds),
    ]


_PLAIN_NUMBERS = _plain_numbers()
