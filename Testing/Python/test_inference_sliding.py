from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.inferers import sliding_window_inference

from medptq.engines.protocol import Session
from medptq.errors import Cancelled, EngineError
from medptq.inference.sliding import Slab, memory_needed, sliding_window
from medptq.progress import Reporter
from medptq.scans.patches import pad_to
from medptq.scans.prepared import AxisMap, PreparedScan


class FunctionSession(Session):
    """A session whose network is a function, so that any patch size costs nothing to build."""

    def __init__(
        self,
        shape: tuple[int, int, int, int, int],
        function: Callable[[torch.Tensor], torch.Tensor],
    ) -> None:
        self.input_shape = shape
        self.device = torch.device("cpu")
        self.function = function
        self.batches: list[int] = []
        self._output: torch.Tensor | None = None

    def run(self, batch: torch.Tensor) -> torch.Tensor:
        assert len(batch) <= self.input_shape[0]
        assert batch.shape[1:] == self.input_shape[1:]
        self.batches.append(len(batch))
        if self._output is not None:
            self._output.fill_(torch.nan)  # an output is only valid until the next call
        self._output = self.function(batch)
        return self._output

    def layer_precisions(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        pass


def network(classes: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Outputs that depend on the voxel, on its place in the window and on the whole window."""

    def function(batch: torch.Tensor) -> torch.Tensor:
        ramp = torch.linspace(0, 1, batch[0, 0].numel()).reshape(batch.shape[2:])
        mean = batch.mean(dim=(1, 2, 3, 4), keepdim=True)
        steps = torch.arange(1, classes + 1).reshape(1, -1, 1, 1, 1)
        return torch.sin(steps * (batch.sum(1, keepdim=True) + ramp)) + mean

    return function


def prepared_scan(array: np.ndarray) -> PreparedScan:
    d, h, w = array.shape[1:]
    axes = (AxisMap(0, 1.0, 0.0, d), AxisMap(1, 1.0, 0.0, h), AxisMap(2, 1.0, 0.0, w))
    return PreparedScan(array, axes, (d, h, w))


def assemble(slabs: Iterable[Slab]) -> torch.Tensor:
    """Copy each slab before the next is asked for, checking that they join without gaps."""
    pieces, following = [], 0
    axes = set()
    for slab in slabs:
        assert slab.start == following
        following += slab.values.shape[1 + slab.axis]
        pieces.append(slab.values.clone())
        slab.values.fill_(torch.nan)  # the consumer may use the memory as it likes
        axes.add(slab.axis)
    (axis,) = axes
    return torch.cat(pieces, dim=1 + axis)


@settings(max_examples=60)
@given(
    patch=st.tuples(*[st.integers(2, 7)] * 3),
    shape=st.tuples(*[st.integers(1, 19)] * 3),
    channels=st.integers(1, 2),
    classes=st.integers(1, 3),
    batch=st.integers(1, 5),
    overlap=st.sampled_from([0.0, 0.25, 0.5, 0.7]),
    seed=st.integers(0, 99),
)
def test_same_as_monai(patch, shape, channels, classes, batch, overlap, seed):
    array = np.random.default_rng(seed).random((channels, *shape), np.float32)
    session = FunctionSession((batch, channels, *patch), network(classes))
    found = assemble(sliding_window(session, prepared_scan(array), overlap, classes, Reporter()))
    padded, margins = pad_to(array, patch)
    expected = sliding_window_inference(
        torch.from_numpy(padded)[None],
        patch,
        batch,
        network(classes),
        overlap=overlap,
        mode="gaussian",
    )[0]
    for axis, (before, _) in enumerate(margins):
        expected = expected.narrow(1 + axis, before, shape[axis])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_holds_only_the_rows_that_can_still_change():
    array = np.random.default_rng(0).random((1, 9, 40, 11), np.float32)
    session = FunctionSession((1, 1, 8, 8, 8), network(5))
    prepared = prepared_scan(array)
    for slab in sliding_window(session, prepared, 0.5, 5, Reporter()):
        assert slab.axis == 1
        held = slab.values.untyped_storage().nbytes()
        assert held == 4 * 5 * 9 * 8 * 11
        assert held < memory_needed(prepared, session, 5) < 4 * array.size * 5


@pytest.mark.parametrize("blending", ["gaussian", "constant", "nnunet"])
def test_outputs_in_half_precision_are_added_up_in_it_where_it_holds_the_weights(blending):
    array = np.random.default_rng(0).random((1, 30, 12, 11), np.float32)

    def slabs(function):
        session = FunctionSession((2, 1, 10, 8, 8), function)
        return sliding_window(session, prepared_scan(array), 0.5, 4, Reporter(), None, blending)

    def half(batch: torch.Tensor) -> torch.Tensor:
        return network(4)(batch).half()

    kinds = {slab.values.dtype for slab in slabs(half)}
    assert kinds == {torch.float32 if blending == "nnunet" else torch.float16}
    found, expected = assemble(slabs(half)), assemble(slabs(network(4)))
    torch.testing.assert_close(found.float(), expected, rtol=4e-3, atol=4e-3)


def test_windows_of_two_positions_share_a_batch():
    session = FunctionSession((4, 1, 4, 4, 4), network(2))
    array = np.zeros((1, 12, 6, 4), np.float32)
    list(sliding_window(session, prepared_scan(array), 0.5, 2, Reporter()))
    assert session.batches == [4, 4, 2]


def test_fewer_windows_at_a_time_where_asked():
    session = FunctionSession((4, 1, 4, 4, 4), network(2))
    array = np.zeros((1, 12, 4, 4), np.float32)
    list(sliding_window(session, prepared_scan(array), 0.5, 2, Reporter(), batch=2))
    assert session.batches == [2, 2, 1]


def test_one_window_is_neither_copied_nor_blended():
    array = np.random.default_rng(0).random((1, 6, 5, 4), np.float32)
    seen = []

    def function(batch: torch.Tensor) -> torch.Tensor:
        seen.append(batch.data_ptr())
        return batch.repeat(1, 2, 1, 1, 1)

    session = FunctionSession((1, 1, 6, 5, 4), function)
    (slab,) = sliding_window(session, prepared_scan(array), 0.5, 2, Reporter())
    assert seen == [array.ctypes.data]
    assert slab.values.data_ptr() == session._output.data_ptr()
    assert torch.equal(slab.values[1], torch.from_numpy(array[0]))


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("length", [4, 9])
def test_outputs_that_are_not_finite_are_refused(bad, length):
    def function(batch: torch.Tensor) -> torch.Tensor:
        output = batch.repeat(1, 2, 1, 1, 1)
        output[-1, 1, 2, 2, 2] = bad
        return output

    session = FunctionSession((1, 1, 4, 4, 4), function)
    array = np.zeros((1, length, 4, 4), np.float32)
    with pytest.raises(EngineError) as error:
        list(sliding_window(session, prepared_scan(array), 0.5, 2, Reporter()))
    assert error.value.code == "engine.not-finite"


def test_outputs_in_half_precision_are_not_taken_for_infinite_because_their_sum_is():
    def function(batch: torch.Tensor) -> torch.Tensor:
        return torch.full((1, 2, 16, 16, 16), 100.0, dtype=torch.float16)

    session = FunctionSession((1, 1, 16, 16, 16), function)
    scan = prepared_scan(np.zeros((1, 16, 16, 16), np.float32))
    (slab,) = sliding_window(session, scan, 0.5, 2, Reporter())
    assert slab.values.isfinite().all()


def test_an_output_with_other_classes_is_refused():
    session = FunctionSession((1, 1, 4, 4, 4), network(3))
    array = np.zeros((1, 8, 4, 4), np.float32)
    with pytest.raises(EngineError, match=r"\(1, 3, 4, 4, 4\) instead of \(1, 2, 4, 4, 4\)"):
        list(sliding_window(session, prepared_scan(array), 0.5, 2, Reporter()))


def test_stops_within_a_batch_of_being_cancelled():
    stop = threading.Event()

    def function(batch: torch.Tensor) -> torch.Tensor:
        if len(session.batches) == 2:
            stop.set()
        return batch.repeat(1, 2, 1, 1, 1)

    session = FunctionSession((1, 1, 4, 4, 4), function)
    array = np.zeros((1, 40, 4, 4), np.float32)
    with pytest.raises(Cancelled):
        list(sliding_window(session, prepared_scan(array), 0.5, 2, Reporter(cancelled=stop.is_set)))
    assert len(session.batches) == 2
