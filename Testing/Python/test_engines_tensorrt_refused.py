"""Which layers a failed build is about, on graphs with what TensorRT 8.6 trips over."""

from __future__ import annotations

import onnx
import pytest
import torch

from medptq.engines.tensorrt_checked_build import CheckedBuild
from medptq.engines.tensorrt_placement import Placement, placed
from medptq.engines.tensorrt_refused import refused_in
from medptq.engines.tensorrt_search import build_way
from medptq.progress import Reporter
from tensorrt_networks import in_int8, plain_graph, quantized_graph

# As TensorRT 8.6 said it of SegResNet and of UNETR.
UNMARKED = (
    "Assertion !n->candidateRequirements.empty() failed. All of the candidates were removed, which "
    "points to the node being incorrectly marked as an int8 node."
)
WEIGHTS = "Internal Error (Assertion params.weights.type() != DataType::kINT8 failed. )"


class Block(torch.nn.Module):
    """A residual addition of a convolution, and attention over the voxels as tokens."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = torch.nn.Conv3d(1, 16, 3, stride=4, padding=1)
        self.inner = torch.nn.Conv3d(16, 16, 3, padding=1)
        self.outer = torch.nn.Conv3d(16, 16, 3, padding=1)
        self.query = torch.nn.Linear(16, 16)
        self.key = torch.nn.Linear(16, 16)
        self.last = torch.nn.ConvTranspose3d(16, 2, 4, stride=4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.first(x))
        x = x + self.outer(torch.relu(self.inner(x)))
        tokens = x.flatten(2).transpose(1, 2)
        attention = torch.softmax(self.query(tokens) @ self.key(tokens).transpose(1, 2), -1)
        return self.last((attention @ tokens).transpose(1, 2).reshape(x.shape))


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> onnx.ModelProto:
    return quantized_graph(plain_graph(Block(), tmp_path_factory.mktemp("block")))


def of_type(graph: onnx.ModelProto, *kinds: str) -> frozenset[str]:
    return frozenset(node.name for node in graph.graph.node if node.op_type in kinds)


def test_a_convolution_that_is_added_in_floating_point_is_meant(graph):
    [outer] = [name for name in of_type(graph, "Conv") if "outer" in name]
    convolutions = Placement("convolutions", of_type(graph, "Conv"))
    assert len(convolutions.nodes) == 3
    assert refused_in(UNMARKED, graph, convolutions) == {outer}
    assert refused_in(UNMARKED, graph, convolutions.without(frozenset([outer]))) == frozenset()
    added_in_int8 = Placement("additions, too", of_type(graph, "Conv", "Add"))
    assert refused_in(UNMARKED, graph, added_in_int8) == frozenset()


def test_matrix_products_with_weights_are_meant_and_those_of_attention_are_not(graph):
    products = of_type(graph, "MatMul", "Gemm")
    meant = refused_in(WEIGHTS, graph, Placement("all", products | of_type(graph, "Conv")))
    assert len(products) == 4
    assert len(meant) == 2
    assert all("query" in name or "key" in name for name in meant)


def test_what_is_named_is_meant_whatever_else_is_said(graph):
    [first] = [name for name in of_type(graph, "Conv") if "first" in name]
    everything = Placement("all", of_type(graph, "Conv", "MatMul"))
    assert refused_in(f"node {first}: {UNMARKED}", graph, everything) == {first}
    assert refused_in("Myelin error from unknown graph", graph, everything) == frozenset()


class Upsampling(torch.nn.Module):
    """Two skips, each joined to what was upsampled, as in STU-Net."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.skip = torch.nn.Conv3d(1, 16, 3, padding=1)
        self.down = torch.nn.Conv3d(16, 16, 3, stride=2, padding=1)
        self.deep = torch.nn.Conv3d(16, 16, 3, stride=2, padding=1)
        self.narrow = torch.nn.Conv3d(16, 16, 1)
        self.inner = torch.nn.Conv3d(32, 16, 3, padding=1)
        self.outer = torch.nn.Conv3d(32, 16, 3, padding=1)
        self.last = torch.nn.Conv3d(16, 2, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        first = torch.relu(self.skip(x))
        second = torch.relu(self.down(first))
        x = torch.relu(self.narrow(self.deep(second)))
        for skip, joined in ((second, self.inner), (first, self.outer)):
            x = torch.nn.functional.interpolate(x, scale_factor=2)
            x = torch.relu(joined(torch.cat([x, skip], 1)))
        return self.last(x)


def test_behind_all_upsamplings_is_meant_where_one_is_named(tmp_path):
    graph = quantized_graph(plain_graph(Upsampling(), tmp_path))
    resizes = of_type(graph, "Resize")
    joined = {name for name in of_type(graph, "Conv") if "inner" in name or "outer" in name}
    assert (len(resizes), len(joined)) == (2, 2)
    convolutions = Placement("convolutions", of_type(graph, "Conv"))
    without = convolutions.without(frozenset(joined))
    for resize in resizes:
        # As TensorRT 8.6 said it of STU-Net, its name at the end of a sentence.
        said = f"Could not find any implementation for node {resize}.; Error Code 10: Internal"
        assert refused_in(said, graph, convolutions) == joined
        assert refused_in(said, graph, without) == frozenset()
        assert refused_in(said.replace(resize, f"{resize}/x"), graph, convolutions) == frozenset()


def test_what_is_meant_is_left_in_fp16_and_the_rest_is_built(graph):
    built = []

    def build(part: onnx.ModelProto, *_: object) -> CheckedBuild:
        left = in_int8(part)
        built.append(left)
        if any("outer" in name for name in left):
            raise RuntimeError(UNMARKED)
        return CheckedBuild(b"", 1.0, 0.01, {})

    convolutions = Placement("convolutions", of_type(graph, "Conv"))
    way = build_way(graph, convolutions, "as it is", "int8", Reporter(), build)
    assert [len(left) for left in built] == [3, 2]
    assert way.note.startswith("left in FP16")
    assert way.note.endswith("outer/Conv")
    assert in_int8(placed(graph, way.placement)) == built[-1]


def test_a_note_names_a_few_of_many(graph):
    refused = of_type(graph, "Conv", "MatMul")
    failures = [RuntimeError(" ".join(refused))]

    def build(*_: object) -> CheckedBuild:
        if failures:
            raise failures.pop()
        return CheckedBuild(b"", 1.0, 0.01, {})

    everything = Placement("all", refused | of_type(graph, "Add"))
    way = build_way(graph, everything, "as it is", "int8", Reporter(), build)
    assert len(refused) == 7
    assert way.note.endswith(" and 3 more")
