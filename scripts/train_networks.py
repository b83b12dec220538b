"""The networks that train.py trains, at sizes that fit small volumes, and their cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from train_data import AXIS_ORDER, DATASETS, Dataset

from medptq.models.architectures.registry import architecture

Patch = tuple[int, int, int]

_HIPPOCAMPUS: Patch = (48, 64, 48)  # every scan of the data set fits in
_CUBE: Patch = (64, 64, 64)  # the same, for networks that take multiples of 32
_HEAD: Patch = (96, 96, 96)


@dataclass(frozen=True)
class Job:
    """A network to train.

    Attributes:
        dataset: What on.
        title: What tells it from the others of its data set, such as ``"unet"``.
        architecture: Its name in medptq's registry.
        patch: Voxels (D, H, W) that it takes at once.
        options: What differs from the published network.
        batch: Patches a step.
        learning_rate: The highest of AdamW's.
        share: How much longer than the others it is trained.
    """

    dataset: Dataset
    title: str
    architecture: str
    patch: Patch
    options: Mapping[str, Any] = field(default_factory=dict)
    batch: int = 8
    learning_rate: float = 1e-3
    share: float = 1.0

    @property
    def name(self) -> str:
        """Of its folder, and the id on its card."""
        return f"{self.dataset.name}-{self.title}"


def card_of(job: Job) -> dict[str, Any]:
    """Return the card of the network that a job trains."""
    return {
        "schema": 1,
        "id": job.name,
        "title": f"{job.dataset.card['task']} ({architecture(job.architecture).title})",
        **job.dataset.card,
        "input": {
            "channels": 1,
            "patch_size": list(job.patch),
            "axis_order": AXIS_ORDER,
            "overlap": job.dataset.overlap,
        },
        "network": {"architecture": job.architecture, "options": dict(job.options)},
    }


def nnunet_options(*features: int) -> dict[str, Any]:
    """Return the options of an nnU-Net that halves the resolution with each stage."""
    stages = len(features)
    return {
        "features_per_stage": list(features),
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1], *[[2, 2, 2]] * (stages - 1)],
        "n_conv_per_stage": [2] * stages,
        "n_conv_per_stage_decoder": [2] * (stages - 1),
    }


# For voxels that are as long in all directions, and half as wide as the published one.
_MEDFORMER = {
    "strides": [[2, 2, 2]] * 4,
    "kernel_sizes": [[3, 3, 3]] * 5,
    "base_channels": 16,
    "stage_channels": [32, 64, 128, 160, 128, 64, 32, 16],
    "num_heads": [1, 2, 4, 5, 4, 2, 1, 1],
    "fusion_dim": 160,
    "fusion_heads": 5,
}
_UNETR = {"hidden_size": 192, "mlp_dim": 768, "num_heads": 6}
_TRANSUNET = {"embed_dim": 256, "mlp_dim": 1024, "num_heads": 8, "num_layers": 8}
_SLOW = 5e-4  # the learning rate of what has attention


def _jobs() -> list[Job]:
    head, hippocampus = DATASETS["ixi2mm_dlmuse"], DATASETS["hippocampus"]
    box, cube = _HIPPOCAMPUS, _CUBE
    return [
        # The longest first, so that no GPU is left with one at the end. The small ones are below
        # 8 MB, as demonstrations.
        Job(head, "swinunetr-t", "swinunetr-t", _HEAD, {}, 2, 8e-4, share=6),
        Job(head, "nnunet", "nnunet", _HEAD, nnunet_options(32, 64, 128, 160, 160), 2, share=3.3),
        Job(head, "unet", "unet", _HEAD, {}, 2, share=3.3),
        Job(head, "segresnet", "segresnet", _HEAD, {"init_filters": 16}, 2, share=3.3),
        Job(
            head, "nnunet-small", "nnunet", _HEAD, nnunet_options(16, 32, 64, 80, 80), 2, share=3.3
        ),
        Job(hippocampus, "medformer", "medformer", box, _MEDFORMER, 4, _SLOW, share=1.6),
        Job(hippocampus, "swinunetr-t", "swinunetr-t", cube, {}, 4, _SLOW, share=1.6),
        Job(hippocampus, "swinunetr-s", "swinunetr-s", cube, {}, 4, _SLOW, share=1.6),
        Job(hippocampus, "unetr", "unetr", box, _UNETR, 8, _SLOW, share=1.4),
        Job(hippocampus, "transunet", "transunet", box, _TRANSUNET, 8, _SLOW, share=1.4),
        Job(hippocampus, "stunet-b", "stunet-b", cube, {}, 4),
        Job(hippocampus, "nnunet-small", "nnunet", box, nnunet_options(16, 32, 64, 128)),
        Job(hippocampus, "nnunet", "nnunet", box, nnunet_options(32, 64, 128, 256)),
        Job(hippocampus, "unet", "unet", box),
        Job(hippocampus, "segresnet", "segresnet", box, {"init_filters": 16}),
        Job(
            *(hippocampus, "vista3d", "vista3d", box),
            {"class_indices": [1, 2], "encoder_embed_dim": 16},
        ),
    ]


JOBS = {job.name: job for job in _jobs()}
"""All networks by name, in the order in which they are trained."""
