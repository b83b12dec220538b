"""The configuration of a MONAI bundle, read without running anything that it says.

MONAI's own parser imports and calls whatever a configuration names, and evaluates its expressions.
Here only what is asked for is looked at. References (``@name``) are followed; of expressions
(``$...``) only those are understood that are plain Python literals or references. Everything else,
and macros (``%...``), is refused where it is needed and stays untouched where it is not.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

from medptq.errors import ModelError

_MOST_REFERENCES = 32
_MOST_DEEP = 32
_MOST_VALUES = 100_000
_MOST_COMPONENTS = 1000
"""References can make a small file a huge one: ten of ten of ten, and so on."""

_LONGEST_LITERAL = 500
_REFERENCE = re.compile(r"@\w+((::|#)\w+)*")
_FACTORY = re.compile(r"\$(?:monai\.networks\.layers\.)?(?:factories\.)?(?:Norm|Act)\.(\w+)")
_DTYPE = re.compile(r"(?:\$?(?:torch|np|numpy)\.)?(float|float32|float64|double)")
_ABOVE = re.compile(r"\$lambda (\w+): \1 > (-?\d+(?:\.\d+)?)")
_NO_ARGUMENTS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}
_MISSING = object()


class Config:
    """A configuration, as JSON gives it.

    Args:
        content: What the file holds.
        bundle: The bundle's name, for the errors' sentences.
    """

    def __init__(self, content: Mapping[str, Any], bundle: str) -> None:
        self._content = content
        self.bundle = bundle
        self._components = 0

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def component(self, key: str) -> Component:
        """Return what describes an object, by its key at the top.

        Raises:
            ModelError: ``model.bundle`` - it is not there, or is no description of an object.
        """
        if key not in self._content:
            raise self.refused(f'its configuration has no "{key}"')
        found = self._followed(self._content[key], key)
        if not isinstance(found, Mapping) or "_target_" not in found:
            raise self.refused(f'"{key}" in its configuration does not name what to build')
        return Component(self, found, key)

    def components(self, raw: Any, where: str) -> Iterator[Component]:
        """Yield what describes the objects of a list, but for those that are disabled."""
        listed = self._followed(raw, where)
        if not isinstance(listed, list):
            raise self.refused(f'"{where}" in its configuration is no list')
        for number, entry in enumerate(listed):
            place = f"{where}::{number}"
            self._components += 1
            if self._components > _MOST_COMPONENTS:
                raise self.refused(f'"{where}" in its configuration holds too much')
            found = self._followed(entry, place)
            if not isinstance(found, Mapping) or "_target_" not in found:
                raise self.refused(f'"{place}" in its configuration does not name what to build')
            component = Component(self, found, place)
            if not component.is_disabled:
                yield component

    def plain(self, raw: Any, where: str) -> Any:
        """Return a value with its references followed, down to the last: plain data only.

        Raises:
            ModelError: ``model.bundle`` - it takes an expression, a macro, or references that
                lead nowhere, in a circle or to too much.
        """
        return self._plain(raw, where, _MOST_DEEP, [_MOST_VALUES])

    def refused(self, why: str) -> ModelError:
        """Return the error for a bundle that cannot be used."""
        return bundle_refused(self.bundle, why)

    def _plain(self, raw: Any, where: str, depth: int, budget: list[int]) -> Any:
        budget[0] -= 1
        if depth == 0 or budget[0] < 0:
            raise self.refused(f'"{where}" in its configuration holds too much')
        found = self._followed(raw, where)
        if isinstance(found, list):
            return [
                self._plain(entry, f"{where}::{number}", depth - 1, budget)
                for number, entry in enumerate(found)
            ]
        if isinstance(found, Mapping):
            if "_target_" in found:
                target = str(found["_target_"])[:80]
                raise self.refused(f'"{where}" in its configuration is an object ({target})')
            return {
                key: self._plain(entry, f"{where}::{key}", depth - 1, budget)
                for key, entry in found.items()
            }
        return found

    def _followed(self, raw: Any, where: str, left: int = _MOST_REFERENCES) -> Any:
        """Follow a reference, and the one that it leads to; other values are returned as they are.

        What is in a list or an object is not looked at.
        """
        if not isinstance(raw, str) or not raw.startswith(("@", "$", "%")):
            return raw
        if left == 0:
            raise self.refused(f'the references of "{where}" in its configuration lead in a circle')
        if raw.startswith("%"):
            raise self.refused(
                f'"{where}" in its configuration is the macro "{raw[:80]}", which is not read'
            )
        text = raw.removeprefix("$").strip()
        if _REFERENCE.fullmatch(text):
            return self._at(re.split("::|#", text[1:]), where, left - 1)
        if raw.startswith("$") and len(text) <= _LONGEST_LITERAL:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # SyntaxWarning on what it is given
                    return _as_json(ast.literal_eval(text))
            except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
                pass
        raise self.refused(
            f'"{where}" in its configuration is the expression "{raw[:80]}", and no code of a'
            " bundle is run"
        )

    def _at(self, path: list[str], where: str, left: int) -> Any:
        found: Any = self._content
        for key in path:
            found = self._followed(found, where, left)
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                named = "::".join(path)
                raise self.refused(
                    f'"{where}" in its configuration refers to "{named}", which is not there'
                )
        return self._followed(found, where, left)


class Component:
    """What describes an object: what to build, and the arguments.

    Arguments are taken one by one; :meth:`done` refuses those that nobody has taken.

    Attributes:
        config: The configuration that it is in.
        where: Its place in it.
        target: The name of the class in MONAI, without the modules that it is in.
    """

    def __init__(self, config: Config, raw: Mapping[str, Any], where: str) -> None:
        self.config = config
        self.where = where
        self._raw = raw
        self._left = raw.keys() - _NO_ARGUMENTS
        target = raw["_target_"]
        if not isinstance(target, str) or not re.fullmatch(
            r"(monai(\.\w+)*\.)?[A-Za-z]\w*", target
        ):
            shown = str(target)[:80]
            raise config.refused(
                f'"{where}" in its configuration is to build "{shown}", which is not MONAI\'s;'
                " no code of a bundle is run"
            )
        self.target = target.rpartition(".")[2]
        mode = raw.get("_mode_", "default")
        if mode != "default":
            raise config.refused(f'"{where}" in its configuration has the _mode_ "{mode}"')

    @property
    def is_disabled(self) -> bool:
        """Whether it says that it shall be left out."""
        value = self.config.plain(self._raw.get("_disabled_", False), f"{self.where}::_disabled_")
        if isinstance(value, str) and value.lower() in ("true", "false"):
            return value.lower() == "true"
        if not isinstance(value, bool):
            raise self.refused("_disabled_ is neither true nor false")
        return value

    def __contains__(self, name: str) -> bool:
        return name in self._raw

    def raw(self, name: str) -> Any:
        """Take an argument as it is written, None if it is not there."""
        self._left.discard(name)
        return self._raw.get(name)

    def take(self, name: str, default: Any = _MISSING) -> Any:
        """Take an argument: plain data.

        Raises:
            ModelError: ``model.bundle`` - it is not there and there is no default, or it is no
                plain data.
        """
        self._left.discard(name)
        if name not in self._raw:
            if default is _MISSING:
                raise self.refused(f'"{name}" is missing')
            return default
        return self.config.plain(self._raw[name], f"{self.where}::{name}")

    def number(self, name: str, default: Any = _MISSING) -> float:
        """Take an argument that is a number."""
        value = self.take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.refused(f'"{name}" is {_shown(value)} and not a number')
        return value

    def flag(self, name: str, default: bool) -> bool:
        """Take an argument that is true or false, or a list of one such."""
        value = single(self.take(name, default))
        if not isinstance(value, bool):
            raise self.refused(f'"{name}" is {_shown(value)} and neither true nor false')
        return value

    def only(self, name: str, *accepted: Any) -> Any:
        """Take an argument that may only have certain values, the first of which is the default."""
        value = single(self.take(name, accepted[0]))
        for one in accepted:
            if value == one and isinstance(value, bool) == isinstance(one, bool):
                return value
        raise self.refused(f'"{name}" is {_shown(value)}, which cannot be done here')

    def name_and_options(self, name: str, default: Any) -> tuple[str, dict[str, Any]]:
        """Take an argument that names one of MONAI's layers, alone or as [name, options]."""
        raw = self._raw.get(name)
        factory = _FACTORY.fullmatch(raw) if isinstance(raw, str) else None
        if factory is not None:
            self._left.discard(name)
            return factory[1].lower(), {}
        value = self.take(name, default)
        chosen, options = (
            value if isinstance(value, list | tuple) and len(value) == 2 else (value, {})
        )
        if not isinstance(chosen, str) or not isinstance(options, Mapping):
            raise self.refused(f'"{name}" is {_shown(value)} and names no layer')
        return chosen.lower(), dict(options)

    def require_float(self, name: str) -> None:
        """Take an argument that names a data type, which must be floating point if it is there."""
        value = self.raw(name)
        if value is not None and not (isinstance(value, str) and _DTYPE.fullmatch(value)):
            raise self.refused(f'"{name}" is {_shown(value)} and not float32')

    def threshold(self, name: str) -> float:
        """Take an argument that is the function of what is above a number; 0 if it is missing."""
        value = self.raw(name)
        above = _ABOVE.fullmatch(value) if isinstance(value, str) else None
        if value is None or above is not None:
            return 0.0 if above is None else float(above[2])
        return float(self.take(name))  # refuses it

    def ignore(self, *names: str) -> None:
        """Leave arguments that change nothing here as they are, unread."""
        self._left.difference_update(names)

    def done(self) -> None:
        """Refuse arguments that nobody has taken."""
        if self._left:
            raise self.refused(f'its "{min(self._left)}" is not known here')

    def refused(self, why: str) -> ModelError:
        """Return the error for an object that cannot be used."""
        return self.config.refused(f"{self.target} ({self.where}): {why}")


def bundle_refused(bundle: str, why: str) -> ModelError:
    """Return the error for a bundle that cannot be used."""
    return ModelError(
        "bundle",
        f"The MONAI bundle {bundle} cannot be used",
        why=why,
        todo="Write it in configs/inference.json in plain values; or export the network to ONNX"
        ' and describe it as the README says under "The card"',
    )


def single(value: Any) -> Any:
    """Return the one entry of a list of one, as MONAI takes one for each key; else the value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(entry) for entry in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
