"""Patches for calibration: the same every time, spread over the scans, one scan at a time."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.errors import Cancelled, ScanError
from medptq.progress import Reporter
from medptq.scans.patches import pad_to, sample_patches
from medptq.scans.prepared import PreparedScan
from medptq.scans.preprocessing import prepare
from medptq.scans.reading import ScanSource, find_scans, read_scan
from medptq.scans.scan import Scan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
SIZE = (8, 8, 8)


def plain(scan: Scan) -> PreparedScan:
    return prepare(scan, [], "KJI")


def loading(prepare_scan, channels: int = 1):
    return lambda source: prepare_scan(read_scan(source, channels))


def write_scans(folder: Path, count: int, shape=(20, 18, 16)) -> list[ScanSource]:
    """Scans whose intensities tell which one they are: scan n has 1000 n to 1000 n + 999."""
    for number in range(count):
        array = np.random.default_rng(number).integers(0, 1000, shape) + 1000 * number
        path = folder / f"scan{number:02}.nii.gz"
        sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.int32)), str(path))
    return find_scans(folder, Reporter())


def owners(patches: list[np.ndarray]) -> list[int]:
    return [int(patch.max() // 1000) for patch in patches]


def test_patches_are_the_same_the_second_time(tmp_path):
    sources = write_scans(tmp_path, 3)
    first = list(sample_patches(sources, loading(plain), SIZE, 10, 7, Reporter()))
    second = list(sample_patches(sources, loading(plain), SIZE, 10, 7, Reporter()))
    other = list(sample_patches(sources, loading(plain), SIZE, 10, 8, Reporter()))
    assert len(first) == len(second) == len(other) == 10
    np.testing.assert_array_equal(np.concatenate(first), np.concatenate(second))
    assert not np.array_equal(np.concatenate(first), np.concatenate(other))
    for patch in first:
        assert patch.shape == (1, 1, *SIZE)
        assert patch.dtype == np.float32
        assert patch.flags.c_contiguous
        assert patch.flags.owndata


@pytest.mark.parametrize(("scans", "count"), [(4, 10), (4, 4), (6, 3), (3, 30)])
def test_patches_are_spread_evenly_and_none_comes_twice(tmp_path, scans, count):
    sources = write_scans(tmp_path, scans)
    patches = list(sample_patches(sources, loading(plain), SIZE, count, 1, Reporter()))
    assert len({patch.tobytes() for patch in patches}) == count
    each = np.bincount(owners(patches), minlength=scans)
    assert each.sum() == count
    assert each.max() - each.min() <= 1


def test_what_cannot_be_used_is_named_and_made_up_for(tmp_path):
    sources = write_scans(tmp_path, 5)
    for number in (0, 3):
        sources[number].paths[0].write_bytes(b"broken")

    def picky(scan: Scan) -> PreparedScan:
        if scan.name == "scan01":
            raise ScanError("not-found", "No", why="there is no brain in it", todo="Go on")
        return plain(scan)

    for seed in range(5):  # whichever scans come first
        warnings: list[str] = []
        reporter = Reporter(on_warning=warnings.append)
        patches = list(sample_patches(sources, loading(picky), SIZE, 9, seed, reporter))
        assert len(patches) == 9
        assert set(owners(patches)) == {2, 4}
        assert len(warnings) == 3
        text = "\n".join(sorted(warnings))
        for expected in ("scan00.nii.gz", "scan03.nii.gz", "scan01.nii.gz", "no brain in it"):
            assert expected in text


def test_nothing_to_use_is_an_error(tmp_path):
    sources = write_scans(tmp_path, 2)
    for source in sources:
        source.paths[0].write_bytes(b"broken")
    for some in (sources, []):
        with pytest.raises(ScanError) as caught:
            list(sample_patches(some, loading(plain), SIZE, 3, 0, Reporter()))
        assert caught.value.code == "scan.unusable"


def test_a_wrong_step_is_not_blamed_on_the_scans(tmp_path):
    def wrong(scan: Scan) -> PreparedScan:
        return prepare(scan, [{"step": "sharpen"}], "KJI")

    with pytest.raises(ScanError) as caught:
        list(sample_patches(write_scans(tmp_path, 2), loading(wrong), SIZE, 3, 0, Reporter()))
    assert caught.value.code == "scan.step"


@pytest.mark.parametrize("size", [(20, 18, 16), (24, 20, 20), (64, 64, 64)])
def test_a_patch_that_covers_the_scan_comes_once(tmp_path, size):
    warnings: list[str] = []
    sources = write_scans(tmp_path, 3)
    reporter = Reporter(on_warning=warnings.append)
    patches = list(sample_patches(sources, loading(plain), size, 10, 0, reporter))
    assert sorted(owners(patches)) == [0, 1, 2]
    assert all(patch.shape == (1, 1, *size) for patch in patches)
    assert not warnings


def test_large_scans_make_up_for_small_ones(tmp_path):
    write_scans(tmp_path, 1)
    small = np.random.default_rng(1).integers(5000, 6000, SIZE).astype(np.int32)
    sitk.WriteImage(sitk.GetImageFromArray(small), str(tmp_path / "small.nii.gz"))
    sources = find_scans(tmp_path, Reporter())
    for seed in range(4):
        patches = list(sample_patches(sources, loading(plain), SIZE, 8, seed, Reporter()))
        assert sorted(owners(patches)) == [0] * 7 + [5]


def test_every_place_of_a_scan_can_be_drawn_and_no_more(tmp_path):
    sources = write_scans(tmp_path, 1, shape=(9, 9, 8))
    patches = list(sample_patches(sources, loading(plain), SIZE, 100, 0, Reporter()))
    assert len({patch.tobytes() for patch in patches}) == len(patches) <= 4


def test_patches_favour_the_foreground_but_not_only(tmp_path):
    array = np.random.default_rng(0).normal(0, 1, (60, 60, 60))
    array[40:55, 40:55, 40:55] += 100
    sitk.WriteImage(sitk.GetImageFromArray(array.astype(np.float32)), str(tmp_path / "a.nii"))
    sources = find_scans(tmp_path, Reporter())
    patches = list(sample_patches(sources, loading(plain), SIZE, 100, 0, Reporter()))
    bright = sum(patch[0, 0, 4, 4, 4] > 50 for patch in patches)
    assert 60 <= bright <= 90
    everywhere = [patch for patch in patches if patch.max() < 50]
    assert everywhere


def test_channels_are_kept_together(tmp_path):
    array = np.random.default_rng(0).random((12, 12, 12)).astype(np.float32)
    image = sitk.JoinSeries([sitk.GetImageFromArray(array), sitk.GetImageFromArray(array + 5)])
    sitk.WriteImage(image, str(tmp_path / "a.nii.gz"))
    sources = find_scans(tmp_path, Reporter())
    for patch in sample_patches(sources, loading(plain, channels=2), SIZE, 4, 0, Reporter()):
        assert patch.shape == (1, 2, *SIZE)
        np.testing.assert_allclose(patch[0, 1], patch[0, 0] + 5, rtol=1e-6)


def test_only_one_scan_is_in_memory_and_unreadable_ones_are_let_go(tmp_path):
    sources = write_scans(tmp_path, 6)
    array = np.full((20, 18, 16), np.nan, np.float32)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(sources[2].paths[0]))
    alive: list[weakref.ref[np.ndarray]] = []
    most = 0

    def watched(scan: Scan) -> PreparedScan:
        nonlocal most
        gc.collect()
        alive.extend([weakref.ref(scan.array), weakref.ref(scan)])
        most = max(most, sum(reference() is not None for reference in alive))
        if scan.name == "scan04":
            raise ScanError("not-found", "No", why="there is no brain in it", todo="Go on")
        return prepare(scan, [{"step": "zscore"}], "KJI")

    for _ in sample_patches(sources, loading(watched), SIZE, 20, 0, Reporter()):
        pass
    assert len(alive) >= 10
    assert most == 2  # the scan at hand and its array


def test_scans_are_read_when_their_turn_comes(tmp_path):
    sources = write_scans(tmp_path, 6)
    seen: list[str] = []

    def watched(scan: Scan) -> PreparedScan:
        seen.append(scan.name)
        return plain(scan)

    patches = sample_patches(sources, loading(watched), SIZE, 6, 0, Reporter())
    assert seen == []
    next(patches)
    assert len(seen) == 1


def test_drawing_stops_when_asked_to(tmp_path):
    sources = write_scans(tmp_path, 1)
    stop = False
    patches = sample_patches(sources, loading(plain), SIZE, 6, 0, Reporter(cancelled=lambda: stop))
    next(patches)
    stop = True
    with pytest.raises(Cancelled):
        next(patches)


@settings(max_examples=100)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    size=st.tuples(*[st.integers(1, 9)] * 3),
    channels=st.integers(1, 2),
)
def test_padding_is_symmetric_and_of_each_channels_minimum(shape, size, channels):
    array = np.random.default_rng(0).random((channels, *shape), dtype=np.float32) + 1
    padded, margins = pad_to(array, size)
    assert padded.shape == (channels, *np.maximum(shape, size))
    for before, after in margins:
        assert after - before in (0, 1)
    inner = tuple(slice(before, before + n) for (before, _), n in zip(margins, shape, strict=True))
    np.testing.assert_array_equal(padded[(slice(None), *inner)], array)
    outside = np.ones(padded.shape[1:], bool)
    outside[inner] = False
    for n in range(channels):
        assert (padded[n][outside] == array[n].min()).all()
    if all(n >= wanted for n, wanted in zip(shape, size, strict=True)):
        assert padded is array


@pytest.mark.shared_data
def test_real_scans_of_one_folder():
    folder = SHARED / "spine_sct"
    if not folder.is_dir():
        pytest.skip("spine_sct is not in ../shared/data")
    sources = [source for source in find_scans(folder, Reporter()) if source.name in ("t1w", "t2")]
    steps = [
        {"step": "orient", "to": "RPI"},
        {"step": "spacing", "mm": [0.8, 0.8, 0.8]},
        {"step": "zscore"},
    ]

    def prepared(scan: Scan) -> PreparedScan:
        return prepare(scan, steps, "IJK")

    patches = list(sample_patches(sources, loading(prepared), (48, 48, 48), 6, 0, Reporter()))
    assert len(patches) == 6
    assert all(np.isfinite(patch).all() and patch.std() > 0 for patch in patches)
