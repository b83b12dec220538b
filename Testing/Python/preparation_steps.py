"""A scan, and lists of steps that prepare it, some of which a GPU can do."""

from __future__ import annotations

from typing import Any

import numpy as np

from medptq.scans.scan import Scan


def make_scan(shape=(9, 8, 7), channels: int = 1) -> Scan:
    """A scan [C, K, J, I] of noise around a block, with axes that are turned and flipped."""
    array = np.random.default_rng(0).normal(300, 200, (channels, *shape)).astype(np.float32)
    array[:, :2] = 0
    ijk_to_ras = np.array([[0, 0, -2, 5], [-1, 0, 0, 7], [0, 1.5, 0, 1], [0, 0, 0, 1]], float)
    return Scan(array, ijk_to_ras, "scan")


STEPS: list[list[dict[str, Any]]] = [
    [],
    [{"step": "orient", "to": "RAS"}],
    [
        {"step": "orient", "to": "LPI"},
        {"step": "spacing", "mm": [1.2, 1.3, 1.1], "align": "monai"},
        {"step": "scale_range", "from": [-175, 250], "to": [0, 1], "clip": True},
    ],
    [{"step": "crop_nonzero"}, {"step": "resize", "size": [5, 12, 7]}, {"step": "minmax"}],
    [{"step": "transpose", "order": [1, 2, 0]}, {"step": "zscore", "nonzero": True}],
    [
        {"step": "clip_percentiles", "low": 1, "high": 99},
        {"step": "orient", "to": "RAS"},
        {"step": "clip", "low": 10, "high": 500},
        {"step": "zscore", "channels": [1]},
        {"step": "pad_with", "value": -3},
    ],
    [
        {"step": "transpose", "order": [2, 0, 1]},
        {"step": "spacing_nnunet", "mm": [1, 1, 1.2]},
        {"step": "scale", "factor": 2, "offset": 1},
    ],
    [{"step": "crop_nonzero"}, {"step": "spacing_nnunet", "mm": [0.5, 3, 0.7]}],
    [{"step": "spacing_nnunet", "mm": [0.5, 3, 0.7], "separate": False}, {"step": "zscore"}],
    [{"step": "spacing", "mm": [1, 1, 1], "interpolation": "cubic"}, {"step": "zscore"}],
    [{"step": "zscore", "nonzero": True, "filled": True}],
]
