"""A small network with what is hard for TensorRT, plain and quantized; and running graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import torch
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.proof_network import PROOF_SHAPE
from medptq.graph.executor import GraphExecutor
from medptq.graph.simplify import simplify
from medptq.quantization.placement import place_for_openvino
from medptq.quantization.qdq import insert_qdq
from quantization_helpers import export


def image(shape: tuple[int, ...] = PROOF_SHAPE) -> torch.Tensor:
    return 3 * torch.rand(shape, generator=torch.Generator().manual_seed(1))


def run(graph: onnx.ModelProto, batch: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return GraphExecutor(graph).run(batch).float()


def difference(found: torch.Tensor, expected: torch.Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


class Residual(torch.nn.Module):
    """Norms, a pooling, a transposed convolution, a residual addition and a concatenation."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv3d(1, channels, 3, padding=1)
        self.instance = torch.nn.InstanceNorm3d(channels, affine=True)
        self.second = torch.nn.Conv3d(channels, channels, 3, padding=1)
        self.group = torch.nn.GroupNorm(4, channels)
        self.pooled = torch.nn.Conv3d(channels, channels, 3, padding=1)
        self.up = torch.nn.ConvTranspose3d(channels, channels, 2, stride=2)
        self.last = torch.nn.Conv3d(2 * channels, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        a = torch.relu(self.instance(self.first(x)))
        b = a + torch.relu(self.group(self.second(a)))
        c = self.up(torch.relu(self.pooled(torch.nn.functional.max_pool3d(b, 2))))
        return self.last(torch.cat([b, c], 1))


SMALL = (1, 1, 16, 16, 16)


def plain_graph(network: torch.nn.Module, folder: Path) -> onnx.ModelProto:
    """Export a network by way of a file in the folder."""
    path = folder / "net.onnx"
    export(network.eval(), SMALL, path)
    return simplify(onnx.load(path), input_shape=SMALL)


def quantized_graph(plain: onnx.ModelProto) -> onnx.ModelProto:
    """Return a network with all its convolutions, additions and concatenations quantized."""
    model = ir.from_proto(plain)
    placement = place_for_openvino(model.graph)
    seen: dict[str, float] = {}
    GraphExecutor(plain).run(
        image(SMALL),
        lambda name, tensor: seen.update({name: float(tensor.abs().max())}),
        watch=placement.activations,
    )
    insert_qdq(model, placement, seen)
    return ir.to_proto(model)


WIDTHS = {"/a/Conv": 16, "/b/Conv": 32, "/c/Conv": 64}


def chain() -> onnx.ModelProto:
    """Three quantized convolutions of 16, 32 and 64 channels, each 1x1x1."""
    nodes, constants = [], []
    value, channels = "image", 16

    def constant(name: str, array: np.ndarray) -> str:
        constants.append(numpy_helper.from_array(array, name))
        return name

    for name, width in WIDTHS.items():
        scale = constant(f"{name}/scale", np.array(0.1, np.float32))
        zero = constant(f"{name}/zero", np.array(0, np.int8))
        weight = constant(f"{name}/w", np.ones((width, channels, 1, 1, 1), np.int8))
        nodes += [
            helper.make_node("QuantizeLinear", [value, scale, zero], [f"{name}/q"], f"{name}/Q"),
            helper.make_node("DequantizeLinear", [f"{name}/q", scale, zero], [f"{name}/x"]),
            helper.make_node("DequantizeLinear", [weight, scale, zero], [f"{name}/w32"]),
            helper.make_node("Conv", [f"{name}/x", f"{name}/w32"], [f"{name}/y"], name),
        ]
        value, channels = f"{name}/y", width
    graph = helper.make_graph(
        nodes,
        "chain",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, (1, 16, 4, 4, 4))],
        [helper.make_tensor_value_info(value, TensorProto.FLOAT, (1, channels, 4, 4, 4))],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def in_int8(graph: onnx.ModelProto) -> frozenset[str]:
    """Return the names of the convolutions that read what was quantized."""
    made = {name: node for node in graph.graph.node for name in node.output}
    return frozenset(
        node.name
        for node in graph.graph.node
        if node.op_type == "Conv"
        and node.input[0] in made
        and made[node.input[0]].op_type == "DequantizeLinear"
    )
