"""JSON-RPC 2.0: reading requests that may be anything, and writing what is sent back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from medptq.answers import error_answer
from medptq.errors import Cancelled, MedPTQError
from medptq.worker.log import causes_of

RequestId: TypeAlias = int | str

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
UNKNOWN_METHOD = -32601
INVALID_PARAMS = -32602
UNEXPECTED = -32603
FAILED = -32000
CANCELLED = -32800


class ProtocolError(Exception):
    """A message that cannot be served.

    Args:
        code: One of JSON-RPC's.
        message: What is wrong with it.
        id: Of the request, if it has one that can be used.
    """

    def __init__(self, code: int, message: str, id: RequestId | None = None) -> None:  # noqa: A002
        super().__init__(message)
        self.code = code
        self.id = id


@dataclass(frozen=True)
class Request:
    """A request, or a notification, which has no id and gets no answer."""

    method: str
    params: Mapping[str, Any] = field(default_factory=dict)
    id: RequestId | None = None


def parse(line: bytes) -> Request:
    """Read one line.

    Raises:
        ProtocolError: It is no JSON, or no request.
    """
    try:
        message = json.loads(line.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        raise ProtocolError(PARSE_ERROR, "The line is no JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError(INVALID_REQUEST, "A message is one JSON object")
    found = message.get("id")
    is_usable = is_request_id(found)
    request_id: RequestId | None = found if is_usable else None
    if "id" in message and not is_usable:
        raise ProtocolError(INVALID_REQUEST, "An id is a string or a whole number")
    if message.get("jsonrpc") != "2.0":
        raise ProtocolError(INVALID_REQUEST, 'A message has "jsonrpc": "2.0"', request_id)
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str):
        raise ProtocolError(INVALID_REQUEST, "A request names its method", request_id)
    if not isinstance(params, dict):
        raise ProtocolError(INVALID_PARAMS, "Params are given by name", request_id)
    return Request(method, params, request_id)


def is_request_id(value: Any) -> bool:
    """Tell whether a value can be the id of a request."""
    return isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool))


def notification(method: str, **params: Any) -> bytes:
    """Return the line of a notification."""
    return _line({"method": method, "params": params})


def result(request_id: RequestId, content: Mapping[str, Any]) -> bytes:
    """Return the line that answers a request."""
    return _line({"id": request_id, "result": content})


def refusal(error: ProtocolError) -> bytes:
    """Return the line that answers a message which cannot be served."""
    return _line({"id": error.id, "error": {"code": error.code, "message": str(error)}})


def failure(request_id: RequestId, error: BaseException) -> bytes:
    """Return the line that answers a request whose work failed.

    Of an unexpected fault only the kind is told, as its text may name a patient's file; and of an
    import that failed the package, which is what its user has to mend.
    """
    if isinstance(error, Cancelled):
        code = CANCELLED
    elif isinstance(error, MedPTQError):
        code = FAILED
    else:
        code = UNEXPECTED
        package = _package_not_imported(error)
        error = MedPTQError(
            "unexpected",
            "The work did not finish",
            why=f"of a fault in the program ({type(error).__name__}{package and f': {package}'})",
            todo="Try again; if it comes back, report it with the worker's log",
        )
    data = error_answer(error)
    message = data.pop("message")
    return _line({"id": request_id, "error": {"code": code, "message": message, "data": data}})


def _package_not_imported(error: BaseException) -> str:
    """Return the package that could not be imported, as far as Python tells, or ``""``."""
    name = ""
    for cause in causes_of(error):
        if not isinstance(cause, ImportError):
            break
        # The last one knows: packages wrap what they failed on in errors of good advice.
        name = cause.name or name
    return name.partition(".")[0]


def _line(message: Mapping[str, Any]) -> bytes:
    text = json.dumps({"jsonrpc": "2.0", **message}, ensure_ascii=True, allow_nan=False)
    return text.encode("ascii") + b"\n"


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")
