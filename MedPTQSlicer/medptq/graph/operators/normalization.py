"""Normalizations, as they are at inference."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import operator


@operator("BatchNormalization", allocates=True)
def batch_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor, mean: Tensor, variance: Tensor
) -> Tensor:
    """Normalize x [N, C, *spatial] with the statistics [C] of the training (Ioffe 2015)."""
    if node.get("training_mode", 0):
        raise NotImplementedError("it is in training mode; export the network in eval mode")
    return F.batch_norm(x, mean, variance, scale, bias, eps=node.get("epsilon", 1e-5))


@operator("InstanceNormalization", allocates=True)
def instance_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalize each channel of each image of x [N, C, *spatial] (Ulyanov 2016)."""
    epsilon = node.get("epsilon", 1e-5)
    return torch.instance_norm(x, scale, bias, None, None, True, 0.0, epsilon, False)


@operator("GroupNormalization", allocates=True)
def group_normalization(node: Node, x: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """Normalize groups of channels of x [N, C, *spatial] (Wu and He 2018)."""
    groups = node.get("num_groups")
    if node.opset < 21:
        # Before opset 21 the parameters were one a group.
        repeats = x.shape[1] // groups
        scale, bias = scale.repeat_interleave(repeats), bias.repeat_interleave(repeats)
    return F.group_norm(x, groups, scale, bias, node.get("epsilon", 1e-5))


@operator("LayerNormalization", allocates=True)
def layer_normalization(
    node: Node, x: Tensor, scale: Tensor, bias: Tensor | None = None
) -> Tensor | tuple[Tensor, ...]:
    """Normalize over the axes from ``axis`` on (Ba 2016)."""
    axis = node.get("axis", -1) % x.ndim
    epsilon = node.get("epsilon", 1e-5)
    shape = x.shape[axis:]
    if max(scale.ndim, 0 if bias is None else bias.ndim) <= len(shape):
        bias = None if bias is None else bias.expand(shape)
        y = F.layer_norm(x, shape, scale.expand(shape), bias, epsilon)
    else:  # a scale for each channel, say, before the axis
        y = F.layer_norm(x, shape, None, None, epsilon) * scale
        y = y if bias is None else y + bias
    if len(node.outputs) == 1:
        return y
    variance, mean = torch.var_mean(
        x.float(), dim=tuple(range(axis, x.ndim)), correction=0, keepdim=True
    )
    return y, mean, torch.rsqrt(variance + epsilon)
