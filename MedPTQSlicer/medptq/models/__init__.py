"""The catalogue of networks, their cards, and their way to ONNX."""
