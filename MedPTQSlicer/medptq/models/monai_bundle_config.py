"""The objects that a MONAI bundle's configuration describes: what to build, and its arguments."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from medptq.errors import ModelError
from medptq.models.monai_bundle_values import Values

_MOST_COMPONENTS = 1000
_FACTORY = re.compile(r"\$(?:monai\.networks\.layers\.)?(?:factories\.)?(?:Norm|Act)\.(\w+)")
_DTYPE = re.compile(r"(?:\$?(?:torch|np|numpy)\.)?(float|float32|float64|double)")
_ABOVE = re.compile(r"\$lambda (\w+): \1 > (-?\d+(?:\.\d+)?)")
_NO_ARGUMENTS = {"_target_", "_disabled_", "_requires_", "_desc_", "_mode_"}
_MISSING = object()


class Config(Values):
    """A configuration, with the objects that it describes.

    Args:
        content: What the file holds, as JSON gives it.
        bundle: The bundle's name, for the errors' sentences.
    """

    def __init__(self, content: Mapping[str, Any], bundle: str) -> None:
        super().__init__(content, bundle)
        self._components = 0

    def component(self, key: str) -> Component:
        """Return what describes an object, by its key at the top.

        Raises:
            ModelError: ``model.bundle`` - it is not there, or is no description of an object.
        """
        if key not in self._content:
            raise self.refused(f'its configuration has no "{key}"')
        found = self.followed(self._content[key], key)
        if not isinstance(found, Mapping) or "_target_" not in found:
            raise self.refused(f'"{key}" in its configuration does not name what to build')
        return Component(self, found, key)

    def components(self, raw: Any, where: str) -> Iterator[Component]:
        """Yield what describes the objects of a list, but for those that are disabled."""
        listed = self.followed(raw, where)
        if not isinstance(listed, list):
            raise self.refused(f'"{where}" in its configuration is no list')
        for number, entry in enumerate(listed):
            place = f"{where}::{number}"
            self._components += 1
            if self._components > _MOST_COMPONENTS:
                raise self.refused(f'"{where}" in its configuration holds too much')
            found = self.followed(entry, place)
            if not isinstance(found, Mapping) or "_target_" not in found:
                raise self.refused(f'"{place}" in its configuration does not name what to build')
            component = Component(self, found, place)
            if not component.is_disabled:
                yield component


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


def single(value: Any) -> Any:
    """Return the one entry of a list of one, as MONAI takes one for each key; else the value."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
