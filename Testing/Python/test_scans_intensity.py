"""Steps of preprocessing that change intensities: the arithmetic, and its precision."""

from __future__ import annotations

import numpy as np
import pytest

from medptq.scans.preprocessing import prepare
from medptq.scans.scan import Scan


def make_scan(shape=(7, 6, 5), channels: int = 1) -> Scan:
    """A scan [C, K, J, I] of noise."""
    noise = np.random.default_rng(0).random((channels, *shape), dtype=np.float32)
    return Scan(noise, np.eye(4), "scan")


def test_intensities_against_plain_arithmetic():
    scan = make_scan(channels=2)
    scan.array[1] = scan.array[1] * 500 - 300
    x = scan.array.astype(np.float64)
    axes = (1, 2, 3)
    low, high = np.percentile(x, [5, 80], axis=axes, keepdims=True)
    cases = [
        ({"step": "clip", "low": -100, "high": 0.5}, np.clip(x, -100, 0.5)),
        ({"step": "clip_percentiles", "low": 5, "high": 80}, np.clip(x, low, high)),
        (
            {"step": "scale_range", "from": [-175, 250], "to": [0, 1], "clip": True},
            np.clip((x + 175) / 425, 0, 1),
        ),
        ({"step": "scale_range", "from": [0, 2], "to": [1, -1]}, 1 - x),
        ({"step": "scale", "factor": 0.226, "offset": 0.449}, 0.226 * x + 0.449),
        (
            {"step": "zscore"},
            (x - x.mean(axis=axes, keepdims=True)) / x.std(axis=axes, keepdims=True),
        ),
    ]
    before = scan.array.copy()
    for step, expected in cases:
        prepared = prepare(scan, [step], "KJI")
        np.testing.assert_allclose(prepared.array, expected, rtol=1e-4, atol=1e-5)
        assert prepared.array.dtype == np.float32
    np.testing.assert_array_equal(scan.array, before)


def test_zscore_of_nonzero_voxels_is_monais():
    from monai.transforms import NormalizeIntensity

    scan = make_scan(channels=2)
    scan.array[scan.array < 0.4] = 0
    prepared = prepare(scan, [{"step": "zscore", "nonzero": True}], "KJI")
    expected = NormalizeIntensity(nonzero=True, channel_wise=True)(scan.array)
    np.testing.assert_allclose(prepared.array, expected.numpy(), atol=1e-5)


def test_zscore_of_large_numbers_keeps_its_precision():
    scan = make_scan(shape=(40, 40, 40))
    scan.array[:] += 3000
    array = prepare(scan, [{"step": "zscore"}], "IJK").array
    assert abs(array.mean(dtype=np.float64)) < 1e-3
    assert array.std(dtype=np.float64) == pytest.approx(1, abs=1e-4)
