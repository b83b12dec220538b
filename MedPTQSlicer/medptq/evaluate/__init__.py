"""Measuring a quantized network beside its FP32 original, and showing the result."""
