"""Weights that an ONNX file keeps in other files: read from its own folder, or not at all."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx

from medptq.errors import ModelError


def read_external_data(model: onnx.ModelProto, folder: Path, budget: int) -> None:
    """Bring the data of all tensors of ``model`` inside it.

    Args:
        model: Is changed.
        folder: Where the data must lie; nothing outside it is touched.
        budget: Bytes that may be read in all.

    Raises:
        ModelError: The data are missing, cut off, too large, or lie elsewhere.
    """
    for tensor in _tensors(model):
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            continue
        entries = {entry.key: entry.value for entry in tensor.external_data}
        file = _inside(folder, entries.get("location", ""))
        try:
            offset = int(entries.get("offset", 0))
            length = int(entries.get("length", file.stat().st_size - offset))
        except ValueError as error:
            raise _refusal("an offset or length is not a number") from error
        if offset < 0 or length < 0 or offset + length > file.stat().st_size:
            raise _refusal(f"{file.name!r} is shorter than the network says")
        budget -= length
        if budget < 0:
            raise _refusal("they are larger than 2 GiB")
        try:
            with file.open("rb") as stream:
                stream.seek(offset)
                tensor.raw_data = stream.read(length)
        except OSError as error:
            raise _refusal(f"{file.name!r} cannot be read ({error.strerror})") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def _inside(folder: Path, location: str) -> Path:
    """Return the regular file ``location`` of ``folder``."""
    # The file may come from a system with other rules for paths than this one's.
    parts = PurePosixPath(location).parts + PureWindowsPath(location).parts
    absolute = PurePosixPath(location).is_absolute() or PureWindowsPath(location).anchor
    if not location or "\0" in location or absolute or ".." in parts:
        raise _refusal("the network looks for them outside its own folder")
    file = folder / location
    try:
        resolved = file.resolve(strict=True)
    except OSError as error:
        raise _refusal(f"{file.name!r} is not beside the network's file") from error
    if not resolved.is_relative_to(folder.resolve()):
        raise _refusal("a link leads out of the network's folder")
    if not resolved.is_file():
        raise _refusal(f"{file.name!r} is not a file")
    return resolved


def _tensors(model: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Yield every tensor of the model: its weights, and those inside nodes, however deep."""
    yield from _tensors_of_graph(model.graph)
    for function in model.functions:
        yield from _tensors_of_nodes(function.node)


def _tensors_of_graph(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield sparse.values
        yield sparse.indices
    yield from _tensors_of_nodes(graph.node)


def _tensors_of_nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            yield attribute.t
            yield from attribute.tensors
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors_of_graph(graph)


def _refusal(why: str) -> ModelError:
    return ModelError(
        "external-data",
        "The network's weights cannot be read",
        why=why,
        todo="Put the file with the weights beside the network's file, under the name it had when "
        "it was exported, or export the network as a single file",
    )
