"""Weights that an ONNX file keeps in other files: read from its own folder, or not at all.

A protobuf message holds 2 GiB. Where the weights are more, the large ones stay in their files,
mapped into memory as they are needed: in the graph such a tensor names its file by an absolute
path, which no file that is read from a disk may do.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np
import onnx
from numpy.typing import NDArray

from medptq.artifacts import sha256_of
from medptq.errors import ModelError

MESSAGE_BYTES = (1 << 31) - 1
"""What a protobuf message can hold."""

_LARGEST_TOTAL = 1 << 36
_SMALL = 1 << 20
"""Bytes up to which a tensor is brought inside, wherever the others are."""


def read_external_data(model: onnx.ModelProto, folder: Path, budget: int) -> None:
    """Bring the data of all tensors inside; if the budget does not suffice, of the small ones.

    Args:
        model: Is changed.
        folder: Where the data must lie; nothing outside it is touched.
        budget: Bytes that may be read in all. Where the data are more, weights of more than
            1 MiB stay in their files.

    Raises:
        ModelError: The data are missing, cut off, too large, or lie elsewhere.
    """
    found = [
        (tensor, _place_of(tensor, folder), is_weight)
        for tensor, is_weight in _tensors(model)
        if _is_outside(tensor)
    ]
    total = sum(place.length for _, place, _ in found)
    if total > _LARGEST_TOTAL:
        raise _refusal(f"they are larger than {_LARGEST_TOTAL >> 30} GiB")
    whole = total <= budget
    for tensor, place, is_weight in found:
        if is_weight and not whole and place.length > _SMALL:
            _set_location(tensor, str(place.file), place)
            continue
        budget -= place.length
        if budget < 0:
            raise _refusal("what cannot be left in a file of its own is larger than 2 GiB")
        try:
            with place.file.open("rb") as stream:
                stream.seek(place.offset)
                tensor.raw_data = stream.read(place.length)
        except OSError as error:
            raise _refusal(f"{place.file.name!r} cannot be read ({error.strerror})") from error
        tensor.data_location = onnx.TensorProto.DEFAULT
        del tensor.external_data[:]


def is_whole(model: onnx.ModelProto) -> bool:
    """Tell whether all data of a graph that was loaded are inside it."""
    return not any(_is_outside(tensor) for tensor in model.graph.initializer)


def stored_bytes(path: Path) -> int:
    """Return the bytes of a graph's file and of those beside it that hold its weights.

    Raises:
        ModelError: Such a file is missing, or lies elsewhere.
    """
    model = onnx.load_model(path, load_external_data=False)
    others = {
        _place_of(tensor, path.parent).file for tensor, _ in _tensors(model) if _is_outside(tensor)
    }
    return sum(file.stat().st_size for file in (path, *others))


def mapped_data(tensor: onnx.TensorProto) -> NDArray[np.generic] | None:
    """Return the data of a tensor that :func:`read_external_data` left in its file.

    Returns:
        The array, mapped; what is written to it stays in memory. None if the data are inside.

    Raises:
        ValueError: They are fewer than its shape needs, or not where they were.
    """
    if not _is_outside(tensor):
        return None
    entries = {entry.key: entry.value for entry in tensor.external_data}
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
    shape = tuple(tensor.dims)
    if math.prod(shape) * dtype.itemsize != int(entries["length"]):
        raise ValueError(f"{entries['length']} bytes do not fill {shape}")
    try:
        return np.memmap(entries["location"], dtype, "c", int(entries["offset"]), shape)
    except OSError as error:
        raise ValueError(f"its data are gone: {error.strerror}") from error


def serialized(model: onnx.ModelProto) -> bytes:
    """Return a graph as a message with all its data.

    Raises:
        ModelError: ``model.too-large`` - it does not fit into one.
    """
    if is_whole(model):
        message: bytes = model.SerializeToString()
        return message
    raise ModelError(
        "too-large",
        "This cannot be done with so large a network",
        why="its weights take more than the 2 GiB that one ONNX file can hold",
        todo="Use it by its path, with the engine openvino",
    )


def save_graph(model: onnx.ModelProto, path: Path, data: Path | None = None) -> None:
    """Write a graph: one file, or two where it does not fit into one.

    Args:
        model: As :func:`medptq.graph.loading.load_graph` returned it, or rewritten from that; it
            is left as it is.
        path: The ONNX file.
        data: Where the large weights go, if they must; in the same folder. It is named after
            ``path`` if it is not given.
    """
    if is_whole(model):
        path.write_bytes(model.SerializeToString())
        return
    data = data or data_beside(path)
    written = onnx.ModelProto()
    written.CopyFrom(model)  # what is outside is not copied
    with data.open("wb") as stream:
        for tensor in written.graph.initializer:
            array = mapped_data(tensor)
            if array is None:
                continue
            stream.write(b"\0" * (-stream.tell() % 4096))  # a page of memory, for mapping
            place = _Place(Path(data.name), stream.tell(), array.nbytes)
            array.tofile(stream)
            stream.flush()
            _set_location(tensor, data.name, place)
    path.write_bytes(written.SerializeToString())


def data_beside(path: Path) -> Path:
    """Return the file that :func:`save_graph` puts large weights in."""
    return path.with_name(f"{path.name}.data")


def content_digest(model: onnx.ModelProto) -> str:
    """Return a SHA-256 over a graph that was loaded, and over the files that hold its weights."""
    outside = filter(_is_outside, model.graph.initializer)
    files = sorted({entry.value for tensor in outside for entry in tensor.external_data[:1]})
    digest = hashlib.sha256(model.SerializeToString(deterministic=True))
    for file in files:
        digest.update(sha256_of(Path(file)).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class _Place:
    file: Path
    offset: int
    length: int


def _place_of(tensor: onnx.TensorProto, folder: Path) -> _Place:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    file = _inside(folder, entries.get("location", ""))
    size = file.stat().st_size
    try:
        offset = int(entries.get("offset", 0))
        length = int(entries.get("length", size - offset))
    except ValueError as error:
        raise _refusal("an offset or length is not a number") from error
    if offset < 0 or length < 0 or offset + length > size:
        raise _refusal(f"{file.name!r} is shorter than the network says")
    return _Place(file, offset, length)


def _is_outside(tensor: onnx.TensorProto) -> bool:
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def _set_location(tensor: onnx.TensorProto, location: str, place: _Place) -> None:
    del tensor.external_data[:]
    for key, value in (
        ("location", location),
        ("offset", str(place.offset)),
        ("length", str(place.length)),
    ):
        tensor.external_data.add(key=key, value=value)


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


def _tensors(model: onnx.ModelProto) -> Iterator[tuple[onnx.TensorProto, bool]]:
    """Yield every tensor of the model, and whether it is a weight or inside nodes, however deep."""
    for tensor in model.graph.initializer:
        yield tensor, True
    for tensor in _tensors_within(model.graph):
        yield tensor, False
    for function in model.functions:
        for tensor in _tensors_of_nodes(function.node):
            yield tensor, False


def _tensors_within(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
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
                yield from graph.initializer
                yield from _tensors_within(graph)


def _refusal(why: str) -> ModelError:
    return ModelError(
        "external-data",
        "The network's weights cannot be read",
        why=why,
        todo="Put the file with the weights beside the network's file, under the name it had when "
        "it was exported, or export the network as a single file",
    )
