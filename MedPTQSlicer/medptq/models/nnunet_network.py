"""Which network a configuration of nnU-Net's plans describes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from medptq.models.nnunet_fields import is_whole, mapping, nnunet_refused, shortened, text, wrong

_NETWORKS = {
    "PlainConvUNet": ("nnunet", "n_conv_per_stage"),
    "ResidualEncoderUNet": ("nnunet-resenc", "n_blocks_per_stage"),
}
"""The architecture, and what nnU-Net calls the layers of its encoder, by the class's name."""

_TODO = "Export the network to ONNX, and write a card for it"

# What else the plans say of a network, and what it has to be for the networks that are built here.
_FIXED: Mapping[str, tuple[Any, ...]] = {
    "conv_op": ("torch.nn.modules.conv.Conv3d", "torch.nn.Conv3d"),
    "norm_op": ("torch.nn.modules.instancenorm.InstanceNorm3d", "torch.nn.InstanceNorm3d"),
    "norm_op_kwargs": ({"eps": 1e-5, "affine": True}, {"affine": True}),
    "dropout_op": (None,),
    "nonlin": ("torch.nn.LeakyReLU", "torch.nn.modules.activation.LeakyReLU"),
    "nonlin_kwargs": (
        None,
        {},
        {"inplace": True},
        {"inplace": True, "negative_slope": 0.01},
        {"negative_slope": 0.01},
    ),
    "nonlin_first": (None, False),
    "block": (None,),
    "bottleneck_channels": (None,),
    "stem_channels": (None,),
    "stochastic_depth_p": (None, 0),
    "squeeze_excitation": (None, False),
}
# What makes no difference to the output.
_WITHOUT_EFFECT = {"dropout_op_kwargs", "deep_supervision"}
_LARGEST = 4096
_READ = {"n_stages", "features_per_stage", "kernel_sizes", "strides", "conv_bias"}


@dataclass(frozen=True)
class NnUnetNetwork:
    """A network that :mod:`medptq.models.architectures` can build.

    Attributes:
        name: The architecture's name.
        options: Its options, but for the channels and the classes.
    """

    name: str
    options: Mapping[str, Any]


def network_of(configuration: Mapping[str, Any]) -> NnUnetNetwork:
    """Return the network of a configuration.

    Args:
        configuration: As in ``plans.json``, with what it inherits; of nnU-Net before 2.2 or since.

    Raises:
        ModelError: ``model.nnunet`` - it is none of the networks that are built here.
    """
    if "architecture" in configuration:
        architecture = mapping(configuration, "architecture")
        return _network(
            text(architecture, "network_class_name"), mapping(architecture, "arch_kwargs")
        )
    return _network(text(configuration, "UNet_class_name"), _options_before_2_2(configuration))


def _options_before_2_2(configuration: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the arguments that nnU-Net since 2.2 would have written, as it makes them itself."""
    layers = _whole_numbers(configuration, "n_conv_per_stage_encoder")
    base = _whole_number(configuration, "UNet_base_num_features")
    most = _whole_number(configuration, "unet_max_num_features")
    return {
        "features_per_stage": [min(base * 2**stage, most) for stage in range(len(layers))],
        "kernel_sizes": configuration.get("conv_kernel_sizes"),
        "strides": configuration.get("pool_op_kernel_sizes"),
        "n_conv_per_stage": layers,
        "n_blocks_per_stage": layers,
        "n_conv_per_stage_decoder": configuration.get("n_conv_per_stage_decoder"),
        "conv_bias": True,
        **{field: values[0] for field, values in _FIXED.items() if values[0] is not None},
    }


def _network(class_name: str, options: Mapping[str, Any]) -> NnUnetNetwork:
    name = class_name.rsplit(".", 1)[-1]
    if name not in _NETWORKS:
        raise nnunet_refused(
            f"its network is {shortened(class_name)}, and only {' and '.join(_NETWORKS)} are built"
            " here",
            _TODO,
        )
    architecture, layers = _NETWORKS[name]
    known = {*_FIXED, *_WITHOUT_EFFECT, *_READ, "n_conv_per_stage_decoder"}
    known |= {field for _, field in _NETWORKS.values()}
    for field in options:
        if field not in known:
            raise nnunet_refused(f'its network has the unknown option "{field}"', _TODO)
    for field, accepted in _FIXED.items():
        if options.get(field) not in accepted:
            raise nnunet_refused(
                f'"{field}" of its network is {shortened(options.get(field))}, which is not built'
                " here",
                _TODO,
            )
    features = _whole_numbers(options, "features_per_stage")
    stages = len(features)
    return NnUnetNetwork(
        architecture,
        {
            "features_per_stage": features,
            "kernel_sizes": _triples(options, "kernel_sizes"),
            "strides": _triples(options, "strides"),
            layers: _for_each(options, layers, stages),
            "n_conv_per_stage_decoder": _for_each(options, "n_conv_per_stage_decoder", stages - 1),
            # What its classes assume, though plans always say.
            "conv_bias": options.get("conv_bias", False) is True,
        },
    )


def _is_size(value: object) -> bool:
    """Tell whether this can be a number of channels or layers, or the size of a kernel."""
    return isinstance(value, int) and is_whole(value) and 1 <= value <= _LARGEST


def _whole_number(parent: Mapping[str, Any], field: str) -> int:
    value = parent.get(field)
    if not _is_size(value):
        raise wrong(field, value, f"a whole number from 1 to {_LARGEST}")
    return int(value)  # type: ignore[arg-type]


def _whole_numbers(parent: Mapping[str, Any], field: str) -> list[int]:
    value = parent.get(field)
    if not isinstance(value, list) or not all(map(_is_size, value)) or not 2 <= len(value) <= 16:
        raise wrong(field, value, "a list of whole numbers, one a stage")
    return value


def _for_each(parent: Mapping[str, Any], field: str, count: int) -> list[int]:
    """Return one whole number for each stage, or the one that is given for all of them."""
    value = parent.get(field)
    if _is_size(value):
        return [value] * count  # type: ignore[list-item]
    if isinstance(value, list) and len(value) == count and all(map(_is_size, value)):
        return value
    raise wrong(field, value, f"a list of {count} whole numbers")


def _triples(parent: Mapping[str, Any], field: str) -> list[list[int]]:
    value = parent.get(field)
    if isinstance(value, list):
        triples = [[item] * 3 if is_whole(item) else item for item in value]
        if all(isinstance(t, list) and len(t) == 3 and all(map(_is_size, t)) for t in triples):
            return triples
    raise wrong(field, value, "a list of three whole numbers for each stage")
