"""Which networks can be built by name. Reading it imports neither PyTorch nor MONAI."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from medptq.errors import ModelError

_MONAI = "https://github.com/Project-MONAI/MONAI"
_DYNAMIC = "https://github.com/MIC-DKFZ/dynamic-network-architectures"
_STUNET = "https://github.com/uni-medical/STU-Net"
_MEDPTQ = "https://github.com/hrlblab/PTQ"
_APACHE = "Apache-2.0"

_HUANG = "Huang et al., STU-Net: Scalable and Transferable Medical Image Segmentation Models, 2023"
_SWIN = "Hatamizadeh et al., Swin UNETR, BrainLes 2021, arXiv:2201.01266"
_QU = "Qu et al., MedPTQ, Journal of Medical Imaging 13(1), 014006, 2026, arXiv:2501.17343"
_MEDQUANBENCH = "MedQuanBench (OpenReview eqG8h5Ztq0)"


@dataclass(frozen=True)
class Published:
    """A published number of parameters.

    Attributes:
        millions: The number.
        where: Who says so.
    """

    millions: float
    where: str


@dataclass(frozen=True)
class Architecture:
    """A network that can be built by name.

    Attributes:
        name: What it is asked for by.
        title: Name for a person to read.
        builder: Where it is built: a module of this package and a function in it, whose
            arguments are the options.
        citation: Where it is described.
        source: The original code.
        licence: Of the original code, as an SPDX identifier. Weights have licences of their own.
        multiple: Of what each of a patch's D, H and W must be a multiple.
        smallest: The smallest patch (D, H, W) that it takes.
        published: Its parameters with the defaults, where a number was published.
        preset: Options that make this size of a family.
        size_option: The option that fixes the patch size, for networks that take only one.
    """

    name: str
    title: str
    builder: str
    citation: str
    source: str
    licence: str
    multiple: tuple[int, int, int]
    smallest: tuple[int, int, int]
    published: Published | None = None
    preset: Mapping[str, Any] = field(default_factory=dict)
    size_option: str = ""


_ENTRIES = (
    Architecture(
        "unet",
        "U-Net of MedPTQ",
        "unet:unet",
        _QU,
        _MEDPTQ,
        "GPL-2.0-only",
        (16, 16, 16),
        (16, 16, 16),
        Published(5.65, "counted in the authors' code"),
    ),
    Architecture(
        "nnunet",
        "nnU-Net, plain",
        "nnunet:plain_conv_unet",
        "Isensee et al., nnU-Net, Nature Methods 18, 2021",
        _DYNAMIC,
        _APACHE,
        (32, 32, 32),
        (64, 32, 32),
        Published(31.2, "Lee et al., 3D UX-Net, table 1"),
    ),
    Architecture(
        "nnunet-resenc",
        "nnU-Net, residual encoder (L)",
        "nnunet:residual_encoder_unet",
        "Isensee et al., nnU-Net Revisited, MICCAI 2024, arXiv:2404.09556",
        _DYNAMIC,
        _APACHE,
        (32, 32, 32),
        (64, 32, 32),
        Published(102.0, "Touchstone Benchmark"),
    ),
    Architecture(
        "segresnet",
        "SegResNet",
        "monai_networks:segresnet",
        "Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes "
        "2018, arXiv:1810.11654",
        _MONAI,
        _APACHE,
        (8, 8, 8),
        (16, 16, 16),
    ),
    Architecture(
        "vista3d",
        "VISTA3D, automatic branch",
        "vista3d:vista3d",
        "He et al., VISTA3D, CVPR 2025, arXiv:2406.05285",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (32, 16, 16),
    ),
    Architecture(
        "transunet",
        "TransUNet 3D of MedPTQ",
        "transunet:transunet",
        f"Chen et al., TransUNet, 2021, arXiv:2102.04306; in 3D: {_QU}",
        _MEDPTQ,
        "GPL-2.0-only",
        (16, 16, 16),
        (32, 32, 32),
        Published(91.6, "counted in the authors' code"),
        size_option="image_size",
    ),
    *(
        Architecture(
            f"swinunetr-{size[0].lower()}",
            f"Swin UNETR, {size}",
            "swin_unetr:swin_unetr",
            _SWIN,
            _MONAI,
            _APACHE,
            (32, 32, 32),
            (64, 32, 32),
            Published(millions, _MEDQUANBENCH),
            {"feature_size": features},
        )
        for size, features, millions in (("tiny", 12, 4.1), ("small", 24, 15.7), ("base", 48, 62.2))
    ),
    Architecture(
        "unest",
        "UNesT",
        "unest:unest",
        "Yu et al., UNesT, Medical Image Analysis 90, 2023, arXiv:2209.14378",
        "https://github.com/MASILab/UNesT",
        "MIT",
        (32, 32, 32),
        (64, 64, 64),
        Published(87.3, "the authors' README"),
        size_option="image_size",
    ),
    Architecture(
        "unetr",
        "UNETR",
        "monai_networks:unetr",
        "Hatamizadeh et al., UNETR, WACV 2022, arXiv:2103.10504",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (16, 16, 16),
        Published(92.4, _MEDQUANBENCH),
        size_option="img_size",
    ),
    *(
        Architecture(
            f"stunet-{size[0].lower()}",
            f"STU-Net, {size}",
            "stunet:stunet",
            f"{_HUANG}, arXiv:2304.06716",
            _STUNET,
            _APACHE,
            (32, 32, 32),
            (64, 32, 32),
            Published(millions, "the authors' README"),
            {"width": width, "depth": depth},
        )
        for size, width, depth, millions in (
            ("base", 32, 1, 58.26),
            ("large", 64, 2, 440.30),
            ("huge", 96, 3, 1457.33),
        )
    ),
    Architecture(
        "medformer",
        "MedFormer",
        "medformer:medformer",
        "Gao et al., A Data-scalable Transformer for Medical Image Segmentation, 2022, "
        "arXiv:2203.00131",
        "https://github.com/yhygao/CBIM-Medical-Image-Segmentation",
        _APACHE,
        (4, 16, 16),
        (16, 32, 32),  # below it, the deepest maps are too few voxels to be normalized by
        Published(36.6, _MEDQUANBENCH),
    ),
    Architecture(
        "meshnet",
        "MeshNet",
        "meshnet:meshnet",
        "Fedorov et al., End-to-end learning of brain tissue segmentation from imperfect labeling, "
        "IJCNN 2017, arXiv:1612.00940",
        "https://github.com/neuroneural/brainchop",
        "MIT",
        (1, 1, 1),
        (16, 16, 16),
        Published(0.147474, "MeshNet-26 of Fedorov et al., 2025, arXiv:2503.05531"),
    ),
    Architecture(
        "monai-unet",
        "MONAI UNet",
        "monai_networks:monai_unet",
        "Kerfoot et al., Left-ventricle quantification using residual U-Net, STACOM 2018",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (16, 16, 16),
        Published(4.81, "Lee et al., 3D UX-Net, table 1"),
    ),
    Architecture(
        "monai-basicunet",
        "MONAI BasicUNet",
        "monai_networks:basic_unet",
        "Falk et al., U-Net: deep learning for cell counting, detection, and morphometry, Nature "
        "Methods 16, 2019",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (32, 16, 16),
    ),
    Architecture(
        "monai-dynunet",
        "MONAI DynUNet",
        "monai_networks:dynunet",
        "Isensee et al., nnU-Net, Nature Methods 18, 2021",
        _MONAI,
        _APACHE,
        (32, 32, 32),
        (64, 32, 32),
    ),
    Architecture(
        "monai-segresnetds",
        "MONAI SegResNetDS",
        "monai_networks:segresnet_ds",
        "Myronenko, 3D MRI brain tumor segmentation using autoencoder regularization, BrainLes "
        "2018, arXiv:1810.11654",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (32, 16, 16),
    ),
    Architecture(
        "monai-vnet",
        "MONAI VNet",
        "monai_networks:vnet",
        "Milletari et al., V-Net, 3DV 2016, arXiv:1606.04797",
        _MONAI,
        _APACHE,
        (16, 16, 16),
        (16, 16, 16),
    ),
)

ARCHITECTURES: Mapping[str, Architecture] = {entry.name: entry for entry in _ENTRIES}
"""All networks by name."""


def architecture(name: str) -> Architecture:
    """Return the entry of that name.

    Raises:
        ModelError: ``model.architecture`` - there is none.
    """
    if name in ARCHITECTURES:
        return ARCHITECTURES[name]
    close = difflib.get_close_matches(name, ARCHITECTURES, n=1)
    raise ModelError(
        "architecture",
        f"There is no network called {name!r}",
        why="the name is not known" + (f"; {close[0]} is close to it" if close else ""),
        todo=f"Choose one of {', '.join(ARCHITECTURES)}",
    )
