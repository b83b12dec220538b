"""Which channels of a network have one scale, so that equalization may change it."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import torch
from onnx import numpy_helper

from medptq.graph.simplify import simplify
from medptq.quantization.recovery.channel_classes import channel_classes
from medptq.quantization.recovery.equalization import equalize
from quantization_helpers import export, greatest_difference
from trained_network import on_one_thread, unseen  # noqa: F401 - fixtures


def _classes(module, tmp_path):
    model = simplify(export(module, (1, 1, 6, 6, 6), tmp_path / "m.onnx"))
    return channel_classes(ir.from_proto(model).graph)


def test_added_channels_have_one_scale_and_the_output_none(tmp_path):
    class Residual(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv3d(1, 2, 3, padding=1)
            self.second = torch.nn.Conv3d(2, 2, 3, padding=1)
            self.last = torch.nn.Conv3d(2, 3, 1)

        def forward(self, x):
            y = torch.relu(self.first(x))
            return self.last(torch.relu(self.second(y) + y))

    classes = _classes(Residual(), tmp_path)
    free = {name: tuple(user.classes) for user in classes.users if (name := user.activation)}
    of_second, of_last = (v for k, v in free.items() if k != "image")
    assert of_second == of_last
    assert not classes.fixed[list(of_last)].any()
    made = [maker for maker in classes.makers if len(maker.classes) == 3]
    assert made
    assert all(classes.fixed[maker.classes].all() for maker in made)


def test_channels_cannot_be_scaled_through_what_is_not_homogeneous(tmp_path):
    for between in (torch.nn.Sigmoid(), torch.nn.Softplus(), torch.nn.GELU(), torch.nn.ELU()):
        module = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 1), between, torch.nn.Conv3d(2, 1, 1))
        assert _classes(module, tmp_path).fixed.all()
    module = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 1),
        torch.nn.InstanceNorm3d(4, affine=True),
        torch.nn.LeakyReLU(0.1),
        torch.nn.MaxPool3d(2),
        torch.nn.Upsample(scale_factor=2, mode="trilinear"),
        torch.nn.Conv3d(4, 1, 1),
    )
    classes = _classes(module, tmp_path)
    [read] = [user for user in classes.users if len(user.classes) == 4]
    assert not classes.fixed[read.classes].any()
    assert sum(np.array_equal(maker.classes, read.classes) for maker in classes.makers) == 2


def test_group_normalization_makes_channels(tmp_path):
    module = torch.nn.Sequential(
        torch.nn.Conv3d(1, 4, 1),
        torch.nn.GroupNorm(2, 4),
        torch.nn.ReLU(),
        torch.nn.Conv3d(4, 1, 1),
    )
    classes = _classes(module, tmp_path)
    [read] = [user for user in classes.users if len(user.classes) == 4]
    assert not classes.fixed[read.classes].any()
    makers = [maker for maker in classes.makers if np.array_equal(maker.classes, read.classes)]
    assert len(makers) == 2, "its factors and its offsets, and not the convolution before it"


def test_equalization_through_normalization_and_concatenation(tmp_path, unseen):
    class Joined(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv3d(1, 4, 3, padding=1)
            self.norm = torch.nn.InstanceNorm3d(4, affine=True)
            self.up = torch.nn.ConvTranspose3d(4, 2, 2, 2)
            self.last = torch.nn.Conv3d(8, 2, 1)

        def forward(self, x):
            y = torch.nn.functional.leaky_relu(self.norm(self.first(x)))
            z = torch.relu(self.up(torch.nn.functional.max_pool3d(y, 2)))
            return self.last(torch.cat([y, z, z], 1))

    torch.manual_seed(1)
    module = Joined()
    with torch.no_grad():
        module.norm.weight.copy_(torch.tensor([1.0, 30.0, 0.1, 5.0]))
        module.norm.bias.copy_(torch.tensor([0.0, 3.0, 0.1, -2.0]))
    size = unseen[0].shape
    model = simplify(export(module, tuple(size), tmp_path / "j.onnx"), input_shape=tuple(size))
    equal = equalize(model, [x.numpy() for x in unseen])
    before = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    assert any(
        not np.array_equal(numpy_helper.to_array(t), before[t.name])
        for t in equal.graph.initializer
    )
    assert greatest_difference(model, equal, unseen) < 1e-3
