"""Small pieces of what a layer reads, in FP32 and as the quantized network hands it on."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators import OPERATORS, Node
from medptq.graph.operators.evaluation import evaluate
from medptq.quantization.simulation.granularity import CONVOLUTIONS
from medptq.quantization.simulation.layer import SimulatedLayer
from medptq.quantization.simulation.network import SimulatedNetwork

_OUTPUTS = 6  # voxels along each axis of what a piece of a convolution's input gives
_ROWS = 64  # of a matrix product
_AT_ONCE = 32


@dataclass(frozen=True)
class LayerSamples:
    """Pieces of a layer's input, and the layer as it computes on such pieces.

    Attributes:
        full: Pieces of the input in FP32: [pieces, C, *spatial], or rows [pieces, rows, C].
        arriving: The same pieces as the quantized layers before this one make them.
        quantized: The same pieces as the quantized layer reads them.
        channel_axis: The axis of the output's channels, from the end for a matrix product.
    """

    full: Tensor
    arriving: Tensor
    quantized: Tensor
    channel_axis: int
    _node: Node

    def output(self, pieces: Tensor, weight: Tensor) -> Tensor:
        """Return what the layer makes of some pieces with a weight, without its bias.

        Gradients are recorded as the caller's mode says.
        """
        if self._node.op_type != "Gemm":
            return evaluate(OPERATORS[self._node.op_type].evaluate, self._node, [pieces, weight])[0]
        return pieces @ (weight.T if self._node.get("transB", 0) else weight)

    def whole_output(self, pieces: Tensor, weight: Tensor) -> Tensor:
        """Return what the layer makes of many pieces, without gradients."""
        with torch.no_grad():
            return torch.cat([self.output(part, weight) for part in torch.split(pieces, _AT_ONCE)])

    def channel_means(self, output: Tensor) -> Tensor:
        """Return the mean of each channel of an output, in a shape that broadcasts to it."""
        channel = self.channel_axis % output.ndim
        others = tuple(axis for axis in range(output.ndim) if axis != channel)
        return output.mean(others, keepdim=True)

    def compare(self, found: Tensor, wanted: Tensor) -> tuple[float, Tensor]:
        """Return how far two outputs are apart.

        Returns:
            The mean squared error but for each channel's mean; and the correction of the layer
            that takes those means off.
        """
        error = found - wanted
        means = self.channel_means(error)
        rest = float((error - means).square().mean(dtype=torch.float64))
        # The channels of a product lie along the last axis, however many there are before it.
        return rest, -means if self.channel_axis == 1 else -means.reshape(-1)


def can_be_sampled(layer: SimulatedLayer) -> bool:
    """Tell whether the layer is one of those that :func:`sample_layer` knows."""
    if layer.weight is None:
        return False
    if layer.op_type in CONVOLUTIONS:
        return bool(layer.node.get("auto_pad", "NOTSET") == "NOTSET")
    return layer.weight.full.ndim == 2 and not layer.node.get("transA", 0)


def sample_layer(
    network: SimulatedNetwork,
    layer: SimulatedLayer,
    batches: list[Tensor],
    count: int,
    generator: torch.Generator,
) -> LayerSamples:
    """Cut pieces out of a layer's input, at places that the generator chooses.

    Args:
        network: The network, with the layers before this one as they are to stay.
        layer: One that can be sampled.
        batches: Patches on the network's device.
        count: Pieces of all patches together, at least one of each.
        generator: On the CPU.
    """
    [edge] = layer.edges
    pieces = []
    share = max(count // len(batches), 1)
    for batch in batches:
        inputs = network.values([edge.tensor], batch, ())
        inputs += network.values([edge.tensor, edge.value], batch)
        if layer.op_type in CONVOLUTIONS:
            whole = torch.cat(inputs)
            pieces.append(_crops(layer.node, _kernel(layer), whole, share, generator))
        else:
            rows = torch.stack([x.reshape(-1, x.shape[-1]) for x in inputs])
            pieces.append(_rows(rows, share, generator))
    node = layer.node
    if node.op_type == "Conv":
        attributes = {name: value for name, value in node.attributes.items() if name != "pads"}
        node = replace(node, attributes=attributes)
    full, arriving, quantized = torch.cat(pieces, dim=1)
    return LayerSamples(full, arriving, quantized, layer.channel_axis, node)


def _kernel(layer: SimulatedLayer) -> tuple[int, ...]:
    """Return the size of a convolution's kernel along its spatial axes."""
    return tuple(layer.weight.full.shape[2:]) if layer.weight is not None else ()


def _crops(
    node: Node, kernel: tuple[int, ...], inputs: Tensor, count: int, generator: torch.Generator
) -> Tensor:
    """Return crops [n, count, C, *spatial] of inputs [n, C, *spatial] at the same places."""
    axes = len(kernel)
    strides, sizes = [1] * axes, [_OUTPUTS] * axes
    if node.op_type == "Conv":
        strides = list(node.get("strides") or strides)
        dilations = node.get("dilations") or [1] * axes
        pads = list(node.get("pads") or [0] * 2 * axes)
        sides = [(pads[axis], pads[axes + axis]) for axis in reversed(range(axes))]
        inputs = F.pad(inputs, [side for pair in sides for side in pair])
        sizes = [
            (_OUTPUTS - 1) * stride + dilation * (k - 1) + 1
            for stride, dilation, k in zip(strides, dilations, kernel, strict=True)
        ]
    pieces = []
    sizes = [min(size, had) for size, had in zip(sizes, inputs.shape[2:], strict=True)]
    for _ in range(count):
        piece = inputs
        for axis, (size, stride) in enumerate(zip(sizes, strides, strict=True), start=2):
            places = (inputs.shape[axis] - size) // stride + 1
            place = int(torch.randint(places, (), generator=generator))
            piece = piece.narrow(axis, place * stride, size)
        pieces.append(piece)
    return torch.stack(pieces, dim=1)


def _rows(inputs: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return rows [n, count, rows, C] of inputs [n, all rows, C], the same ones of each."""
    chosen = torch.randint(inputs.shape[1], (count * _ROWS,), generator=generator)
    return inputs[:, chosen.to(inputs.device)].reshape(len(inputs), count, _ROWS, -1)
