"""MONAI's networks, each with the arguments that decide its shape.

Arguments have MONAI's names, but for ``channels`` and ``classes``, which all networks here share.
MONAI is slow to import, so each function imports the module that it needs.
"""

from __future__ import annotations

from typing import Literal

from torch import nn

Triple = tuple[int, int, int]


def monai_unet(
    channels: int = 1,
    classes: int = 2,
    level_channels: tuple[int, ...] = (16, 32, 64, 128, 256),
    strides: tuple[int | Triple, ...] = (2, 2, 2, 2),
    num_res_units: int = 2,
    norm: Literal["batch", "instance", "instance-affine"] = "batch",
) -> nn.Module:
    """Return MONAI's residual U-Net (Kerfoot 2018); by default that of its spleen bundle.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        level_channels: Channels of each level (MONAI's ``channels``).
        strides: Of each reduction, one fewer than levels; one for all axes, or for D, H and W.
        num_res_units: Convolutions of each residual unit; 0 for plain ones.
        norm: Normalization; of instances without learned scale and shift, or with them.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.

    Raises:
        ValueError: The numbers of levels and strides do not go together.
    """
    from monai.networks.nets.unet import UNet

    if len(strides) != len(level_channels) - 1:
        raise ValueError(f"{len(level_channels)} levels need one stride fewer, not {len(strides)}")
    return UNet(  # type: ignore[no-any-return]
        3,
        channels,
        classes,
        level_channels,
        strides,
        num_res_units=num_res_units,
        norm=("instance", {"affine": True}) if norm == "instance-affine" else norm,
    )


def basic_unet(
    channels: int = 1,
    classes: int = 2,
    features: tuple[int, int, int, int, int, int] = (32, 32, 64, 128, 256, 32),
    norm: Literal["batch", "instance", "instance-plain"] = "instance",
) -> nn.Module:
    """Return MONAI's basic U-Net (Falk 2019): max pooling down, transposed convolutions up.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        features: Channels of the five levels, and of the last one on the way up.
        norm: Normalization, with learned scale and shift but for ``"instance-plain"``.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].
    """
    from monai.networks.nets.basic_unet import BasicUNet

    return BasicUNet(  # type: ignore[no-any-return]
        3, channels, classes, features, norm=_with_affine(norm)
    )


def dynunet(
    channels: int = 1,
    classes: int = 2,
    kernel_size: tuple[tuple[int, int, int], ...] = ((3, 3, 3),) * 6,
    strides: tuple[tuple[int, int, int], ...] = ((1, 1, 1), *((2, 2, 2),) * 5),
    filters: tuple[int, ...] = (32, 64, 128, 256, 320, 320),
    norm: Literal["batch", "instance", "instance-plain"] = "instance",
    res_block: bool = False,
    deep_supr_num: int = 0,
) -> nn.Module:
    """Return MONAI's DynUNet (Isensee 2021), its own reading of nnU-Net.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        kernel_size: Of each level, along D, H and W.
        strides: Of each level's first convolution; the first level's are 1.
        filters: Channels of each level.
        norm: Normalization, with learned scale and shift but for ``"instance-plain"``.
        res_block: Whether blocks are residual.
        deep_supr_num: Heads that supervised its training, which checkpoints hold; not computed.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of the
        product of the strides.
    """
    from monai.networks.nets.dynunet import DynUNet

    return DynUNet(  # type: ignore[no-any-return]
        3,
        channels,
        classes,
        kernel_size,
        strides,
        strides[1:],
        filters=filters,
        norm_name=_with_affine(norm),
        res_block=res_block,
        deep_supervision=deep_supr_num > 0,
        deep_supr_num=max(deep_supr_num, 1),
    )


