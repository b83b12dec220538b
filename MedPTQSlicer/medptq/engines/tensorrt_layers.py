"""What the layers of a built engine really run in, read from TensorRT's engine inspector."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

# TensorRT names types in many ways: "Half", "FP16", "Row major linear FP16 format", "Int8".
_TYPES = (
    ("int8", re.compile(r"int8|i8\b", re.IGNORECASE)),
    ("bf16", re.compile(r"bf16|bfloat", re.IGNORECASE)),
    ("fp16", re.compile(r"fp16|half|float16|f16\b", re.IGNORECASE)),
    ("fp32", re.compile(r"fp32|float|f32\b", re.IGNORECASE)),
)
_ARITHMETIC = re.compile(r"conv|gemm|matmul|matrixmultiply|matrix_multiply", re.IGNORECASE)
# The operators at the end of the ONNX nodes' names that a fused layer carries along. The names
# before them are the network's modules, which may well be called conv without being one.
_NODES = re.compile(r"(?:^|/|\[)(?:Conv|ConvTranspose|Gemm|MatMul)(?:_\d+)?(?=\.{3}|[\]\s+}]|$)")


def layer_precisions(information: str) -> Mapping[str, int]:
    """Count the layers that do the arithmetic by the type that they read.

    Args:
        information: The engine's description as JSON, as ``EngineInspector`` of an engine built
            with detailed profiling gives it; TensorRT 8.6 and 10 name its fields differently.

    Returns:
        Convolutions, transposed convolutions and matrix products by precision. Layers that
        TensorRT has compiled into one of a kind of its own are listed as ``"fused"``, by the
        number of such kernels, as it does not tell what they compute in.
    """
    counts: Counter[str] = Counter()
    # TensorRT 8.6 leaves line breaks within texts, which JSON does not allow.
    for layer in json.loads(information, strict=False).get("Layers", ()):
        if not isinstance(layer, dict):  # built without details: names alone
            continue
        kind = f"{layer.get('LayerType', '')} {layer.get('ParameterType', '')}"
        if _ARITHMETIC.search(kind):
            counts[_type_of(layer)] += 1
        elif re.search(r"myelin|kgen", kind, re.IGNORECASE) and _NODES.search(
            f"{layer.get('Name', '')} {layer.get('Metadata', '')}"
        ):
            counts["fused"] += 1
    return dict(counts)


def _type_of(layer: Mapping[str, Any]) -> str:
    """Return the precision of a layer: its first input's, as its output may well be wider."""
    for value in layer.get("Inputs", ()):
        text = " ".join(
            str(value.get(key, ""))
            for key in ("Format/Datatype", "Format/DataType", "Datatype", "DataType", "Format")
        )
        for name, pattern in _TYPES:
            if pattern.search(text):
                return name
    return "unknown"
