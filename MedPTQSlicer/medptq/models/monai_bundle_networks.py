"""Which of our networks a bundle's ``network_def`` means, and with what options."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from medptq.models.monai_bundle_config import Component


@dataclass(frozen=True)
class NetworkDef:
    """A network that can be built by name.

    Attributes:
        architecture: Its name in :mod:`medptq.models.architectures.registry`.
        options: All that decides its shape, as :func:`build_network` takes it.
    """

    architecture: str
    options: Mapping[str, Any]


def network_of(component: Component) -> NetworkDef:
    """Translate a bundle's ``network_def``.

    What is left out has MONAI's default, not ours. What only matters in training is not looked at.

    Raises:
        ModelError: ``model.bundle`` - the network is not known, or has arguments that cannot be
            given to ours.
    """
    translate = _NETWORKS.get(component.target)
    if translate is None:
        raise component.refused(
            f"this network is not among those that can be built here, which are "
            f"{', '.join(_NETWORKS)}"
        )
    found = translate(component)
    component.done()
    return found


def channels_and_classes(component: Component) -> tuple[int, int]:
    """Return the channels of a network's input and output, whichever network it is."""
    return _whole(component, "in_channels", 1), _whole(component, "out_channels", 2)


def _common(component: Component) -> dict[str, Any]:
    component.only("spatial_dims", 3)
    channels, classes = channels_and_classes(component)
    return {"channels": channels, "classes": classes}


def _unet(component: Component) -> NetworkDef:
    options = _common(component)
    for name in ("kernel_size", "up_kernel_size"):
        component.only(name, 3, [3, 3, 3])
    _require_activation(component, "act", "prelu", {})
    component.only("bias", True)
    component.only("adn_ordering", "NDA")
    component.ignore("dropout", "dimensions")
    return NetworkDef(
        "monai-unet",
        {
            **options,
            "level_channels": component.take("channels"),
            "strides": component.take("strides"),
            "num_res_units": component.take("num_res_units", 0),
            "norm": _norm(component, "norm", "instance", affine="instance-affine"),
        },
    )


def _basic_unet(component: Component) -> NetworkDef:
    options = _common(component)
    _require_activation(component, "act", "leakyrelu", {"negative_slope": 0.1})
    component.only("bias", True)
    component.only("upsample", "deconv")
    component.ignore("dropout")
    default = ("instance", {"affine": True})
    return NetworkDef(
        "monai-basicunet",
        {
            **options,
            "features": component.take("features", [32, 32, 64, 128, 256, 32]),
            "norm": _norm(component, "norm", default, plain="instance-plain"),
        },
    )


def _dynunet(component: Component) -> NetworkDef:
    options = _common(component)
    _require_activation(component, "act_name", "leakyrelu", {"negative_slope": 0.01})
    component.only("trans_bias", False)
    component.ignore("dropout")
    kernels, strides = (_triples(component, name) for name in ("kernel_size", "strides"))
    if _triples(component, "upsample_kernel_size") != strides[1:]:
        raise component.refused('"upsample_kernel_size" is not "strides" without the first')
    filters = component.take("filters", None)
    if filters is None:
        filters = [min(1 << (5 + level), 320) for level in range(len(strides))]
    supervised = component.flag("deep_supervision", False)
    heads = component.take("deep_supr_num", 1)
    return NetworkDef(
        "monai-dynunet",
        {
            **options,
            "kernel_size": kernels,
            "strides": strides,
            "filters": filters[: len(strides)] if isinstance(filters, list) else filters,
            "norm": _norm(
                component, "norm_name", ("instance", {"affine": True}), plain="instance-plain"
            ),
            "res_block": component.flag("res_block", False),
            "deep_supr_num": heads if supervised else 0,
        },
    )


def _segresnet(component: Component) -> NetworkDef:
    options = _common(component)
    _require_activation(component, "act", "relu", {})
    norm, norm_options = component.name_and_options("norm", ("group", {"num_groups": 8}))
    if norm != "group" or norm_options != {"num_groups": 8}:
        raise component.refused('"norm" is not a group normalization with 8 groups')
    component.only("norm_name", "", "group", "GROUP")
    component.only("num_groups", 8)
    component.only("use_conv_final", True)
    component.only("upsample_mode", "nontrainable", "NONTRAINABLE")
    component.ignore("dropout_prob")
    return NetworkDef(
        "segresnet",
        {
            **options,
            "init_filters": component.take("init_filters", 8),
            "blocks_down": component.take("blocks_down", [1, 2, 2, 4]),
            "blocks_up": component.take("blocks_up", [1, 1, 1]),
        },
    )


def _segresnet_ds(component: Component) -> NetworkDef:
    options = _common(component)
    _require_activation(component, "act", "relu", {})
    norm, norm_options = component.name_and_options("norm", "batch")
    if norm not in ("batch", "instance") or norm_options not in ({}, {"affine": True}):
        raise component.refused('"norm" is neither "batch" nor "instance"')
    for name in ("blocks_up", "preprocess", "resolution"):
        component.only(name, None)
    component.only("upsample_mode", "deconv")
    return NetworkDef(
        "monai-segresnetds",
        {
            **options,
            "init_filters": component.take("init_filters", 32),
            "blocks_down": component.take("blocks_down", [1, 2, 2, 4]),
            "norm": norm,
            "dsdepth": max(_whole(component, "dsdepth", 1), 1),
        },
    )


