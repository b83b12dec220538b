"""Model folders as nnU-Net v2 writes them, with a small network."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from medptq.models.architectures.building import build_network

CONFIGURATION = "3d_fullres"
TRAINER = "nnUNetTrainer_4000epochs_NoMirroring"
FOLDER = f"{TRAINER}__nnUNetPlans__{CONFIGURATION}"
PATCH = [8, 16, 8]

_KERNELS = [[1, 3, 3], [3, 3, 3]]
_STRIDES = [[1, 1, 1], [1, 2, 2]]


def _resampling(order: int) -> dict[str, Any]:
    return {"is_seg": False, "order": order, "order_z": 0, "force_separate_z": None}


def _common(spacing: list[float], channels: int) -> dict[str, Any]:
    return {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": PATCH,
        "median_image_size_in_voxels": [20.0, 20.0, 20.0],
        "spacing": spacing,
        "normalization_schemes": ["ZScoreNormalization"] * channels,
        "use_mask_for_norm": [False] * channels,
        "resampling_fn_data": "resample_data_or_seg_to_shape",
        "resampling_fn_data_kwargs": _resampling(3),
        "resampling_fn_seg": "resample_data_or_seg_to_shape",
        "resampling_fn_seg_kwargs": {**_resampling(1), "is_seg": True},
        "resampling_fn_probabilities": "resample_data_or_seg_to_shape",
        "resampling_fn_probabilities_kwargs": _resampling(1),
        "batch_dice": False,
    }


def plain_network() -> dict[str, Any]:
    """Return a network's part of a configuration, as nnU-Net has written it since 2.2."""
    return {
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": {
                "n_stages": 2,
                "features_per_stage": [4, 8],
                "conv_op": "torch.nn.modules.conv.Conv3d",
                "kernel_sizes": _KERNELS,
                "strides": _STRIDES,
                "n_conv_per_stage": [2, 2],
                "n_conv_per_stage_decoder": [2],
                "conv_bias": True,
                "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
                "norm_op_kwargs": {"eps": 1e-05, "affine": True},
                "dropout_op": None,
                "dropout_op_kwargs": None,
                "nonlin": "torch.nn.LeakyReLU",
                "nonlin_kwargs": {"inplace": True},
            },
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        }
    }


def residual_network() -> dict[str, Any]:
    """Return the same of a residual encoder."""
    network = plain_network()
    architecture = network["architecture"]
    architecture["network_class_name"] = (
        "dynamic_network_architectures.architectures.unet.ResidualEncoderUNet"
    )
    architecture["arch_kwargs"]["n_blocks_per_stage"] = architecture["arch_kwargs"].pop(
        "n_conv_per_stage"
    )
    return network


def network_before_2_2() -> dict[str, Any]:
    """Return the plain network as nnU-Net wrote it before, and TotalSegmentator's plans have it."""
    return {
        "UNet_class_name": "PlainConvUNet",
        "UNet_base_num_features": 4,
        "n_conv_per_stage_encoder": [2, 2],
        "n_conv_per_stage_decoder": [2],
        "num_pool_per_axis": [0, 1, 1],
        "pool_op_kernel_sizes": _STRIDES,
        "conv_kernel_sizes": _KERNELS,
        "unet_max_num_features": 320,
    }


def write_model_folder(
    parent: Path,
    *,
    spacing: list[float] | None = None,
    channels: Mapping[str, str] | None = None,
    network: Mapping[str, Any] | None = None,
    configuration: Mapping[str, Any] | None = None,
    plans: Mapping[str, Any] | None = None,
    dataset: Mapping[str, Any] | None = None,
    folder: str = FOLDER,
    folds: tuple[str, ...] = ("fold_0",),
    checkpoint: str = "checkpoint_final.pth",
    trainer: str = TRAINER,
) -> Path:
    """Write a model folder with a network of random weights; the rest replaces what plans say."""
    path = parent / folder
    path.mkdir(parents=True)
    names = dict(channels or {"0": "CT"})
    settings = {
        **_common(spacing or [1.5, 1.5, 1.5], len(names)),
        **(network or plain_network()),
        **(configuration or {}),
    }
    content = {
        "dataset_name": "Dataset291_Small_organs",
        "plans_name": "nnUNetPlans",
        "image_reader_writer": "SimpleITKIO",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "configurations": {CONFIGURATION: settings},
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {
            key: {
                "max": 900.0,
                "mean": 40.0,
                "median": 30.0,
                "min": -900.0,
                "percentile_00_5": -60.0,
                "percentile_99_5": 130.0,
                "std": 55.0,
            }
            for key in names
        },
        **(plans or {}),
    }
    described = {
        "channel_names": names,
        "labels": {"background": 0, "spleen": 1, "kidney_right": 2},
        "numTraining": 3,
        "file_ending": ".nii.gz",
        **(dataset or {}),
    }
    (path / "plans.json").write_text(json.dumps(content), encoding="utf-8")
    (path / "dataset.json").write_text(json.dumps(described), encoding="utf-8")
    for number, fold in enumerate(folds):
        (path / fold).mkdir()
        save_checkpoint(path / fold / checkpoint, len(names), settings, number, trainer)
    return path


def save_checkpoint(
    file: Path, channels: int, settings: Mapping[str, Any], seed: int, trainer: str
) -> None:
    """Write what nnU-Net's trainer does."""
    torch.manual_seed(seed)
    residual = "ResidualEncoderUNet" in json.dumps(settings)
    layers = "n_blocks_per_stage" if residual else "n_conv_per_stage"
    network = build_network(
        "nnunet-resenc" if residual else "nnunet",
        channels=channels,
        classes=3,
        features_per_stage=[4, 8],
        kernel_sizes=_KERNELS,
        strides=_STRIDES,
        n_conv_per_stage_decoder=[2],
        **{layers: [2, 2]},
    )
    with torch.no_grad():
        for parameter in network.parameters():  # enough for all classes to be found somewhere
            parameter.add_(0.3 * torch.randn_like(parameter))
    torch.save(
        {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), lr=0.01).state_dict(),
            "grad_scaler_state": None,
            "logging": {"ema_fg_dice": [np.float64(0.5)], "mean_fg_dice": [np.float32(0.5)]},
            "_best_ema": np.float64(0.5),
            "current_epoch": 5,
            "init_args": {
                "plans": copy.deepcopy(dict(settings)),
                "configuration": CONFIGURATION,
                "fold": 0,
                "dataset_json": {},
                "unpack_dataset": True,
                "device": torch.device("cpu"),
            },
            "trainer_name": trainer,
            "inference_allowed_mirroring_axes": None,
        },
        file,
    )
