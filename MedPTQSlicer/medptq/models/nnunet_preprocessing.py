"""The steps from a scan to the network's input that nnU-Net's plans stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from medptq.models.nnunet_fields import (
    listed,
    mapping,
    nnunet_refused,
    number,
    numbers,
    shortened,
    text,
    wrong,
)
from medptq.models.segmentation_model import Step

# How nnU-Net reads images, and whether it turns them to RAS as it does.
_READERS = {
    "SimpleITKIO": False,
    "NibabelIO": False,
    "SimpleITKIOWithReorient": True,
    "NibabelIOWithReorient": True,
}
_RESAMPLING = "resample_data_or_seg_to_shape"
_ANISOTROPIC = 3
_TODO = "Prepare the scans with nnU-Net itself, or write a card for the network"


def preprocessing_of(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int
) -> list[Step]:
    """Return the steps of a card that do what nnU-Net's ``DefaultPreprocessor`` does.

    Args:
        plans: The content of ``plans.json``.
        configuration: The configuration in it, with what it inherits.
        channels: Image channels.

    Raises:
        ModelError: ``model.nnunet`` - some of it cannot be done here, or not as nnU-Net does it.
    """
    preprocessor = configuration.get("preprocessor_name", "DefaultPreprocessor")
    if preprocessor != "DefaultPreprocessor":
        raise nnunet_refused(
            f"its scans are prepared by {shortened(preprocessor)}, which is not nnU-Net's own",
            _TODO,
        )
    order = listed(plans, "transpose_forward")
    if order not in ([0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]):
        raise wrong("transpose_forward", order, "0, 1 and 2 in some order")
    return [
        *_orientation(plans),
        *([] if order == [0, 1, 2] else [{"step": "transpose", "order": order}]),
        {"step": "crop_nonzero"},
        *_normalization(plans, configuration, channels),
        {
            "step": "spacing_nnunet",
            "mm": numbers(configuration, "spacing", 3),
            "separate": _separate(configuration),
        },
        {"step": "pad_with", "value": 0},
    ]


def _orientation(plans: Mapping[str, Any]) -> list[Step]:
    reader = text(plans, "image_reader_writer")
    if reader not in _READERS:
        raise nnunet_refused(
            f"it was trained on images as {shortened(reader)} reads them, and only"
            f" {', '.join(_READERS)} are known",
            _TODO,
        )
    return [{"step": "orient", "to": "RAS"}] if _READERS[reader] else []


def _normalization(
    plans: Mapping[str, Any], configuration: Mapping[str, Any], channels: int
) -> list[Step]:
    schemes = listed(configuration, "normalization_schemes")
    masked = listed(configuration, "use_mask_for_norm")
    for field, found in (("normalization_schemes", schemes), ("use_mask_for_norm", masked)):
        if len(found) != channels:
            raise wrong(field, found, f"a list with an entry for each of {channels} channels")
    # What counts as background is told by all channels, before any of them is changed.
    within = [
        n for n in range(channels) if schemes[n] == "ZScoreNormalization" and masked[n] is True
    ]
    steps = [_on({"step": "zscore", "nonzero": True, "filled": True}, within, channels)]
    steps = steps if within else []
    for channel in range(channels):
        if channel not in within:
            steps += [
                _on(step, [channel], channels) for step in _scheme(plans, schemes[channel], channel)
            ]
    return steps


def _on(step: dict[str, Any], chosen: list[int], channels: int) -> Step:
    return step if len(chosen) == channels else {**step, "channels": chosen}


def _scheme(plans: Mapping[str, Any], scheme: object, channel: int) -> list[dict[str, Any]]:
    if scheme == "ZScoreNormalization":
        return [{"step": "zscore"}]
    if scheme == "NoNormalization":
        return []
    if scheme == "RescaleTo01Normalization":
        return [{"step": "minmax", "to": [0, 1]}]
    if scheme == "RGBTo01Normalization":
        return [{"step": "scale_range", "from": [0, 255], "to": [0, 1]}]
    if scheme != "CTNormalization":
        raise nnunet_refused(
            f"its intensities are normalized by {shortened(scheme)}, which is not known", _TODO
        )
    field = "foreground_intensity_properties_per_channel"
    if field not in plans:  # as it was called at first
        field = "foreground_intensity_properties_by_modality"
    known = mapping(mapping(plans, field), str(channel))
    mean, deviation = number(known, "mean"), number(known, "std")
    limits = number(known, "percentile_00_5"), number(known, "percentile_99_5")
    return [
        {"step": "clip", "low": limits[0], "high": limits[1]},
        {"step": "scale_range", "from": [mean, mean + max(deviation, 1e-8)], "to": [0, 1]},
    ]


def _separate(configuration: Mapping[str, Any]) -> bool:
    """Tell whether nnU-Net takes the nearest plane along an axis with long voxels."""
    found = []
    for what, order in (("data", 3), ("probabilities", 1)):
        function = configuration.get(f"resampling_fn_{what}")
        if function != _RESAMPLING:
            raise nnunet_refused(
                f'"resampling_fn_{what}" is {shortened(function)}, and only {_RESAMPLING} is known',
                _TODO,
            )
        options = dict(mapping(configuration, f"resampling_fn_{what}_kwargs"))
        found.append(options.pop("force_separate_z", False))
        wanted = {
            "is_seg": False,
            "order": order,
            "order_z": 0,
            "separate_z_anisotropy_threshold": _ANISOTROPIC,
        }
        for option, value in options.items():
            if option not in wanted or value != wanted[option]:
                raise nnunet_refused(
                    f'"{option}" of "resampling_fn_{what}" is {shortened(value)}, which is not'
                    " known",
                    _TODO,
                )
        if options.get("order", 3) != order:  # nnU-Net takes 3 where the plans say nothing
            raise nnunet_refused(f'"resampling_fn_{what}_kwargs" has no "order"', _TODO)
    if found not in ([None, None], [False, False]):
        raise nnunet_refused(
            f'"force_separate_z" is {found[0]} for the scans and {found[1]} for the outputs, and'
            " only null for both or false for both is known",
            _TODO,
        )
    return found[0] is None
