"""ONNX operators in PyTorch: exact on the inputs ONNX's own tests give, differentiable."""

from __future__ import annotations

from medptq.graph.operators import (
    activation,
    arithmetic,
    convolution,
    layout,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)
from medptq.graph.operators.node import DTYPES, Node, element_type_name, tensor_from_proto
from medptq.graph.operators.registry import OPERATORS, Operator

__all__ = [
    "DTYPES",
    "OPERATORS",
    "Node",
    "Operator",
    "activation",
    "arithmetic",
    "convolution",
    "element_type_name",
    "layout",
    "linear",
    "normalization",
    "pooling",
    "quantization",
    "reduction",
    "resize",
    "shape",
    "tensor_from_proto",
]
