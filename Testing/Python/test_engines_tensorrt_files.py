from __future__ import annotations

import json

import pytest

from medptq.engines.tensorrt_layers import layer_precisions
from medptq.engines.tensorrt_library import failure
from medptq.engines.tensorrt_plan import Plan, Tried
from medptq.engines.tensorrt_timing_cache import read_timings, timing_cache_file, write_timings

# What is kept.


def test_a_plan_comes_back_from_its_file_as_it_was():
    plan = Plan(b"engine\nof bytes\n", (Tried("none", 1.5, 0.01), Tried("all", note="no\nkernel")))
    assert Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize("content", [b"", b"nonsense", b"medptq-tensorrt-1\n[]\n"])
def test_what_is_no_plan_is_refused(content):
    with pytest.raises(ValueError, match="TensorRT engine"):
        Plan.from_bytes(content)


def test_a_plan_without_its_end_is_refused():
    with pytest.raises(ValueError):  # noqa: PT011 - JSON's own is one
        Plan.from_bytes(Plan(b"engine", (Tried("none"),)).to_bytes()[:30])


def test_timings_come_back_only_if_they_are_whole(tmp_path):
    path = tmp_path / "timings.bin"
    assert read_timings(path) == b""
    write_timings(path, b"timings of kernels")
    assert read_timings(path) == b"timings of kernels"
    content = path.read_bytes()
    for damaged in (content[:-1], content[:-1] + b"!", b"!" + content[1:], b""):
        path.write_bytes(damaged)
        assert read_timings(path) == b""


def test_timings_that_cannot_be_written_are_no_error(tmp_path):
    folder = tmp_path / "not a folder"
    folder.write_bytes(b"")
    write_timings(folder / "timings.bin", b"timings")


def test_each_version_and_gpu_has_its_own_timings():
    names = {
        timing_cache_file(version, name) for version in ("10.16", "11.4") for name in ("A", "B")
    }
    assert len(names) == 4


# What TensorRT says.


def test_memory_that_ran_out_is_told_from_other_failures():
    assert isinstance(
        failure(["2: [virtualMemoryBuffer.cpp] OutOfMemory (Requested)"]), MemoryError
    )
    assert isinstance(
        failure(["Requested amount of GPU memory could not be allocated"]), MemoryError
    )
    found = failure(["9: [pluginV2Builder.cpp::reportPluginError] Could not find a kernel"])
    assert isinstance(found, RuntimeError)
    assert str(found) == "Could not find a kernel"


LAYERS_OF_8 = {
    "Layers": [
        {
            "Name": "first + Relu",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Name": "a", "Format/Datatype": "Row major linear FP32"}],
            "Outputs": [{"Name": "b", "Format/Datatype": "Thirty-two wide channel Int8 format"}],
        },
        {
            "Name": "second",
            "LayerType": "CaskConvolution",
            "ParameterType": "Convolution",
            "Inputs": [{"Format/Datatype": "Thirty-two wide channel vectorized Int8 format"}],
        },
        {
            "Name": "up",
            "LayerType": "CaskDeconvolution",
            "ParameterType": "Deconvolution",
            "Inputs": [{"Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
        },
        {
            "Name": "copy",
            "LayerType": "Reformat",
            "ParameterType": "Reformat",
            "Inputs": [{"Format/Datatype": "Row major linear FP32"}],
        },
    ],
    "Bindings": ["a", "c"],
}
LAYERS_OF_10 = {
    "Layers": [
        {
            "Name": "second_myl0_1",
            "LayerType": "conv",
            "Inputs": [{"Name": "a", "Datatype": "Int8", "Format": "N/A"}],
        },
        {"Name": "third", "LayerType": "gemm", "Inputs": [{"Datatype": "Half", "Format": "N/A"}]},
        {"Name": "fourth", "LayerType": "conv", "Inputs": [{"Datatype": "Float"}]},
        {"Name": "sum", "LayerType": "kgen", "Inputs": [{"Datatype": "Half"}]},
        "a layer of an engine without details",
    ],
    "I/O Tensors": ["a", "c"],
}


# As TensorRT 8.6 names what it compiled of a network whose modules are called convs.
FUSED = """{"Layers": [
  {"LayerType": "Myelin", "Name": "{ForeignNode[/stages.0/convs/convs.0/norm/mean.../stages.0/convs/
convs.0/norm/result]}", "Inputs": [{"Format/Datatype": "Row major linear FP32"}]},
  {"LayerType": "Myelin", "Name": "{ForeignNode[/blocks.0/attn/MatMul_1.../blocks.0/Add]}",
   "Inputs": [{"Format/Datatype": "Row major linear FP16 format"}]}], "Bindings": ["a"]}"""


def test_what_is_fused_counts_by_the_operators_not_by_the_modules_names():
    assert layer_precisions(FUSED) == {"fused": 1}


def test_the_layers_are_counted_in_every_versions_words():
    assert layer_precisions(json.dumps(LAYERS_OF_8)) == {"fp32": 1, "int8": 1, "fp16": 1}
    assert layer_precisions(json.dumps(LAYERS_OF_10)) == {"int8": 1, "fp16": 1, "fp32": 1}