def _vnet(component: Component) -> NetworkDef:
    component.only("spatial_dims", 3)
    _require_activation(component, "act", "elu", {})
    component.only("bias", False)
    component.ignore("dropout_prob", "dropout_prob_down", "dropout_prob_up", "dropout_dim")
    classes = _whole(component, "out_channels", 1)
    return NetworkDef(
        "monai-vnet", {"channels": _whole(component, "in_channels", 1), "classes": classes}
    )


def _unetr(component: Component) -> NetworkDef:
    options = _common(component)
    norm, norm_options = component.name_and_options("norm_name", "instance")
    if norm != "instance" or norm_options:
        raise component.refused('"norm_name" is not "instance"')
    for name in ("conv_block", "res_block"):
        component.only(name, True)
    for name in ("qkv_bias", "save_attn"):
        component.only(name, False)
    component.ignore("dropout_rate")
    size = component.take("img_size")
    # MONAI before 1.2 called it pos_embed.
    projected = component.take("pos_embed", "conv") if "proj_type" not in component else "conv"
    return NetworkDef(
        "unetr",
        {
            **options,
            "img_size": [size] * 3 if isinstance(size, int) else size,
            "feature_size": component.take("feature_size", 16),
            "hidden_size": component.take("hidden_size", 768),
            "mlp_dim": component.take("mlp_dim", 3072),
            "num_heads": component.take("num_heads", 12),
            "proj_type": component.take("proj_type", projected),
        },
    )


def _swin_unetr(component: Component) -> NetworkDef:
    options = _common(component)
    component.only("patch_size", 2)
    component.only("qkv_bias", True)
    component.only("mlp_ratio", 4.0, 4)
    norm, norm_options = component.name_and_options("norm_name", "instance")
    if norm != "instance" or norm_options:
        raise component.refused('"norm_name" is not "instance"')
    component.only("normalize", True)
    component.only("patch_norm", False)
    component.only("downsample", "merging")
    component.only("use_hyena", False)
    # It takes any size, whatever an older MONAI was told of it.
    component.ignore("img_size", "use_checkpoint", "use_flash_attention")
    component.ignore("drop_rate", "attn_drop_rate", "dropout_path_rate")
    return NetworkDef(
        "swinunetr-b",
        {
            **options,
            "feature_size": component.take("feature_size", 24),
            "depths": component.take("depths", [2, 2, 2, 2]),
            "num_heads": component.take("num_heads", [3, 6, 12, 24]),
            "window_size": component.take("window_size", 7),
            "use_v2": component.flag("use_v2", False),
        },
    )


_NETWORKS: Mapping[str, Callable[[Component], NetworkDef]] = {
    **dict.fromkeys(("UNet", "Unet", "UNET"), _unet),
    **dict.fromkeys(("BasicUNet", "BasicUnet", "BasicUNET"), _basic_unet),
    **dict.fromkeys(("DynUNet", "DynUnet", "DynUNET"), _dynunet),
    "SegResNet": _segresnet,
    "SegResNetDS": _segresnet_ds,
    "SwinUNETR": _swin_unetr,
    "UNETR": _unetr,
    "VNet": _vnet,
}


def _norm(
    component: Component,
    name: str,
    default: Any,
    *,
    affine: str = "instance",
    plain: str = "instance",
) -> str:
    """Return what our builder calls a normalization: "batch", or one of two of instances."""
    norm, options = component.name_and_options(name, default)
    is_affine = options.get("affine", norm == "batch")
    if norm == "batch" and is_affine is True and options.keys() <= {"affine"}:
        return "batch"
    if norm == "instance" and isinstance(is_affine, bool) and options.keys() <= {"affine"}:
        return affine if is_affine else plain
    raise component.refused(f'"{name}" is neither a batch nor an instance normalization')


def _require_activation(
    component: Component, name: str, wanted: str, wanted_options: Mapping[str, Any]
) -> None:
    chosen, options = component.name_and_options(name, (wanted, dict(wanted_options)))
    options.pop("inplace", None)
    defaults = {"negative_slope": 0.01} if chosen == "leakyrelu" else {}
    if chosen != wanted or {**defaults, **options} != {**defaults, **wanted_options}:
        raise component.refused(f'"{name}" is another activation than MONAI\'s default')


def _triples(component: Component, name: str) -> list[list[int]]:
    value = component.take(name)
    if not isinstance(value, list):
        raise component.refused(f'"{name}" is no list')
    return [entry if isinstance(entry, list) else [entry] * 3 for entry in value]


def _whole(component: Component, name: str, default: int) -> int:
    value = component.number(name, default)
    if not isinstance(value, int) or not 1 <= value <= 1 << 16:
        raise component.refused(f'"{name}" is {value} and not a number of channels')
    return value
