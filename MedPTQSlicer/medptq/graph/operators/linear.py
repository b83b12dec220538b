"""Matrix products."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812
from torch import Tensor

from medptq.graph.operators.node import Node
from medptq.graph.operators.registry import operator


@operator("MatMul", allocates=True)
def mat_mul(node: Node, a: Tensor, b: Tensor) -> Tensor:  # noqa: ARG001
    """Multiply matrices [..., M, K] and [..., K, N]."""
    return torch.matmul(a, b)


@operator("Gemm", allocates=True)
def gemm(node: Node, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
    """Return alpha * A @ B + beta * C, A and B transposed where asked for."""
    alpha, beta = node.get("alpha", 1.0), node.get("beta", 1.0)
    a = a.T if node.get("transA", 0) else a
    row = c is None or (beta == 1.0 and c.ndim == 1 and c.numel() == b.shape[0])
    if alpha == 1.0 and node.get("transB", 0) and row:
        # A linear layer, as PyTorch exports it.
        return F.linear(a, b, c)
    b = b.T if node.get("transB", 0) else b
    y = a @ b
    if alpha != 1.0:
        y = y * alpha
    if c is None:
        return y
    return y + (c if beta == 1.0 else c * beta)


@operator("Einsum")
def einsum(node: Node, *inputs: Tensor) -> Tensor:
    """Sum products of elements as ``equation`` says."""
    result: Tensor = torch.einsum(node.get("equation"), *inputs)
    return result
