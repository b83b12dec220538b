"""Which version of the ONNX operator set a graph is written in."""

from __future__ import annotations

import onnx

from medptq.errors import ModelError

OLDEST = 11
"""Oldest operator set that is read: the first in which pads, bounds and sizes are inputs."""

CURRENT = 17
"""Oldest operator set that :func:`medptq.graph.simplify.simplify` leaves as it is."""


def opset_of(model: onnx.ModelProto) -> int:
    """Return the version of the default operator set that ``model`` imports.

    Raises:
        ModelError: It imports none, or one older than :data:`OLDEST`.
    """
    versions = [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")]
    if versions and versions[0] >= OLDEST:
        return int(versions[0])
    found = f"it is written in opset {versions[0]}" if versions else "it names no ONNX opset"
    raise ModelError(
        "operator",
        "The network's operators cannot be read",
        why=f"{found}, and {OLDEST} is the oldest that is understood",
        todo=f"Export the network again with opset {CURRENT} or newer",
    )
