"""A network that was read from another program's files and is built here, weights and all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from medptq.models.segmentation_model import SegmentationModel

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class BuiltNetwork:
    """What a loader of another program's files returns; nothing was exported yet.

    Attributes:
        model: The card that was made of the files' settings; its ``onnx`` says nothing.
        digest: SHA-256 over all that the network and its weights are made from.
        build: Builds the network with its weights; only called where no graph of this digest is
            in the cache. Raises ModelError if the weights cannot be used.
    """

    model: SegmentationModel
    digest: str
    build: Callable[[], nn.Module]
