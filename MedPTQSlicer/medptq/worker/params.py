"""What each method must be given."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from typing import Any

import fastjsonschema

from medptq.quantization.recipe import Recipe
from medptq.worker.messages import INVALID_PARAMS, ProtocolError

_TEXT = {"type": "string", "minLength": 1}
_TEXT_OR_NULL = {"type": ["string", "null"], "minLength": 1}
_FLAG = {"type": "boolean"}
_KINDS = {
    str: {"type": "string"},
    int: {"type": "integer"},
    float: {"type": "number"},
    bool: _FLAG,
    list: {"type": "array", "items": _TEXT},
}


def _schema(required: Mapping[str, Any], optional: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {**required, **optional},
        "required": list(required),
        "additionalProperties": False,
    }


def _texts(*names: str) -> dict[str, Any]:
    return dict.fromkeys(names, _TEXT)


_NOTHING = _schema({}, {})
_RECIPE = _schema({}, {name: _KINDS[type(value)] for name, value in Recipe().to_json().items()})
_SCHEMAS = {
    "models": _NOTHING,
    "import": _schema(_texts("path"), {}),
    "remove": _schema(_texts("model"), {"what": {"enum": ["int8", "all"]}}),
    "clear": _NOTHING,
    "inspect": _schema(_texts("scans"), {"channels": {"type": "integer", "minimum": 1}}),
    "doctor": _NOTHING,
    "load": _schema(_texts("model"), {}),
    "quantize": _schema(
        _texts("model", "scans"),
        {"output": _TEXT_OR_NULL, "recipe": _RECIPE, "overwrite": _FLAG},
    ),
    "segment": _schema(
        _texts("network", "scan", "output"),
        {"engine": _TEXT, "precision": _TEXT_OR_NULL, "overwrite": _FLAG},
    ),
    "compare": _schema(
        _texts("model", "scan", "output"),
        {"quantized": _TEXT_OR_NULL, "reference": _TEXT_OR_NULL, "overwrite": _FLAG},
    ),
    "release": _NOTHING,
    "cancel": _schema({"id": {"type": ["string", "integer"]}}, {}),
    "ping": _NOTHING,
    "shutdown": _NOTHING,
}


def check_params(method: str, params: Mapping[str, Any]) -> None:
    """Make sure that a method of the worker is given what it takes.

    Raises:
        ProtocolError: Something is missing, unknown or of another type; or no path can be made of
            a text.
    """
    try:
        _validator(method)(params)
    except fastjsonschema.JsonSchemaValueException as error:
        # The library calls what it checks "data".
        raise ProtocolError(INVALID_PARAMS, f"params{error.message.removeprefix('data')}") from None
    for name, value in params.items():
        if isinstance(value, str) and not _is_encodable(value):
            raise ProtocolError(INVALID_PARAMS, f"params.{name} cannot be a path or a name")


@functools.cache
def _validator(method: str) -> Callable[[Any], Any]:
    compiled: Callable[[Any], Any] = fastjsonschema.compile(_SCHEMAS[method])
    return compiled


def _is_encodable(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False
