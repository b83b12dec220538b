"""JSON files that are checked against a schema before anything in them is believed."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from medptq.errors import ModelError

if TYPE_CHECKING:
    # Imported where it is used: Slicer does not bundle it, and shows cards that were checked.
    import fastjsonschema

_MOST_BYTES = 4 << 20


def read_json(path: Path, about: str) -> Any:
    """Read a JSON file that may come from anywhere.

    Args:
        path: The file, UTF-8.
        about: What it is, for the error's sentence ("The card spleen.json").

    Returns:
        What it holds; every number is finite.

    Raises:
        ModelError: ``model.card`` - it cannot be read, or is no JSON.
    """
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise refused(about, f"it is larger than {_MOST_BYTES >> 20} MB")
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_float=_finite, parse_constant=_finite)
    except OSError as error:
        raise refused(about, error.strerror or "it cannot be read") from error
    except RecursionError as error:
        raise refused(about, "it is nested too deeply") from error
    except ValueError as error:  # also bytes that are no UTF-8
        raise refused(about, f"it is no JSON ({error})") from error


def check(content: Any, schema: str, about: str) -> None:
    """Check ``content`` against the schema of that name, which lies beside this file.

    Args:
        content: What was read.
        schema: ``"card"``, ``"catalogue"`` or ``"label_map"``.
        about: What it is, for the error's sentence.

    Raises:
        ModelError: ``model.card`` - the sentence names the first field that is wrong.
    """
    import fastjsonschema

    try:
        _validator(schema)(content)
    except fastjsonschema.JsonSchemaValueException as error:
        raise refused(about, _reason(error)) from error


def refused(about: str, why: str) -> ModelError:
    """Return the error for a card or a catalogue entry that cannot be used."""
    return ModelError(
        "card",
        f"{about} cannot be used",
        why=why,
        todo='Correct it; the README describes its fields under "The card"',
    )


@functools.cache
def _validator(schema: str) -> Callable[[Any], Any]:
    import fastjsonschema

    # "file:///card.schema.json" in another schema is the one beside this file.
    handlers = {"file": lambda uri: _schema(PurePosixPath(uri).name)}
    compiled: Callable[[Any], Any] = fastjsonschema.compile(
        _schema(f"{schema}.schema.json"), handlers=handlers
    )
    return compiled


def _schema(name: str) -> Any:
    return json.loads(Path(__file__).with_name(name).read_text(encoding="utf-8"))


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _reason(error: fastjsonschema.JsonSchemaValueException) -> str:
    """Say in words what fastjsonschema says in its own terms."""
    field = str(error.name).removeprefix("data").lstrip(".")
    owner = f'"{field}"' if field else "it"
    if error.rule == "required":
        missing = next(key for key in error.rule_definition if key not in error.value)
        return f'{owner} lacks the field "{missing}"'
    if error.rule == "additionalProperties":
        unknown = min(set(error.value) - set(error.definition["properties"]))
        return f'{owner} has the unknown field "{unknown}"'
    if error.rule == "enum":
        known = ", ".join(f'"{value}"' for value in error.rule_definition)
        return f"{owner} must be one of {known}"
    if error.rule == "pattern":
        wanted = error.definition.get("description", error.rule_definition)
        return f'{owner} is "{error.value[:40]}", not of the form wanted ({wanted})'
    if error.rule == "const":
        return f"{owner} must be {error.rule_definition}"
    demand = str(error.message).removeprefix(str(error.name)).strip()
    return f"{owner} {demand}"
