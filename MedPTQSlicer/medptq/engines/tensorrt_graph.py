"""The graph that TensorRT is handed: shapes fixed, and in the types that shall be computed in.

From TensorRT 10 on a network is strongly typed: what the graph says is FP32 runs in FP32, so what
shall run in FP16 is FP16 in the graph. In 8.6 the builder's flags allow it, and the graph stays
FP32.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from medptq.engines.tensorrt_library import cannot_build
from medptq.graph.simplify import simplify

_QDQ_IN_FP16 = 19
"""The first opset whose Q/DQ nodes take FP16."""

_HALF_MAX = float(np.finfo(np.float16).max)
_HALF_MIN = float(np.finfo(np.float16).smallest_subnormal)
_STAYS_FP32 = {"Resize": (1, 2)}  # ONNX's scales are FP32 whatever is resized


def with_input_shape(
    model: onnx.ModelProto, shape: tuple[int, int, int, int, int]
) -> onnx.ModelProto:
    """Return the graph with its input, and all that follows from it, fixed to a shape.

    It is simplified, too, so that the shapes of all its values are known as far as they can be.

    Raises:
        EngineError: ``engine.build`` - the graph was made for another shape.
        ModelError: Its opset is too old, or cannot be converted.
    """
    fixed = onnx.ModelProto()
    fixed.CopyFrom(model)
    weights = {tensor.name for tensor in fixed.graph.initializer}
    image = next(value for value in fixed.graph.input if value.name not in weights)
    declared = [dim.dim_value for dim in image.type.tensor_type.shape.dim]
    if any(has and has != size for has, size in zip(declared[1:], shape[1:], strict=True)):
        raise cannot_build(f"it takes {declared}, not {list(shape)}")
    if declared[0] not in (0, shape[0]):
        _free_batch(fixed)
    classes = fixed.graph.output[0].type.tensor_type.shape.dim[1]
    for value in (image, *fixed.graph.output):
        for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
            if dim is not classes and (value is image or dim.dim_value != size):
                dim.dim_value = size
    del fixed.graph.value_info[:]
    try:
        onnx.shape_inference.infer_shapes(fixed, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        raise cannot_build(f"it cannot be run at {list(shape)}") from error
    # Exporters divide sizes in the graph, which inference does not follow; folding does.
    return simplify(fixed, input_shape=shape)


def _free_batch(model: onnx.ModelProto) -> None:
    """Let each Reshape that keeps a batch of one keep any batch, in place.

    Where the shapes of a batch of one were folded into constants, a Reshape names the one; 0 names
    whatever its input has.
    """
    inferred = onnx.shape_inference.infer_shapes(model).graph
    batches = {
        value.name: value.type.tensor_type.shape.dim[0].dim_value
        for value in (*inferred.value_info, *inferred.input)
        if value.type.tensor_type.shape.dim
    }
    shapes = {tensor.name: tensor for tensor in model.graph.initializer} | {
        node.output[0]: node.attribute[0].t
        for node in model.graph.node
        if node.op_type == "Constant" and node.attribute[0].name == "value"
    }
    for node in model.graph.node:
        if node.op_type != "Reshape" or node.input[1] not in shapes:
            continue
        shape = numpy_helper.to_array(shapes[node.input[1]]).copy()
        if shape.size and shape[0] == 1 and batches.get(node.input[0]) == 1 and shape.all():
            # PyTorch's newer exporter has it name a size of zero, of which there is none.
            attributes = [each for each in node.attribute if each.name != "allowzero"]
            del node.attribute[:]
            node.attribute.extend(attributes)
            shape[0] = 0
            name = f"{node.output[0]}/shape-of-any-batch"
            model.graph.initializer.append(numpy_helper.from_array(shape, name))
            node.input[1] = name


def in_half_precision(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph with all that is FP32 in it as FP16, but for its input.

    The image comes as FP32 and is cast; the output stays FP16, half the bytes to write. Q/DQ
    nodes keep their INT8 side. The result is checked for types that do not fit together, so what
    a strongly typed builder would refuse is refused here.

    Raises:
        EngineError: ``engine.build`` - it cannot be written in FP16.
    """
    half = onnx.ModelProto()
    half.CopyFrom(model)
    if any(node.op_type == "QuantizeLinear" for node in half.graph.node):
        half = _with_opset(half, _QDQ_IN_FP16)
    graph = half.graph
    del graph.value_info[:]
    kept = {
        node.input[index]
        for node in graph.node
        for index in _STAYS_FP32.get(node.op_type, ())
        if index < len(node.input)
    }
    for tensor in graph.initializer:
        if tensor.data_type == TensorProto.FLOAT and tensor.name not in kept:
            tensor.CopyFrom(_half(tensor))
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.FLOAT16
            elif attribute.t.data_type == TensorProto.FLOAT and node.output[0] not in kept:
                attribute.t.CopyFrom(_half(attribute.t))
    weights = {tensor.name for tensor in graph.initializer}
    image = next(value.name for value in graph.input if value.name not in weights)
    for node in graph.node:
        for index, name in enumerate(node.input):
            if name == image:
                node.input[index] = f"{image}/fp16"
    graph.node.insert(
        0, helper.make_node("Cast", [image], [f"{image}/fp16"], to=TensorProto.FLOAT16)
    )
    for output in graph.output:
        output.type.tensor_type.elem_type = TensorProto.FLOAT16
    try:
        inferred = onnx.shape_inference.infer_shapes(half, check_type=True, strict_mode=True)
        onnx.checker.check_model(inferred)
    except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError) as error:
        raise cannot_build("it cannot be written in FP16") from error
    return inferred


def _half(tensor: onnx.TensorProto) -> onnx.TensorProto:
    """Return a tensor in FP16; nothing becomes infinite, and only what is zero becomes zero.

    The scale of a channel that is dead and what keeps a division from being one by zero may be
    less than FP16 holds.
    """
    values = numpy_helper.to_array(tensor)
    half = np.clip(values, -_HALF_MAX, _HALF_MAX).astype(np.float16)
    lost = (half == 0) & (values != 0)
    kept = np.where(lost, np.copysign(_HALF_MIN, values), half).astype(np.float16)
    return numpy_helper.from_array(kept, tensor.name)


def _with_opset(model: onnx.ModelProto, opset: int) -> onnx.ModelProto:
    if all(entry.version >= opset for entry in model.opset_import if entry.domain == ""):
        return model
    try:
        return onnx.version_converter.convert_version(model, opset)
    except (RuntimeError, ValueError) as error:
        raise cannot_build(f"it cannot be written in ONNX's opset {opset}") from error
