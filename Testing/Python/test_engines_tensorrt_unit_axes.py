"""Transpositions have no axes of one, and move what they moved."""

from __future__ import annotations

import onnx
import torch
from hypothesis import given
from onnx import helper

from medptq.engines.tensorrt_detours import without_detours
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.engines.tensorrt_unit_axes import without_unit_axes
from medptq.models.architectures.building import build_network
from quantization_helpers import export
from reshaping_graphs import any_steps, graph_of, kinds, values
from small_networks import SMALL
from tensorrt_networks import image, run


def sizes_transposed(model: onnx.ModelProto) -> list[list[int]]:
    """Return the shapes that the graph's transpositions take."""
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {
        value.name: [dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (*inferred.value_info, *inferred.input)
    }
    return [shapes[node.input[0]] for node in model.graph.node if node.op_type == "Transpose"]


@given(any_steps((1, 1, 2, 3)))
def test_the_elements_keep_their_order(drawn):
    shape, steps = drawn
    plain = graph_of(shape, steps)
    written = without_unit_axes(plain)
    onnx.checker.check_model(written, full_check=True)
    assert torch.equal(values(written, shape), values(plain, shape))
    assert not [sizes for sizes in sizes_transposed(written) if 1 in sizes]


def test_what_moves_only_axes_of_one_is_a_reshape():
    plain = graph_of((1, 3, 1, 4), [("Transpose", (2, 1, 0, 3)), ("Transpose", (1, 0, 2, 3))])
    written = without_unit_axes(plain)
    assert kinds(written) == ["Relu", "Reshape", "Reshape", "Relu"]
    assert torch.equal(values(written, (1, 3, 1, 4)), values(plain, (1, 3, 1, 4)))


def test_without_axes_of_one_nothing_changes():
    plain = graph_of((2, 3, 4), [("Transpose", (2, 0, 1))])
    assert kinds(without_unit_axes(plain)) == kinds(plain)


def test_unknown_shapes_are_left_alone():
    plain = graph_of((1, 8, 5), [("Transpose", (0, 2, 1)), ("Transpose", (1, 0, 2))])
    del plain.graph.value_info[:]
    plain.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    assert kinds(without_unit_axes(plain)) == kinds(plain)


def test_without_an_order_the_axes_are_reversed():
    plain = graph_of((1, 2, 3), [("Transpose", (2, 1, 0))])
    [node] = [node for node in plain.graph.node if node.op_type == "Transpose"]
    del node.attribute[:]
    written = without_unit_axes(plain)
    [turned] = [node for node in written.graph.node if node.op_type == "Transpose"]
    assert helper.get_attribute_value(turned.attribute[0]) == [1, 0]
    assert torch.equal(values(written, (1, 2, 3)), values(plain, (1, 2, 3)))


def test_whole_networks_say_the_same(tmp_path):
    for name in ("unest", "medformer"):
        options, patch = SMALL[name]
        shape = (1, 1, *patch)
        network = build_network(name, **options)
        graph = with_input_shape(export(network, shape, tmp_path / f"{name}.onnx"), shape)
        straight = without_detours(graph)
        # All shapes are known, so no axis of one is left.
        assert all(all(sizes) for sizes in sizes_transposed(straight)), name
        written = without_unit_axes(straight)
        assert not [sizes for sizes in sizes_transposed(written) if 1 in sizes], name
        assert torch.equal(run(written, image(shape)), run(graph, image(shape))), name
