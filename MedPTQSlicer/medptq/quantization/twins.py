"""Networks and their INT8 twins by name: a folder, or an id whose twin is in the library."""

from __future__ import annotations

from pathlib import Path

from medptq.errors import ModelError, OutputError
from medptq.models import library, loading
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization.quantized_model import (
    QuantizedModel,
    is_quantized_model,
    load_quantized_model,
)


def load_network(
    name_or_path: str | Path, reporter: Reporter
) -> SegmentationModel | QuantizedModel:
    """Load a network by an id or a path, or a quantized one by its folder's path.

    Raises:
        ModelError: As :func:`medptq.models.loading.load_model` and
            :func:`medptq.quantization.quantized_model.load_quantized_model`.
    """
    if not loading.is_known(name_or_path) and is_quantized_model(Path(name_or_path)):
        return load_quantized_model(Path(name_or_path))
    return loading.load_model(name_or_path, reporter)


def load_with_twin(
    name_or_path: str | Path, reporter: Reporter, *, needs_int8: bool
) -> SegmentationModel | QuantizedModel:
    """Load a network; if it is asked for by an id whose twin is in the library, the twin.

    The twin holds the FP32 graph too, so it serves every precision.

    Args:
        name_or_path: What :func:`load_network` takes.
        reporter: Told of the download, and of a twin that is damaged.
        needs_int8: Whether a damaged twin is an error; the network without it is no substitute.

    Raises:
        ModelError: As :func:`load_network`.
    """
    if isinstance(name_or_path, str) and library.has_twin(name_or_path):
        try:
            return load_quantized_model(library.twin_folder(name_or_path))
        except ModelError as error:
            if needs_int8:
                raise
            reporter.warn(f"INT8 was left out. {error}")
    return load_network(name_or_path, reporter)


def load_twin(model: SegmentationModel | str | Path) -> QuantizedModel:
    """Load the INT8 twin that the library holds of a network.

    Raises:
        ModelError: ``model.not-quantized`` - it holds none. Or the twin is damaged.
    """
    model_id = model.id if isinstance(model, SegmentationModel) else str(model)
    if not library.has_twin(model_id):
        raise ModelError(
            "not-quantized",
            f"There is no INT8 twin of {model_id}",
            why="your library holds none",
            todo="Quantize it first (medptq quantize), or name the folder of its twin",
        )
    return load_quantized_model(library.twin_folder(model_id))


def place_of_twin(model: SegmentationModel) -> Path:
    """Return the folder of the library that a network's INT8 twin goes into.

    Raises:
        OutputError: ``output.library`` - the network is neither the catalogue's nor imported.
    """
    if loading.graph_of_id(model.id) != model.onnx:
        raise OutputError(
            "library",
            f"The INT8 twin of {model.title} was not made",
            why="the network is not in your library, so its twin has no place there",
            todo="Import it first (medptq import), or name a folder for the twin",
        )
    return library.twin_folder(model.id)
