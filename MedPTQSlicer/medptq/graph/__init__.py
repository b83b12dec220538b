"""Reading, checking, simplifying and executing ONNX graphs in PyTorch."""
