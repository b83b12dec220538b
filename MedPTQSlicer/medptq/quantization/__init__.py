"""From an FP32 graph and unlabeled scans to a graph with INT8 weights and Q/DQ nodes."""
