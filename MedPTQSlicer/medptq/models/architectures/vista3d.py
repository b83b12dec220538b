"""VISTA3D as a network of a chosen set of classes: image encoder and class head in one module."""

from __future__ import annotations

import torch
from monai.networks.nets.segresnet_ds import SegResNetDS2
from monai.networks.nets.vista3d import ClassMappingClassify, PointMappingSAM
from torch import Tensor, nn

_EMBEDDINGS = 512

# What VISTA3D finds when it is asked for everything: its 132 classes without those that are made
# of others, and without lesions.
EVERYTHING = tuple(
    index for index in range(1, 128) if index not in (2, 16, 18, 20, 21, *range(23, 28))
)


def vista3d(
    channels: int = 1, class_indices: tuple[int, ...] = EVERYTHING, encoder_embed_dim: int = 48
) -> nn.Module:
    """Return VISTA3D (He 2024) without points: the automatic branch, for some of its classes.

    It is MONAI's ``vista3d132``, whose checkpoints load whole. What only answers to points is
    kept for that, but takes no part and is not exported.

    Args:
        channels: Channels of the image.
        class_indices: VISTA3D's numbers of the classes to find, each below 512. They become the
            labels 1, 2, ... in this order.
        encoder_embed_dim: Channels at full resolution and of the classes' embeddings.

    Returns:
        Maps [N, channels, D, H, W] to [N, 1 + number of classes, D, H, W]; D, H and W are
        multiples of 16. The first channel is 0 throughout: a voxel is background where no class
        has a logit above 0, as in VISTA3D's own postprocessing.

    Raises:
        ValueError: There is no class, one is named twice, or a number is out of range.
    """
    if not class_indices or len(set(class_indices)) != len(class_indices):
        raise ValueError("class_indices is empty, or names a class twice")
    if any(not 0 < index < _EMBEDDINGS for index in class_indices):
        raise ValueError(f"class_indices has a number outside 1 to {_EMBEDDINGS - 1}")
    return Vista3d(channels, class_indices, encoder_embed_dim)


class Vista3d(nn.Module):
    """The network that :func:`vista3d` returns."""

    class_indices: Tensor

    def __init__(self, channels: int, class_indices: tuple[int, ...], dim: int) -> None:
        super().__init__()
        self.image_encoder = SegResNetDS2(
            in_channels=channels,
            blocks_down=(1, 2, 2, 4, 4),
            norm="instance",
            out_channels=dim,
            init_filters=dim,
            dsdepth=1,
        )
        self.class_head = ClassMappingClassify(_EMBEDDINGS, dim, use_mlp=True)
        self.point_head = PointMappingSAM(dim, n_classes=_EMBEDDINGS, last_supported=132)
        indices = torch.tensor(class_indices)
        self.register_buffer("class_indices", indices, persistent=False)

    def forward(self, image: Tensor) -> Tensor:
        """Return a logit of 0 for background, and one for each class."""
        _, features = self.image_encoder(image, with_point=False, with_label=True)
        features = self.class_head.image_post_mapping(features)
        # The head multiplies features by what it makes of the classes' embeddings. For a fixed
        # set of classes that is a pointwise convolution, the background a row of zeros in it.
        embedded = self.class_head.mlp(
            self.class_head.class_embeddings(self.class_indices)[:, None]
        )
        weight = torch.cat([torch.zeros_like(embedded[:1]), embedded])[:, 0, :, None, None, None]
        return nn.functional.conv3d(features, weight)