def segresnet(
    channels: int = 1,
    classes: int = 105,
    init_filters: int = 32,
    blocks_down: tuple[int, ...] = (1, 2, 2, 4),
    blocks_up: tuple[int, ...] = (1, 1, 1),
) -> nn.Module:
    """Return SegResNet (Myronenko 2018); by default that of MONAI's whole-body bundle.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        init_filters: Channels at full resolution, a multiple of 8; they double with each level.
        blocks_down: Residual blocks of each level on the way down.
        blocks_up: Residual blocks of each level on the way up, one level fewer.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].

    Raises:
        ValueError: The numbers of levels do not go together.
    """
    from monai.networks.nets.segresnet import SegResNet

    if len(blocks_up) != len(blocks_down) - 1:
        raise ValueError(f"{len(blocks_down)} levels down need one fewer up, not {len(blocks_up)}")
    return SegResNet(  # type: ignore[no-any-return]
        3, init_filters, channels, classes, blocks_down=blocks_down, blocks_up=blocks_up
    )


def segresnet_ds(
    channels: int = 1,
    classes: int = 2,
    init_filters: int = 32,
    blocks_down: tuple[int, ...] = (1, 2, 2, 4, 4),
    norm: Literal["batch", "instance"] = "instance",
    dsdepth: int = 4,
) -> nn.Module:
    """Return SegResNetDS; by default as MONAI's Auto3DSeg trains it.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        init_filters: Channels at full resolution; they double with each level.
        blocks_down: Residual blocks of each level.
        norm: Normalization.
        dsdepth: Heads that supervised its training, which checkpoints hold, the one that is
            computed among them.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of 2 to
        the number of levels less one.
    """
    from monai.networks.nets.segresnet_ds import SegResNetDS

    return SegResNetDS(  # type: ignore[no-any-return]
        3, init_filters, channels, classes, norm=norm, blocks_down=blocks_down, dsdepth=dsdepth
    )


def vnet(channels: int = 1, classes: int = 2) -> nn.Module:
    """Return V-Net (Milletari 2016).

    Args:
        channels: Channels of the image; they divide 16.
        classes: Channels of the output, background among them.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W]; D, H and W are multiples of 16.
    """
    from monai.networks.nets.vnet import VNet

    return VNet(3, channels, classes)  # type: ignore[no-any-return]


def unetr(
    channels: int = 1,
    classes: int = 14,
    img_size: tuple[int, int, int] = (96, 96, 96),
    feature_size: int = 16,
    hidden_size: int = 768,
    mlp_dim: int = 3072,
    num_heads: int = 12,
    proj_type: Literal["conv", "perceptron"] = "perceptron",
) -> nn.Module:
    """Return UNETR (Hatamizadeh 2021); by default as the authors' weights for BTCV have it.

    Args:
        channels: Channels of the image.
        classes: Channels of the output, background among them.
        img_size: (D, H, W) that it takes, multiples of 16: each place has its own embedding.
        feature_size: Channels of the decoder at full resolution.
        hidden_size: Channels of the transformer.
        mlp_dim: Hidden channels of its perceptrons.
        num_heads: Attention heads; they divide ``hidden_size``.
        proj_type: How patches become tokens: the two compute the same from weights of different
            shapes.

    Returns:
        Maps [N, channels, D, H, W] to [N, classes, D, H, W].

    Raises:
        ValueError: The image size is no multiple of 16.
    """
    from monai.networks.nets.unetr import UNETR

    if any(length % 16 for length in img_size):
        raise ValueError(f"img_size {img_size} is no multiple of 16")
    network = UNETR(
        channels,
        classes,
        img_size,
        feature_size=feature_size,
        hidden_size=hidden_size,
        mlp_dim=mlp_dim,
        num_heads=num_heads,
        proj_type=proj_type,
    )
    for block in network.vit.blocks:
        # The same product as its Einsum, which is exported as MatMul and can be quantized.
        block.attn.use_flash_attention = True
    return network  # type: ignore[no-any-return]


def _with_affine(norm: str) -> tuple[str, dict[str, bool]]:
    """Return a normalization as MONAI takes it: name, and whether scale and shift are learned."""
    return norm.removesuffix("-plain"), {"affine": not norm.endswith("-plain")}
