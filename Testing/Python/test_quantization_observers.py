"""Choosing ranges from what calibration saw."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.quantization.observers import MagnitudeHistogram, threshold
from medptq.quantization.recipe import OBSERVERS


def _seen(*tensors: torch.Tensor) -> MagnitudeHistogram:
    histogram = MagnitudeHistogram()
    for tensor in tensors:
        histogram.add(tensor)
    return histogram


def _squared_error(values: torch.Tensor, amax: float) -> float:
    scale = amax / 127
    rounded = torch.clamp(torch.round(values / scale), -128, 127) * scale
    return float((values - rounded).double().square().sum())


@settings(max_examples=30)
@given(st.lists(st.floats(1e-6, 1e6), min_size=2, max_size=6), st.randoms())
def test_the_order_of_the_patches_does_not_matter(scales, random):
    generator = torch.Generator().manual_seed(0)
    tensors = [torch.randn(500, generator=generator) * scale for scale in scales]
    shuffled = random.sample(tensors, len(tensors))
    one, other = _seen(*tensors), _seen(*shuffled)
    assert one.amax == other.amax == max(float(t.abs().max()) for t in tensors)
    assert one.limit == other.limit
    np.testing.assert_array_equal(one.counts, other.counts)
    assert one.counts.sum() == 500 * len(tensors)


def test_the_percentile_is_the_distributions_own():
    values = torch.randn(200_000, generator=torch.Generator().manual_seed(1))
    found = threshold(_seen(values), "percentile", 99.0)
    exact = float(values.abs().quantile(0.99))
    assert found == pytest.approx(exact, rel=2e-3)


def test_mse_is_within_a_hair_of_the_best_range_there_is():
    generator = torch.Generator().manual_seed(2)
    values = torch.distributions.StudentT(3.0).sample((100_000,))
    values = values + 0 * torch.randn(1, generator=generator)
    amax = float(values.abs().max())
    found = threshold(_seen(values), "mse", 99.99)
    best = min(_squared_error(values, amax * share) for share in np.linspace(0.02, 1, 400))
    assert _squared_error(values, found) <= best * 1.03
    assert _squared_error(values, found) < _squared_error(values, amax)


@pytest.mark.parametrize("value", [0.7, 3.0, 6.0])
@pytest.mark.parametrize("zeros", [0, 10_000])
def test_entropy_keeps_what_all_values_are(value, zeros):
    # As behind a clamp, or of a mask; 3 and 6 lie on an edge between two bins.
    values = torch.cat([torch.zeros(zeros), torch.full((10_000,), value)])
    assert threshold(_seen(values), "entropy", 99.99) == pytest.approx(value, rel=1e-6)


def test_entropy_clips_a_lone_outlier_and_keeps_a_uniform_whole():
    uniform = torch.rand(100_000, generator=torch.Generator().manual_seed(3))
    assert threshold(_seen(uniform), "entropy", 99.99) > 0.9
    outlier = torch.cat([uniform, torch.tensor([40.0])])
    assert threshold(_seen(outlier), "entropy", 99.99) < 2.0


@pytest.mark.parametrize("observer", OBSERVERS)
def test_ranges_stay_within_what_was_seen(observer):
    sparse = torch.relu(torch.randn(50_000, generator=torch.Generator().manual_seed(4)))
    histogram = _seen(sparse, torch.zeros(1000))
    found = threshold(histogram, observer, 99.99)
    assert 0 < found <= histogram.amax


@pytest.mark.parametrize("observer", OBSERVERS)
def test_a_dead_activation_has_range_zero(observer):
    assert threshold(_seen(torch.zeros(100), torch.zeros(3)), observer, 99.99) == 0.0


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_not_lost(value):
    histogram = _seen(torch.tensor([1.0, value]), torch.ones(3))
    assert not np.isfinite(histogram.amax)


def test_entropy_does_not_clip_an_image():
    """Eight-bit grey levels: most voxels in a few spikes, the rest in few levels."""
    generator = torch.Generator().manual_seed(5)
    levels = torch.cat([torch.full((60_000,), 40.0), torch.arange(0, 256).repeat(50).float()])
    image = levels[torch.randperm(len(levels), generator=generator)] / 255
    assert threshold(_seen(image), "entropy", 99.99, is_image=True) > 0.9


def test_large_tensors_are_sampled_evenly():
    values = torch.linspace(0, 1, 5_000_000)
    histogram = _seen(values)
    filled = histogram.counts[histogram.counts > 0]
    assert 1 << 19 < filled.sum() < 1 << 21
    assert filled.std() / filled.mean() < 0.1
