"""Activations: functions of one tensor, element by element, and the softmaxes."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import Evaluate, operator


def _ignoring_node(function: Any) -> Evaluate:
    """Return an operator without attributes that applies ``function`` to its inputs."""
    return lambda _node, *inputs: function(*inputs)


for _op_type, _function, _function_in_place in (
    ("Relu", torch.relu, torch.relu_),
    ("Sigmoid", torch.sigmoid, torch.sigmoid_),
    ("Tanh", torch.tanh, torch.tanh_),
    ("Abs", torch.abs, torch.abs_),
    ("Neg", torch.neg, torch.neg_),
    ("Exp", torch.exp, torch.exp_),
    ("Log", torch.log, torch.log_),
    ("Sqrt", torch.sqrt, torch.sqrt_),
    ("Reciprocal", torch.reciprocal, torch.reciprocal_),
    ("Erf", torch.erf, torch.erf_),
    ("Floor", torch.floor, torch.floor_),
    ("Ceil", torch.ceil, torch.ceil_),
    # Both round halves to the even number.
    ("Round", torch.round, torch.round_),
    ("Sin", torch.sin, torch.sin_),
    ("Cos", torch.cos, torch.cos_),
    ("Sign", torch.sign, None),
    ("Softsign", F.softsign, None),
    ("Mish", F.mish, None),
    # PyTorch's own Softplus turns linear above 20; ONNX's does not.
    ("Softplus", lambda x: torch.logaddexp(x, x.new_zeros(())), None),
):
    operator(
        _op_type,
        in_place=None if _function_in_place is None else _ignoring_node(_function_in_place),
        allocates=True,
    )(_ignoring_node(_function))


def _leaky_relu_in_place(node: Node, x: Tensor) -> Tensor:
    return F.leaky_relu_(x, node.get("alpha", 0.01))


@operator("LeakyRelu", in_place=_leaky_relu_in_place)
def leaky_relu(node: Node, x: Tensor) -> Tensor:
    """Return x, times ``alpha`` where it is negative."""
    return F.leaky_relu(x, node.get("alpha", 0.01))


@operator("PRelu", allocates=True)
def p_relu(node: Node, x: Tensor, slope: Tensor) -> Tensor:  # noqa: ARG001
    """Return x, times ``slope`` (broadcast to x from the right) where it is negative."""
    per_channel = (
        slope.ndim == x.ndim - 1 and x.ndim > 2 and slope.numel() == slope.shape[0] == x.shape[1]
    )
    if x.is_floating_point() and (slope.numel() == 1 or per_channel):
        return F.prelu(x, slope.reshape(-1))
    return torch.where(x < 0, x * slope, x)


def _elu_in_place(node: Node, x: Tensor) -> Tensor:
    return F.elu_(x, node.get("alpha", 1.0))


@operator("Elu", in_place=_elu_in_place)
def elu(node: Node, x: Tensor) -> Tensor:
    """Exponential linear unit (Clevert 2015)."""
    return F.elu(x, node.get("alpha", 1.0))


@operator("Celu", allocates=True)
def celu(node: Node, x: Tensor) -> Tensor:
    """Continuously differentiable exponential linear unit (Barron 2017)."""
    return F.celu(x, node.get("alpha", 1.0))


@operator("Selu", allocates=True)
def selu(node: Node, x: Tensor) -> Tensor:
    """Scaled exponential linear unit (Klambauer 2017)."""
    alpha = node.get("alpha", 1.67326319217681884765625)
    gamma: float = node.get("gamma", 1.05070102214813232421875)
    return gamma * F.elu(x, alpha)


def _hard_swish_in_place(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    return F.hardswish(x, inplace=True)


@operator("HardSwish", in_place=_hard_swish_in_place)
def hard_swish(node: Node, x: Tensor) -> Tensor:  # noqa: ARG001
    """Return x * max(0, min(1, x / 6 + 0.5)) (Howard 2019)."""
    return F.hardswish(x)


@operator("HardSigmoid", allocates=True)
def hard_sigmoid(node: Node, x: Tensor) -> Tensor:
    """Return max(0, min(1, alpha * x + beta))."""
    y: Tensor = x * node.get("alpha", 0.2) + node.get("beta", 0.5)
    return y.clamp(0, 1)


@operator("Swish", allocates=True)
def swish(node: Node, x: Tensor) -> Tensor:
    """Return x * sigmoid(alpha * x) (Ramachandran 2017)."""
    alpha = node.get("alpha", 1.0)
    return F.silu(x) if alpha == 1.0 else x * torch.sigmoid(alpha * x)


@operator("Gelu", allocates=True)
def gelu(node: Node, x: Tensor) -> Tensor:
    """Gaussian error linear unit (Hendrycks 2016), exact or by its tanh approximation."""
    return F.gelu(x, approximate=node.get("approximate", "none"))


@operator("Softmax", allocates=True)
def softmax(node: Node, x: Tensor) -> Tensor:
    """Normalized exponential along ``axis``."""
    shape, axis, x = _softmax_axis(node, x)
    return torch.softmax(x, axis).reshape(shape)


@operator("LogSoftmax", allocates=True)
def log_softmax(node: Node, x: Tensor) -> Tensor:
    """Logarithm of the normalized exponential along ``axis``."""
    shape, axis, x = _softmax_axis(node, x)
    return torch.log_softmax(x, axis).reshape(shape)


def _softmax_axis(node: Node, x: Tensor) -> tuple[torch.Size, int, Tensor]:
    """Return x's shape, the axis to normalize, and x in the shape to do it in."""
    if node.opset >= 13:
        return x.shape, node.get("axis", -1), x
    # Before opset 13, all the axes from ``axis`` on were normalized as one.
    return x.shape, -1, x.flatten(node.get("axis", 1) % x.ndim)
