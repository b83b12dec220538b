"""The operators against ONNX's own backend node tests."""

from __future__ import annotations

import copy
import warnings
from collections import defaultdict
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from torch import Tensor

from medptq.graph.executor import GraphExecutor
from medptq.graph.operators import DTYPES, OPERATORS
from medptq.graph.opset import OLDEST

FEWEST_CASES = 900
"""So that the collection cannot shrink unnoticed; onnx 1.23 has 960."""

NOT_COMPUTED = {torch.uint16, torch.uint32, torch.uint64}
"""PyTorch stores these, but has next to no arithmetic for them; no network of ours uses them."""

EXCLUDED = {
    "training": "training, not inference",
    "maxpool_with_argmax": "MaxPool's indices; only MaxUnpool needs them",
    "scatternd_max": "ScatterND with a reduction; exporters write only the plain one and add",
    "scatternd_min": "ScatterND with a reduction; exporters write only the plain one and add",
    "scatternd_multiply": "ScatterND with a reduction; exporters write only the plain one and add",
    "antialias": "Resize with antialias; no 3D network exports it",
    "tf_crop_and_resize": "Resize of regions; no 3D network exports it",
    "not_larger": "Resize with keep_aspect_ratio_policy; no 3D network exports it",
    "not_smaller": "Resize with keep_aspect_ratio_policy; no 3D network exports it",
}
"""Parts of the names of cases that are left out, and why."""

SEVERAL = "several operators"
"""Operators that ONNX defines by others come with cases that spell them out."""

NO_CASE: set[str] = set()
"""Operators that ONNX has no case for."""


def as_tensor(value: Any) -> Tensor:
    if isinstance(value, onnx.TensorProto):
        dtype = DTYPES[value.data_type]
        array = onnx.numpy_helper.to_array(value)
    else:
        array = np.asarray(value)
        dtype = DTYPES[onnx.helper.np_dtype_to_tensor_dtype(array.dtype)]
    if dtype == torch.bfloat16:
        return torch.from_numpy(array.view(np.int16).copy()).view(dtype)
    return torch.from_numpy(np.array(array))


def element_types(case: TestCase) -> set[int]:
    values = [*case.model.graph.input, *case.model.graph.output]
    types = {value.type.tensor_type.elem_type for value in values}
    for node in case.model.graph.node:
        types |= {a.i for a in node.attribute if a.name in ("to", "output_dtype")} - {0}
    return types


def is_ours(case: TestCase) -> bool:
    nodes = case.model.graph.node
    return (
        all(node.domain in ("", "ai.onnx") and node.op_type in OPERATORS for node in nodes)
        and not any(part in case.name for part in EXCLUDED)
        and all(kind in DTYPES and DTYPES[kind] not in NOT_COMPUTED for kind in element_types(case))
    )


@pytest.fixture(scope="module")
def cases() -> dict[str, list[TestCase]]:
    """All cases that the operators must pass, by operator."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        collected = collect_testcases(None)
    by_operator = defaultdict(list)
    for case in collected:
        if is_ours(case):
            nodes = case.model.graph.node
            by_operator[nodes[0].op_type if len(nodes) == 1 else SEVERAL].append(case)
    return by_operator


def computed(case: TestCase, inputs: list[Any]) -> list[Tensor]:
    """Run a case: its first input is the batch, the others are weights."""
    model = copy.deepcopy(case.model)
    graph = model.graph
    for entry in model.opset_import:
        # Operators that have not changed since before the oldest opset that is read.
        entry.version = max(entry.version, OLDEST)
    names = [value.name for value in graph.input]
    given = dict(zip(names, map(as_tensor, inputs), strict=True))
    batch = given.pop(names[0]) if names else torch.zeros(())
    for name, tensor in given.items():
        graph.initializer.append(
            onnx.TensorProto(
                name=name,
                dims=tensor.shape,
                data_type=next(kind for kind, dtype in DTYPES.items() if dtype == tensor.dtype),
                raw_data=tensor.contiguous().view(-1).view(torch.uint8).numpy().tobytes()
                if tensor.numel()
                else b"",
            )
        )
    before = batch.clone()
    executor = GraphExecutor(model)
    outputs = [value.name for value in graph.output]
    seen: dict[str, Tensor] = {}
    executor.run(batch, seen.__setitem__, set(outputs))
    torch.testing.assert_close(batch, before, rtol=0, atol=0, equal_nan=True)
    return [seen[name] if name in seen else executor.constants[name] for name in outputs]


def test_collection_has_not_shrunk(cases: dict[str, list[TestCase]]) -> None:
    names = {case.name for found in cases.values() for case in found}
    assert len(names) >= FEWEST_CASES
    assert {op_type for op_type in OPERATORS if not cases[op_type]} == NO_CASE


@pytest.mark.parametrize("op_type", [*sorted(set(OPERATORS) - NO_CASE), SEVERAL])
def test_onnx_backend_cases(op_type: str, cases: dict[str, list[TestCase]]) -> None:
    assert cases[op_type]
    for case in cases[op_type]:
        for inputs, outputs in case.data_sets:
            found = computed(case, inputs)
            assert len(found) == len(outputs), case.name
            for actual, expected in zip(found, map(as_tensor, outputs), strict=True):
                torch.testing.assert_close(
                    actual,
                    expected,
                    rtol=max(case.rtol, 1e-2 if expected.dtype == torch.bfloat16 else 0),
                    atol=1e-3 if expected.element_size() == 2 else 1e-6,
                    equal_nan=True,
                    msg=lambda text, name=case.name: f"{name}: {text}",
                )
