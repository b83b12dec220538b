"""The graph that is quantized, as its engine wants it."""

from __future__ import annotations

from dataclasses import dataclass

import onnx
import onnx_ir as ir

from medptq.errors import QuantizationError
from medptq.graph.lowering import lower_for_integer_kernels
from medptq.graph.two_class_head import merge_two_class_softmax
from medptq.quantization.placement import Placement, place_for_openvino


@dataclass(frozen=True)
class Prepared:
    """A graph, and what is to be quantized in it.

    Attributes:
        model: The graph.
        placement: What is to be quantized.
        same_values: For each activation that only rearranges one of the original graph, the
            other's name: what calibration learned of that one holds for it.
        rewritten: Names of the nodes that were replaced.
    """

    model: ir.Model
    placement: Placement
    same_values: dict[str, str]
    rewritten: tuple[str, ...]


def prepare_for_openvino(fp32: onnx.ModelProto) -> Prepared:
    """Rewrite a copy of a simplified graph for OpenVINO's INT8 kernels, and place Q/DQ in it.

    Raises:
        QuantizationError: There is nothing in the graph to quantize.
    """
    model = ir.from_proto(fp32)
    merged = merge_two_class_softmax(model)
    lowered = lower_for_integer_kernels(model, _spatial_shapes(model))
    placement = not_empty(place_for_openvino(model.graph))
    return Prepared(model, placement, lowered.same_values, (*merged, *lowered.rewritten))


def not_empty(placement: Placement) -> Placement:
    """Return the placement.

    Raises:
        QuantizationError: It has no weights.
    """
    if not placement.weights:
        raise QuantizationError(
            "nothing-to-quantize",
            "The network was not quantized",
            why="it has no convolution or linear layer with constant weights",
            todo="Check that the file is the network that you mean",
        )
    return placement


def _spatial_shapes(model: ir.Model) -> dict[str, tuple[int, ...]]:
    values = [*model.graph.inputs, *(value for node in model.graph for value in node.outputs)]
    shapes = {}
    for value in values:
        dims = list(value.shape or [])[2:]
        if value.name is not None and dims and all(isinstance(dim, int) for dim in dims):
            shapes[value.name] = tuple(int(dim) for dim in dims)  # type: ignore[arg-type]
    return shapes
