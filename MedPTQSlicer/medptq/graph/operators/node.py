"""A node of an ONNX graph as the operators see it, and its constants as PyTorch tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from torch import Tensor

from medptq.errors import ModelError, first_line
from medptq.graph.external_data import mapped_data

DTYPES: Mapping[int, torch.dtype] = {
    onnx.TensorProto.FLOAT: torch.float32,
    onnx.TensorProto.DOUBLE: torch.float64,
    onnx.TensorProto.FLOAT16: torch.float16,
    onnx.TensorProto.BFLOAT16: torch.bfloat16,
    onnx.TensorProto.INT8: torch.int8,
    onnx.TensorProto.INT16: torch.int16,
    onnx.TensorProto.INT32: torch.int32,
    onnx.TensorProto.INT64: torch.int64,
    onnx.TensorProto.UINT8: torch.uint8,
    onnx.TensorProto.UINT16: torch.uint16,
    onnx.TensorProto.UINT32: torch.uint32,
    onnx.TensorProto.UINT64: torch.uint64,
    onnx.TensorProto.BOOL: torch.bool,
}
"""PyTorch's name for each ONNX element type that can be executed."""


@dataclass(frozen=True)
class Node:
    """One node of an ONNX graph, its attributes decoded.

    Attributes:
        name: Its name, or the name of its first output where it has none.
        op_type: The operator, of the default ONNX domain.
        inputs: Names of its inputs; ``""`` where an optional one is left out.
        outputs: Names of its outputs, likewise.
        attributes: Numbers, lists of numbers, strings and CPU tensors by name.
        opset: The version of the operator set that gives the operator its meaning.
    """

    name: str
    op_type: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    opset: int

    @classmethod
    def from_proto(cls, proto: onnx.NodeProto, opset: int) -> Node:
        """Decode a node.

        Raises:
            ModelError: An attribute is a tensor of an element type that PyTorch lacks.
        """
        return cls(
            name=proto.name or next(iter(proto.output), proto.op_type),
            op_type=proto.op_type,
            inputs=tuple(proto.input),
            outputs=tuple(proto.output),
            attributes={attribute.name: _decoded(attribute) for attribute in proto.attribute},
            opset=opset,
        )

    def get(self, name: str, default: Any = None) -> Any:
        """Return the attribute ``name``, or ``default`` where it is not given."""
        return self.attributes.get(name, default)


def tensor_from_proto(proto: onnx.TensorProto) -> Tensor:
    """Return an ONNX tensor as a CPU tensor of the same shape and element type.

    Raises:
        ModelError: The element type is one that PyTorch lacks, or the data do not fill the shape.
    """
    dtype = DTYPES.get(proto.data_type)
    if dtype is None:
        raise ModelError(
            "operator",
            f"The network's constant {proto.name!r} cannot be used",
            why=f"its element type, {element_type_name(proto.data_type)}, is not supported",
            todo="Export the network with float32 weights",
        )
    try:
        mapped = mapped_data(proto)
        if mapped is not None and dtype != torch.bfloat16:
            return torch.from_numpy(mapped)
        array = onnx.numpy_helper.to_array(proto) if mapped is None else mapped
        if dtype == torch.bfloat16:
            return torch.from_numpy(array.view(np.int16).copy()).view(dtype)
        # The array may be a read-only view of the protobuf's bytes.
        return torch.from_numpy(np.array(array))
    except (ValueError, TypeError) as error:
        raise ModelError(
            "unreadable",
            f"The network's constant {proto.name!r} cannot be read",
            why=f"the file is damaged ({first_line(error)})",
            todo="Export or download it again",
        ) from error


def element_type_name(number: int) -> str:
    """Return the name of an ONNX element type, such as ``float16``."""
    known = onnx.TensorProto.DataType.values()
    return onnx.TensorProto.DataType.Name(number).lower() if number in known else f"type {number}"


def _decoded(attribute: onnx.AttributeProto) -> Any:
    value = onnx.helper.get_attribute_value(attribute)
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="replace")
    if isinstance(value, onnx.TensorProto):
        return tensor_from_proto(value)
    return value
