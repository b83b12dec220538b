"""Whether a graph is the network that its card describes."""

from __future__ import annotations

import onnx
import torch

from medptq.errors import ModelError
from medptq.graph.executor import GraphExecutor
from medptq.models.segmentation_model import SegmentationModel


def require_fit(model: SegmentationModel, graph: onnx.ModelProto) -> None:
    """Refuse a graph whose input or output is not what the card says.

    Args:
        model: The card's content.
        graph: What :func:`medptq.graph.loading.load_graph` returned for ``model.onnx``; it is
            left as it is.

    Raises:
        ModelError: ``model.mismatch`` - another batch, number of channels, patch size or number
            of classes, or an output of another size than the input.
    """
    wanted = (1, model.channels, *model.patch_size)
    weights = {tensor.name for tensor in graph.graph.initializer}
    image = next(value for value in graph.graph.input if value.name not in weights)
    for size, dim, name in zip(
        wanted, image.type.tensor_type.shape.dim, ("batch", "channels", "D", "H", "W"), strict=True
    ):
        if dim.HasField("dim_value") and dim.dim_value != size:
            raise _mismatch(
                f"its input's {name} is fixed to {dim.dim_value}"
                + ("" if name == "batch" else f", and the card says {size}"),
                "Export it with a batch of 1 or an open one"
                if name == "batch"
                else 'Correct "channels" or "patch_size" in the card',
            )
    found = _inferred_output(graph, image.name, wanted) or _run_output(graph, wanted)
    if found[2:] != wanted[2:]:
        raise _mismatch(
            f"it turns a patch of {wanted[2:]} voxels into an output of {found[2:]}",
            "Choose a network whose output has the size of its input, or a patch size that it"
            " can divide",
        )
    if found[1] != model.classes:
        raise _mismatch(
            f"its output has {found[1]} channels, and the card's labels need {model.classes}"
            " (the background counts as one)",
            "List every structure of the network in the card; a network with a single sigmoid"
            " channel must be exported with a background channel",
        )


def _inferred_output(
    graph: onnx.ModelProto, image: str, shape: tuple[int, ...]
) -> tuple[int, ...] | None:
    """Return the output's shape as ONNX infers it, or None if it cannot tell."""
    fixed = onnx.ModelProto()
    fixed.CopyFrom(graph)
    for value in fixed.graph.input:
        if value.name == image:
            for dim, size in zip(value.type.tensor_type.shape.dim, shape, strict=True):
                dim.dim_value = size
    # What the file declares is a claim; it would be taken over.
    fixed.graph.output[0].type.tensor_type.ClearField("shape")
    del fixed.graph.value_info[:]
    try:
        fixed = onnx.shape_inference.infer_shapes(fixed, strict_mode=True, data_prop=True)
    except (onnx.shape_inference.InferenceError, ValueError, RuntimeError):
        return None
    dims = fixed.graph.output[0].type.tensor_type.shape.dim
    sizes = tuple(int(dim.dim_value) for dim in dims)
    return sizes if len(sizes) == len(shape) and all(sizes) else None


def _run_output(graph: onnx.ModelProto, shape: tuple[int, ...]) -> tuple[int, ...]:
    with torch.inference_mode():
        return tuple(GraphExecutor(graph).run(torch.zeros(shape)).shape)


def _mismatch(why: str, todo: str) -> ModelError:
    return ModelError("mismatch", "The network does not fit its card", why=why, todo=todo)
