"""Reshapes and transpositions that cancel out are one Reshape, and nothing else changes."""

from __future__ import annotations

import onnx
import torch
from hypothesis import given

from medptq.engines.tensorrt_detours import without_detours
from medptq.engines.tensorrt_graph import with_input_shape
from medptq.models.architectures.building import build_network
from quantization_helpers import export
from reshaping_graphs import Step, any_steps, graph_of, kinds, values
from small_networks import SMALL
from tensorrt_networks import image, run


@given(any_steps((1, 2, 3, 4)))
def test_the_elements_keep_their_order(drawn):
    shape, steps = drawn
    plain = graph_of(shape, steps)
    straight = without_detours(plain)
    onnx.checker.check_model(straight)
    assert torch.equal(values(straight, shape), values(plain, shape))
    assert kinds(straight).count("Transpose") <= kinds(plain).count("Transpose")


@given(any_steps((1, 2)))  # so that axes always divide
def test_what_is_undone_step_by_step_is_gone(drawn):
    shape, steps = drawn
    back: list[Step] = []
    now = shape
    for kind, numbers in steps:
        if kind == "Transpose":
            back.append((kind, tuple(numbers.index(axis) for axis in range(len(numbers)))))
            now = tuple(now[axis] for axis in numbers)
        else:
            back.append((kind, now))
            now = numbers
    plain = graph_of(shape, [*steps, *reversed(back)])
    straight = without_detours(plain)
    assert torch.equal(values(straight, shape), values(plain, shape))
    assert "Transpose" not in kinds(straight)


def test_tokens_of_one_block_are_read_as_they_are():
    # As at the end of UNesT: a block of 2³ tokens becomes a volume, and tokens again.
    steps: list[Step] = [
        ("Reshape", (1, 1, 1, 1, 2, 2, 2, 5)),
        ("Transpose", (0, 7, 1, 4, 2, 5, 3, 6)),
        ("Reshape", (1, 5, 2, 2, 2)),
        ("Transpose", (0, 2, 3, 4, 1)),
    ]
    plain = graph_of((1, 8, 5), steps)
    straight = without_detours(plain)
    assert kinds(straight) == ["Relu", "Reshape", "Relu"]
    assert torch.equal(values(straight, (1, 8, 5)), values(plain, (1, 8, 5)))
    # Of the volume itself nothing is taken away.
    assert kinds(without_detours(graph_of((1, 8, 5), steps[:3]))) == kinds(
        graph_of((1, 8, 5), steps[:3])
    )


def test_unknown_shapes_are_left_alone():
    plain = graph_of((1, 8, 5), [("Transpose", (0, 2, 1)), ("Transpose", (0, 2, 1))])
    del plain.graph.value_info[:]
    plain.graph.input[0].type.tensor_type.shape.dim[1].dim_param = "tokens"
    assert kinds(without_detours(plain)) == kinds(plain)


def test_a_nested_transformer_says_the_same(tmp_path):
    options, patch = SMALL["unest"]
    shape = (1, 1, *patch)
    network = build_network("unest", **options)
    graph = with_input_shape(export(network, shape, tmp_path / "net.onnx"), shape)
    straight = without_detours(graph)
    assert kinds(straight).count("Transpose") < kinds(graph).count("Transpose")
    assert torch.equal(run(straight, image(shape)), run(graph, image(shape)))
