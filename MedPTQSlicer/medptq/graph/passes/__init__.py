"""Rewriting passes, each over the whole graph, that onnx_ir does not have itself."""

from __future__ import annotations

from medptq.graph.passes.batch_normalization import FoldBatchNormalizationPass
from medptq.graph.passes.constant_folding import FoldConstantsPass
from medptq.graph.passes.dropout import DropoutToIdentityPass

__all__ = ["DropoutToIdentityPass", "FoldBatchNormalizationPass", "FoldConstantsPass"]
