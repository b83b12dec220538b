"""Whole graphs in the executor against the PyTorch modules that they were exported from."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from medptq.graph.executor import GraphExecutor


def export(network: nn.Module, x: Tensor, path: Path, *, dynamic: bool = False) -> GraphExecutor:
    axes = {0: "N", 2: "D", 3: "H", 4: "W"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (x,),
            str(path),
            dynamo=False,
            opset_version=17,
            input_names=["x"],
            output_names=["y"],
            dynamic_axes={"x": axes, "y": axes} if dynamic else None,
        )
    return GraphExecutor(path)


def relative_difference(a: Tensor, b: Tensor) -> float:
    return float((a - b).norm() / b.norm())


def unet() -> nn.Module:
    from monai.networks.nets.unet import UNet

    return UNet(3, 1, 3, (4, 8, 16), (2, 2), num_res_units=1, norm="batch")


def basic_unet() -> nn.Module:
    from monai.networks.nets.basic_unet import BasicUNet

    return BasicUNet(3, 1, 2, (4, 4, 4, 8, 8, 4))


def dyn_unet() -> nn.Module:
    from monai.networks.nets.dynunet import DynUNet

    return DynUNet(3, 1, 2, [3, 3, 3], [1, 2, [1, 2, 2]], [2, [1, 2, 2]], filters=[4, 8, 8])


def seg_res_net() -> nn.Module:
    from monai.networks.nets.segresnet import SegResNet

    return SegResNet(3, 8, 1, 2, blocks_down=(1, 1), blocks_up=(1,))


@pytest.mark.parametrize("make", [unet, basic_unet, dyn_unet, seg_res_net])
def test_agrees_with_monai_networks(make: Callable[[], nn.Module], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, x = make(), torch.randn(1, 1, 32, 16, 16)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm3d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2)
    executor = export(network, x, tmp_path / "net.onnx", dynamic=True)
    larger = torch.randn(2, 1, 16, 32, 48)
    with torch.inference_mode():
        for batch in (x, larger):
            before = batch.clone()
            assert relative_difference(executor.run(batch), network(batch)) < 1e-4
            assert torch.equal(batch, before)


NORMS: list[Callable[[int], nn.Module]] = [
    nn.BatchNorm3d,
    lambda channels: nn.InstanceNorm3d(channels, affine=True),
    lambda channels: nn.GroupNorm(2, channels),
]
ACTIVATIONS: list[Callable[[int], nn.Module]] = [
    *(lambda _, kind=kind: kind() for kind in (nn.ReLU, nn.ELU, nn.GELU, nn.SiLU, nn.Hardswish)),
    nn.PReLU,
    lambda _: nn.LeakyReLU(0.1),
    lambda _: nn.Softmax(1),
]
RESAMPLINGS: list[Callable[[], nn.Module]] = [
    nn.Identity,
    lambda: nn.Upsample(scale_factor=2, mode="trilinear", align_corners=False),
    lambda: nn.Upsample(scale_factor=2, mode="trilinear", align_corners=True),
    lambda: nn.Upsample(scale_factor=2, mode="nearest"),
    lambda: nn.AvgPool3d(2, ceil_mode=True, count_include_pad=False),
    lambda: nn.MaxPool3d(3, 2, 1),
]


@st.composite
def blocks(draw: st.DrawFn, channels: int) -> nn.Module:
    """A convolution to 4 channels, a norm, an activation and a change of resolution."""
    kernel = draw(st.tuples(*[st.integers(1, 3)] * 3))
    convolution: nn.Module = nn.Conv3d(
        channels,
        4,
        kernel,
        stride=draw(st.integers(1, 2)),
        padding=tuple(k // 2 for k in kernel),
        dilation=1,
        groups=draw(st.sampled_from([1, 2])),
        bias=draw(st.booleans()),
    )
    resampling = draw(st.sampled_from(RESAMPLINGS))()
    if draw(st.booleans()):
        convolution = nn.ConvTranspose3d(channels, 4, kernel, 2, 0, draw(st.integers(0, 1)))
        resampling = nn.Identity()  # So that images stay small.
    norm, activation = draw(st.sampled_from(NORMS))(4), draw(st.sampled_from(ACTIVATIONS))(4)
    return nn.Sequential(convolution, norm, activation, resampling)


@settings(max_examples=20)
@given(first=blocks(2), second=blocks(4), seed=st.integers(0, 1000))
def test_agrees_with_convolutional_networks_of_all_kinds(
    first: nn.Module,
    second: nn.Module,
    seed: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    torch.manual_seed(seed)
    network, x = nn.Sequential(first, second).eval(), torch.randn(1, 2, 11, 12, 13)
    with torch.inference_mode():
        executor = export(network, x, tmp_path_factory.mktemp("net") / "net.onnx")
        assert relative_difference(executor.run(x), network(x)) < 1e-4
