"""The plain data of a MONAI bundle's configuration, read without running anything that it says.

MONAI's own parser imports and calls whatever a configuration names, and evaluates its expressions.
Here only what is asked for is looked at. References (``@name``) are followed; of expressions
(``$...``) only those are understood that are plain Python literals or references. Everything else,
and macros (``%...``), is refused where it is needed and stays untouched where it is not.
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping
from typing import Any

from medptq.errors import ModelError

_MOST_REFERENCES = 32
_MOST_DEEP = 32
_MOST_VALUES = 100_000
"""References can make a small file a huge one: ten of ten of ten, and so on."""

_MOST_FOLLOWED = 10_000
"""References on the way to others can double with each of them, without a circle or a value."""

_LONGEST_LITERAL = 500
_REFERENCE = re.compile(r"@\w+((::|#)\w+)*")


class Values:
    """What a configuration says, its references followed.

    Args:
        content: What the file holds, as JSON gives it.
        bundle: The bundle's name, for the errors' sentences.
    """

    def __init__(self, content: Mapping[str, Any], bundle: str) -> None:
        self._content = content
        self.bundle = bundle
        self._followed = 0

    def __contains__(self, key: str) -> bool:
        return key in self._content

    def plain(self, raw: Any, where: str) -> Any:
        """Return a value with its references followed, down to the last: plain data only.

        Raises:
            ModelError: ``model.bundle`` - it takes an expression, a macro, or references that
                lead nowhere, in a circle or to too much.
        """
        return self._plain(raw, where, _MOST_DEEP, [_MOST_VALUES])

    def followed(self, raw: Any, where: str, left: int = _MOST_REFERENCES) -> Any:
        """Follow a reference, and the one that it leads to; other values are returned as they are.

        What is in a list or an object is not looked at.

        Raises:
            ModelError: ``model.bundle`` - as :meth:`plain`.
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
            self._followed += 1
            if self._followed > _MOST_FOLLOWED:
                raise self.refused(f'"{where}" in its configuration follows too many references')
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

    def refused(self, why: str) -> ModelError:
        """Return the error for a bundle that cannot be used."""
        return bundle_refused(self.bundle, why)

    def _plain(self, raw: Any, where: str, depth: int, budget: list[int]) -> Any:
        budget[0] -= 1
        if depth == 0 or budget[0] < 0:
            raise self.refused(f'"{where}" in its configuration holds too much')
        found = self.followed(raw, where)
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

    def _at(self, path: list[str], where: str, left: int) -> Any:
        found: Any = self._content
        for key in path:
            found = self.followed(found, where, left)
            if isinstance(found, Mapping) and key in found:
                found = found[key]
            elif isinstance(found, list) and key.isdecimal() and int(key) < len(found):
                found = found[int(key)]
            else:
                named = "::".join(path)
                raise self.refused(
                    f'"{where}" in its configuration refers to "{named}", which is not there'
                )
        return self.followed(found, where, left)


def bundle_refused(bundle: str, why: str) -> ModelError:
    """Return the error for a bundle that cannot be used."""
    return ModelError(
        "bundle",
        f"The MONAI bundle {bundle} cannot be used",
        why=why,
        todo="Write it in configs/inference.json in plain values; or export the network to ONNX"
        ' and describe it as the README says under "The card"',
    )


def _as_json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_as_json(entry) for entry in value]
    if value is None or isinstance(value, str | bool | int | float):
        return value
    raise ValueError
