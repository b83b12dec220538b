"""The symmetric ranges of channels that INT8 kernels run: their own, within the whole's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.quantization.observers import MagnitudeHistogram, threshold
from medptq.quantization.recipe import OBSERVERS
from medptq.quantization.scheme import Scheme
from medptq.quantization.simulation.granularity import Groups
from medptq.quantization.simulation.grid import activation_grid
from medptq.quantization.simulation.ranges import kind_of_observer

CHANNELS = Groups("channels", 1)
BITS = st.integers(2, 8)


def scheme(observer: str, bits: int = 8, **other: str) -> Scheme:
    other = {"activation_granularity": "channel", "placing": "openvino", **other}
    return Scheme(activation_bits=bits, observer=observer, **other)


def ranges(tensors: list[torch.Tensor], chosen: Scheme) -> tuple[torch.Tensor, torch.Tensor]:
    observer = kind_of_observer(CHANNELS, chosen)(CHANNELS)
    for tensor in tensors:
        observer.add(tensor)
    return observer.range_for(chosen, is_image=False)


def activation(seed: int, spread: list[int], dead: bool) -> list[torch.Tensor]:
    """Return an activation [1, 4, 6, 6, 6] of two patches, of channels of different size."""
    generator = torch.Generator().manual_seed(seed)
    factors = 2.0 ** torch.tensor(spread).reshape(1, 4, 1, 1, 1)
    tensors = [torch.randn(1, 4, 6, 6, 6, generator=generator) * factors for _ in range(2)]
    tensors[1][0, 1, 0, 0, 0] = 50.0  # an outlier, in one channel
    if dead:
        for tensor in tensors:
            tensor[:, 3] = 0.0
    return tensors


@settings(max_examples=40)
@given(
    seed=st.integers(0, 999),
    spread=st.lists(st.integers(-6, 3), min_size=4, max_size=4),
    dead=st.booleans(),
    observer=st.sampled_from(OBSERVERS),
    bits=BITS,
)
def test_a_channels_range_is_its_largest_magnitude_within_the_wholes(
    seed, spread, dead, observer, bits
):
    tensors = activation(seed, spread, dead)
    low, high = ranges(tensors, scheme(observer, bits))
    histogram = MagnitudeHistogram()
    for tensor in tensors:
        histogram.add(tensor)
    most = threshold(histogram, observer, 99.99, bits=bits)
    largest = torch.cat(tensors).abs().amax((0, 2, 3, 4), keepdim=True).double()
    assert torch.equal(low, -high)
    assert torch.equal(high, torch.minimum(largest, torch.tensor(most, dtype=torch.float64)))
    assert bool((activation_grid(low, high, bits, signed=True).scale > 0).all())
    if observer == "max":
        assert torch.equal(high, largest)


def test_an_outlier_is_clipped_and_costs_no_other_channel_anything():
    tensors = [torch.randn(1, 4, 20, 20, 20, generator=torch.Generator().manual_seed(0))]
    tensors[0][0, 1, 0, 0, 0] = 1000.0
    _, high = ranges(tensors, scheme("entropy"))
    largest = tensors[0].abs().amax((0, 2, 3, 4)).double()
    clipped = high.reshape(-1) < largest
    assert clipped.tolist() == [False, True, False, False]


@pytest.mark.parametrize("wrong", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("observer", OBSERVERS)
def test_what_is_not_finite_shows(wrong, observer):
    tensors = activation(0, [0, 0, 0, 0], dead=False)
    tensors[0][0, 2, 1, 1, 1] = wrong
    low, high = ranges(tensors, scheme(observer))
    assert not bool(torch.isfinite(high - low).all())


def test_what_is_simulated_as_in_the_papers_has_ranges_of_its_own():
    """A channel's range by its own least squared error, whatever the whole's is."""
    tensors = activation(0, [0, 0, -6, 0], dead=False)
    papers, kernels = (
        ranges(tensors, scheme("mse", 4, placing=placing))[1].reshape(-1)
        for placing in ("layers", "openvino")
    )
    largest = torch.cat(tensors).abs().amax((0, 2, 3, 4)).double()
    assert papers[2] < 0.9 * largest[2]
    assert kernels[2] == largest[2]
