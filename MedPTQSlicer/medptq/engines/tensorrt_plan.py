"""What is kept of a built engine: TensorRT's plan, and why it was built this way."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

_MAGIC = b"medptq-tensorrt-1\n"


@dataclass(frozen=True)
class Tried:
    """One way of building a network that was tried.

    Attributes:
        placement: What ran in INT8, in words; "none" for nothing.
        milliseconds: Median time of a run, or None if it could not be built or used.
        error: Error of its output, as a share of the reference's energy; None likewise.
        note: Why it was not taken, or what was left out of it.
        form: How its normalizations were written; see
            :data:`medptq.engines.tensorrt_normalization.Form`.
    """

    placement: str
    milliseconds: float | None = None
    error: float | None = None
    note: str = ""
    form: str = ""


@dataclass(frozen=True)
class Plan:
    """A built engine.

    Attributes:
        engine: What TensorRT deserialises.
        tried: What was tried on the way, the one that was taken first.
    """

    engine: bytes
    tried: tuple[Tried, ...]

    def to_bytes(self) -> bytes:
        """Return it as it is kept in a file: two lines of text, then the engine."""
        header = json.dumps([asdict(tried) for tried in self.tried]).encode()
        return _MAGIC + header + b"\n" + self.engine

    @classmethod
    def from_bytes(cls, content: bytes) -> Plan:
        """Read what :meth:`to_bytes` wrote.

        Raises:
            ValueError: It is nothing of the kind.
        """
        if not content.startswith(_MAGIC):
            raise ValueError("no built TensorRT engine")
        header, newline, engine = content[len(_MAGIC) :].partition(b"\n")
        if not newline or not engine:
            raise ValueError("a built TensorRT engine that ends too early")
        try:
            tried = tuple(Tried(**entry) for entry in json.loads(header))
        except TypeError as error:
            raise ValueError("a built TensorRT engine of another version") from error
        return cls(engine, tried)
