"""Reading ONNX files that nobody vouches for."""

from __future__ import annotations

from pathlib import Path

import onnx
from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

from medptq.errors import ModelError, first_line
from medptq.graph.external_data import MESSAGE_BYTES, is_whole, read_external_data
from medptq.graph.operators import OPERATORS, element_type_name, tensor_from_proto
from medptq.graph.opset import opset_of


def load_graph(path: Path) -> onnx.ModelProto:
    """Read a 3D segmentation network from an ONNX file, data and all.

    The file is not trusted: nothing in it is run, and it can have nothing read from outside its
    own folder.

    Args:
        path: An ONNX file; weights may lie in other files of its folder.

    Returns:
        A model that ONNX's checker passes, with one input [N, C, D, H, W] and one output
        [N, classes, D, H, W], both float32, dimensions static or symbolic, and only operators
        that :class:`medptq.graph.executor.GraphExecutor` knows. All data are inside it; only the
        weights of networks above 2 GiB stay in their files: see
        :mod:`medptq.graph.external_data`.

    Raises:
        ModelError: With the code ``unreadable`` if it is no sound ONNX file, ``external-data``
            if its weights cannot be had, ``not-segmentation`` if the network has other inputs or
            outputs, ``operator`` if it has operators that are not known.
    """
    model = _parse(path)
    _check_signature(model)
    opset_of(model)
    _check_operators(model)
    read_external_data(model, path.parent, MESSAGE_BYTES - model.ByteSize())
    try:
        # By its path where it is too large for a message; the data were shown to be in its folder.
        onnx.checker.check_model(model if is_whole(model) else str(path))
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise _unreadable(path, f"it breaks the rules of ONNX ({first_line(error)})") from error
    for tensor in model.graph.initializer:
        tensor_from_proto(tensor)
    return model


def _parse(path: Path) -> onnx.ModelProto:
    try:
        size = path.stat().st_size
        if size > MESSAGE_BYTES:
            raise _unreadable(path, "it is larger than 2 GiB")
        content = path.read_bytes()
    except OSError as error:
        raise _unreadable(path, error.strerror or str(error)) from error
    try:
        # From bytes: onnx.load would choose a format, text among them, by the file's suffix.
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, RuntimeError) as error:
        raise _unreadable(path, "it is not an ONNX file, or only a part of one") from error
    if not model.graph.node:
        raise _unreadable(path, "it holds no network")
    return model


def _check_signature(model: onnx.ModelProto) -> None:
    """Refuse a network that does not map one 3D image to one."""
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    for what, values in (("input", inputs), ("output", _outputs(model))):
        if len(values) != 1:
            names = ", ".join(repr(value.name) for value in values[:5]) or "none"
            raise _not_segmentation(f"it has {len(values)} {what}s ({names})")
        kind = values[0].type.tensor_type
        if not kind.HasField("shape") or len(kind.shape.dim) != 5:
            found = _shape_in_words(kind) if kind.HasField("shape") else "not declared"
            raise _not_segmentation(f"the shape of its {what} {values[0].name!r} is {found}")
        if kind.elem_type != onnx.TensorProto.FLOAT:
            element_type = element_type_name(kind.elem_type)
            raise _not_segmentation(f"its {what} {values[0].name!r} is {element_type}, not float32")


def _outputs(model: onnx.ModelProto) -> list[onnx.ValueInfoProto]:
    """Return the graph's outputs; give them the shapes that exporters leave out."""
    outputs = model.graph.output
    if any(not value.type.tensor_type.HasField("shape") for value in outputs):
        try:
            inferred = onnx.shape_inference.infer_shapes(model).graph.output
        except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
            return list(outputs)
        for value, known in zip(outputs, inferred, strict=True):
            value.CopyFrom(known)
    return list(outputs)


def _check_operators(model: onnx.ModelProto) -> None:
    """Refuse a network with operators that the executor does not know."""
    if model.functions:
        raise _operator_error(f"it defines functions of its own ({model.functions[0].name})")
    unknown = sorted(
        {
            f"{node.domain}::{node.op_type}" if foreign else node.op_type
            for node in model.graph.node
            if (foreign := node.domain not in ("", "ai.onnx")) or node.op_type not in OPERATORS
        }
    )
    if unknown:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise _operator_error(f"it uses {', '.join(unknown[:5])}{more}")


def _shape_in_words(kind: onnx.TypeProto.Tensor) -> str:
    return f"[{', '.join(dim.dim_param or str(dim.dim_value or '?') for dim in kind.shape.dim)}]"


def _unreadable(path: Path, why: str) -> ModelError:
    return ModelError(
        "unreadable",
        f"The network {path.name} cannot be read",
        why=why,
        todo="Export or download it again",
    )


def _not_segmentation(why: str) -> ModelError:
    return ModelError(
        "not-segmentation",
        "The network is not one for 3D segmentation",
        why=why,
        todo="It must have one float32 input [N, C, D, H, W] and one float32 output "
        "[N, classes, D, H, W]; export it without other heads",
    )


def _operator_error(why: str) -> ModelError:
    return ModelError(
        "operator",
        "The network cannot be run here",
        why=why,
        todo="Export it with PyTorch's standard operators only",
    )
