"""Building a network by its name and options."""

from __future__ import annotations

import difflib
import importlib
import inspect
import types
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from medptq.errors import ModelError, first_line
from medptq.models.architectures.registry import Architecture, architecture

if TYPE_CHECKING:
    from torch import nn


def build_network(name: str, **options: Any) -> nn.Module:
    """Build a network with random weights.

    Args:
        name: One of :data:`medptq.models.architectures.registry.ARCHITECTURES`.
        **options: Arguments of its builder, in place of the published ones. Lists, as JSON has
            them, stand for tuples.

    Returns:
        The network, in evaluation mode: float32 [N, channels, D, H, W] to
        [N, classes, D, H, W].

    Raises:
        ModelError: ``model.architecture`` - there is no such network. ``model.options`` - it has
            no such option, or cannot be built with that value.

    Example:
        >>> network = build_network("swinunetr-b", classes=14)    # doctest: +SKIP
    """
    entry = architecture(name)
    builder = _builder(entry)
    hints = get_type_hints(builder)
    accepted: dict[str, Any] = dict(entry.preset)
    for option, value in options.items():
        accepted[option] = _accepted(entry, hints, option, value)
    try:
        network: nn.Module = builder(**accepted)
    except (ValueError, TypeError, ArithmeticError, LookupError, RuntimeError) as error:
        raise _refused(entry, first_line(error), "Correct the options") from error
    if any(parameter.numel() == 0 for parameter in network.parameters()):
        raise _refused(entry, "it would have a layer without weights", "Correct the options")
    return network.eval()


def options_of(name: str) -> dict[str, Any]:
    """Return the options of a network with their published values.

    Raises:
        ModelError: ``model.architecture`` - there is no such network.
    """
    entry = architecture(name)
    parameters = inspect.signature(_builder(entry)).parameters
    return {option: found.default for option, found in parameters.items()} | dict(entry.preset)


def _builder(entry: Architecture) -> Callable[..., nn.Module]:
    module, function = entry.builder.split(":")
    found: Callable[..., nn.Module] = getattr(
        importlib.import_module(f"medptq.models.architectures.{module}"), function
    )
    return found


def _accepted(entry: Architecture, hints: Mapping[str, Any], option: str, value: Any) -> Any:
    known = [name for name in hints if name != "return"]
    if option not in known:
        close = difflib.get_close_matches(option, known, n=1)
        hint = f"; {close[0]} is close to it" if close else ""
        raise _refused(
            entry, f"it has no option {option!r}{hint}", f"Choose among {', '.join(known)}"
        )
    value = _with_tuples(value)
    if not _fits(value, hints[option]):
        raise _refused(
            entry,
            f"its option {option} cannot be {_shortened(value)}",
            f"Give it {_in_words(hints[option])}",
        )
    if option in ("channels", "classes") and value < 1:
        raise _refused(entry, f"its option {option} is {value}", "Give a positive number")
    return value


def _with_tuples(value: Any) -> Any:
    return tuple(map(_with_tuples, value)) if isinstance(value, (list, tuple)) else value


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value is of the type that an option is annotated with."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return value in arguments
    if origin in (Union, types.UnionType):
        return any(_fits(value, argument) for argument in arguments)
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is ...:
            return all(_fits(item, arguments[0]) for item in value)
        return len(value) == len(arguments) and all(map(_fits, value, arguments))
    # True is an int to Python, and never meant as one here.
    return isinstance(value, hint) and isinstance(value, bool) == (hint is bool)


def _in_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(repr(argument) for argument in arguments)
    if origin is tuple:
        if arguments[-1] is ...:
            return f"a list, each entry of it {_in_words(arguments[0])}"
        return f"a list of {len(arguments)}, each entry of it {_in_words(arguments[0])}"
    return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[hint]


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _refused(entry: Architecture, why: str, todo: str) -> ModelError:
    return ModelError("options", f"The network {entry.name} cannot be built", why=why, todo=todo)
