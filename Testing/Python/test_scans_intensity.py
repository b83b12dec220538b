"""Steps of preprocessing that change intensities: the arithmetic, and its precision."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.scans.intensity import percentiles
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


def same_as_numpys(volume: np.ndarray, percents: list[float]) -> None:
    found = percentiles(volume, percents)
    assert found == np.percentile(volume, percents).tolist()


PERCENTS = st.lists(st.floats(0, 100), min_size=1, max_size=3)


@settings(max_examples=200)
@given(
    shape=st.tuples(*[st.integers(1, 12)] * 3),
    percents=PERCENTS,
    distinct=st.integers(1, 2000),
    seed=st.integers(0, 99),
)
def test_percentiles_of_small_volumes_are_numpys_to_the_last_bit(shape, percents, distinct, seed):
    values = np.random.default_rng(seed).normal(size=distinct).astype(np.float32)
    same_as_numpys(np.random.default_rng(seed).choice(values, shape), percents)


@settings(max_examples=40)
@given(percents=PERCENTS, background=st.floats(0, 1), step=st.sampled_from([0, 1e-6, 0.1, 10]))
def test_percentiles_of_a_sampled_volume_are_numpys_to_the_last_bit(percents, background, step):
    generator = np.random.default_rng(0)
    volume = generator.normal(0, 300, (61, 60, 59)).astype(np.float32)
    if step:
        volume = (np.round(volume / step) * step).astype(np.float32)
    volume[generator.random(volume.shape) < background] = -1024
    same_as_numpys(volume, [*percents, 0, 0.5, 50, 99.5, 100])


@pytest.mark.parametrize("turned", [False, True])
def test_percentiles_of_a_volume_that_a_sample_does_not_show(turned):
    # Each step of the sample comes upon the same value; everything else differs.
    volume = np.arange(1 << 18, dtype=np.float32) * (-1 if turned else 1)
    volume[:: len(volume) // (1 << 14) | 1] = 12345.5
    same_as_numpys(volume.reshape(64, 64, 64), [0, 0.5, 20, 50, 99.5, 100])


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
