"""Exact rewrites of layers that integer kernels run badly into layers that they run well.

Both keep the function of the graph to rounding in FP32; what they change is how many channels a
kernel sees at once. INT8 (and BF16) matrix units take channels in groups of 16 to 64, and stand
nearly idle on a network's first convolution (one image channel) and on its last up-sampling (a
few classes).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from medptq.graph.editing import add_constant, constant_of, new_node, replace_by

# Above these, the kernels have channels enough and the rearrangement costs more than it gains.
_FEW_INPUT_CHANNELS = 4
_FEW_OUTPUT_CHANNELS = 8


@dataclass(frozen=True)
class Lowered:
    """What :func:`lower_for_integer_kernels` did.

    Attributes:
        same_values: For each new tensor that only rearranges another, the other's name. Both have
            the same range, so what calibration learned of one holds for the other.
        rewritten: Names of the nodes that were replaced.
    """

    same_values: dict[str, str]
    rewritten: tuple[str, ...]


def lower_for_integer_kernels(
    model: ir.Model, spatial_shapes: dict[str, tuple[int, ...]]
) -> Lowered:
    """Rewrite strided first convolutions and narrow up-sampling, in place.

    * A convolution with stride 2 and at most 4 input channels becomes a space-to-depth
      rearrangement and a convolution with stride 1 on 2^n times the channels (n spatial axes).
    * A transposed convolution whose stride equals its kernel, with at most 8 output channels,
      becomes a 1x1x1 convolution and a depth-to-space rearrangement (as MLPerf's 3D U-Net entry
      of NVIDIA did, 2021). Its weights can then be quantized per output channel and tap.

    Args:
        model: Graph with constants as initializers.
        spatial_shapes: Static spatial shape of each tensor by name; a layer whose shapes are not
            among them is left alone.
    """
    same_values: dict[str, str] = {}
    rewritten: list[str] = []
    for node in list(model.graph):
        layer = _layer(node, spatial_shapes)
        if layer is None:
            continue
        if node.op_type == "Conv" and _is_narrow_strided(layer):
            rearranged = _to_space_to_depth(model.graph, layer)
            same_values[rearranged] = layer.source_name
        elif node.op_type == "ConvTranspose" and _is_narrow_upsampling(layer):
            _to_depth_to_space(model.graph, layer)
        else:
            continue
        rewritten.append(layer.name)
    return Lowered(same_values, tuple(rewritten))


@dataclass(frozen=True)
class _Layer:
    node: ir.Node
    name: str
    source: ir.Value
    source_name: str
    size: tuple[int, ...]
    weight: NDArray[np.floating]

    @property
    def axes(self) -> int:
        return self.weight.ndim - 2

    def ints(self, attribute: str, default: int, count: int) -> list[int]:
        return list(self.node.attributes.get_ints(attribute, [default] * count))

    @property
    def is_plain(self) -> bool:
        attributes = self.node.attributes
        return (
            attributes.get_int("group", 1) == 1
            and self.ints("dilations", 1, self.axes) == [1] * self.axes
            and attributes.get_string("auto_pad", "NOTSET") == "NOTSET"
        )


def _layer(node: ir.Node, shapes: dict[str, tuple[int, ...]]) -> _Layer | None:
    if node.op_type not in ("Conv", "ConvTranspose"):
        return None
    source, weight = node.inputs[0], constant_of(node, 1)
    if source is None or source.name is None or source.name not in shapes or weight is None:
        return None
    name = node.name or f"{node.outputs[0].name}"
    return _Layer(node, name, source, source.name, shapes[source.name], weight)


def _is_narrow_strided(layer: _Layer) -> bool:
    return (
        layer.is_plain
        and layer.weight.shape[1] <= _FEW_INPUT_CHANNELS
        and layer.ints("strides", 1, layer.axes) == [2] * layer.axes
        and all(kernel > 1 for kernel in layer.weight.shape[2:])
        and all(size % 2 == 0 for size in layer.size)
    )


def _to_space_to_depth(graph: ir.Graph, layer: _Layer) -> str:
    node, n = layer.node, layer.axes
    filters, channels, *kernel = layer.weight.shape
    pads = layer.ints("pads", 0, 2 * n)

    # y[o] = sum_k w[k] x[2o + k - before]. Padding by a whole number of blocks in front, shifting
    # the taps by what that adds, and rounding their number up to whole blocks makes every block
    # of two voxels one position of the new kernel.
    before = [math.ceil(pads[a] / 2) for a in range(n)]
    shift = [2 * before[a] - pads[a] for a in range(n)]
    blocks = [math.ceil((kernel[a] + shift[a]) / 2) for a in range(n)]
    outputs = [(layer.size[a] + pads[a] + pads[n + a] - kernel[a]) // 2 + 1 for a in range(n)]
    after = [outputs[a] + blocks[a] - 1 - before[a] - layer.size[a] // 2 for a in range(n)]

    taps = np.pad(
        layer.weight,
        [(0, 0), (0, 0), *((shift[a], 2 * blocks[a] - kernel[a] - shift[a]) for a in range(n))],
    )
    split = taps.reshape(filters, channels, *(part for b in blocks for part in (b, 2)))
    inner = [3 + 2 * a for a in range(n)]
    outer = [2 + 2 * a for a in range(n)]
    folded = split.transpose(0, 1, *inner, *outer).reshape(filters, channels * 2**n, *blocks)

    halves = [part for s in layer.size for part in (s // 2, 2)]
    rearranged = _rearrange(
        graph,
        node,
        layer.source,
        f"{layer.name}/space_to_depth",
        [0, channels, *halves],
        [0, 1, *inner, *outer],
        [0, channels * 2**n, *(s // 2 for s in layer.size)],
    )
    node.replace_input_with(0, rearranged)
    node.replace_input_with(1, add_constant(graph, f"{layer.name}/weight_space_to_depth", folded))
    node.attributes["kernel_shape"] = ir.AttrInt64s("kernel_shape", blocks)
    node.attributes["strides"] = ir.AttrInt64s("strides", [1] * n)
    # Where no output reads the last voxels the padding would be negative, which ONNX does not
    # allow for a convolution: those voxels are cut off instead.
    node.attributes["pads"] = ir.AttrInt64s("pads", [*before, *(max(a, 0) for a in after)])
    if min(after) < 0:
        rearranged = _crop_end(graph, layer, rearranged, after)
        node.replace_input_with(0, rearranged)
    return f"{rearranged.name}"


def _is_narrow_upsampling(layer: _Layer) -> bool:
    n = layer.axes
    attributes = layer.node.attributes
    return (
        layer.is_plain
        and layer.weight.shape[1] <= _FEW_OUTPUT_CHANNELS
        and layer.ints("strides", 1, n) == list(layer.weight.shape[2:])
        and layer.ints("pads", 0, 2 * n) == [0] * 2 * n
        and layer.ints("output_padding", 0, n) == [0] * n
        and "output_shape" not in attributes
        and math.prod(layer.weight.shape[2:]) > 1
        and (len(layer.node.inputs) < 3 or constant_of(layer.node, 2) is not None)
    )


def _to_depth_to_space(graph: ir.Graph, layer: _Layer) -> None:
    node, n = layer.node, layer.axes
    channels, classes, *kernel = layer.weight.shape
    count = math.prod(kernel)

    pointwise = layer.weight.reshape(channels, classes * count).T.reshape(-1, channels, *[1] * n)
    inputs = [layer.source, add_constant(graph, f"{layer.name}/weight_1x1x1", pointwise)]
    bias = constant_of(node, 2)
    if bias is not None:
        repeated = np.repeat(bias, count)
        inputs.append(add_constant(graph, f"{layer.name}/bias_1x1x1", repeated))
    convolution = new_node("Conv", inputs, f"{layer.name}/1x1x1", {"kernel_shape": [1] * n})
    convolution.name = layer.name
    interleaved = [axis for a in range(n) for axis in (2 + n + a, 2 + a)]
    result = _rearrange(
        graph,
        node,
        _inserted(graph, node, convolution),
        f"{layer.name}/depth_to_space",
        [0, classes, *kernel, *layer.size],
        [0, 1, *interleaved],
        [0, classes, *(layer.size[a] * kernel[a] for a in range(n))],
    )
    replace_by(graph, node, result)


def _rearrange(
    graph: ir.Graph,
    before: ir.Node,
    source: ir.Value,
    name: str,
    split: list[int],
    order: list[int],
    merged: list[int],
) -> ir.Value:
    """Insert Reshape, Transpose, Reshape; the leading 0 keeps the batch axis as it is."""
    value = source
    for part, operand in (("split", split), ("swap", order), ("merge", merged)):
        if part == "swap":
            node = new_node("Transpose", [value], f"{name}/{part}", {"perm": operand})
        else:
            shape = add_constant(graph, f"{name}/{part}_shape", np.array(operand, np.int64))
            node = new_node("Reshape", [value, shape], f"{name}/{part}")
        value = _inserted(graph, before, node)
    return value


def _crop_end(graph: ir.Graph, layer: _Layer, source: ir.Value, after: list[int]) -> ir.Value:
    n = layer.axes
    ends = [layer.size[a] // 2 + min(after[a], 0) for a in range(n)]
    operands = [
        add_constant(graph, f"{layer.name}/crop_{part}", np.array(values, np.int64))
        for part, values in (("starts", [0] * n), ("ends", ends), ("axes", list(range(2, 2 + n))))
    ]
    node = new_node("Slice", [source, *operands], f"{layer.name}/crop")
    return _inserted(graph, layer.node, node)


def _inserted(graph: ir.Graph, before: ir.Node, node: ir.Node) -> ir.Value:
    graph.insert_before(before, node)
    return node.outputs[0]
