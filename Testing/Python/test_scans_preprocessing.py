"""Preprocessing: what the network sees, and where every voxel of it lies in the patient."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation

from medptq.errors import ScanError
from medptq.scans.geometry import closest_axes
from medptq.scans.prepared import PreparedScan
from medptq.scans.preprocessing import prepare
from medptq.scans.reading import read_scan
from medptq.scans.scan import Scan
from preprocessing_helpers import (
    SPACING_IJK,
    assert_voxels_are_where_the_map_says,
    make_scan,
    on_the_scans_grid,
    ramp,
    scan_indices,
)

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
CODES = [
    "".join(code)
    for order in itertools.permutations(["RL", "AP", "SI"])
    for code in itertools.product(*order)
]
ANGLES = st.tuples(*[st.floats(-math.pi, math.pi)] * 3)


def network_to_ras(prepared: PreparedScan, scan: Scan) -> np.ndarray:
    """The 4x4 matrix from network indices (d, h, w, 1) to the patient."""
    to_ijk = np.zeros((4, 4))
    to_ijk[3, 3] = 1
    for n, axis in enumerate(prepared.axes):
        to_ijk[2 - axis.scan_axis, n] = axis.scale
        to_ijk[2 - axis.scan_axis, 3] = axis.offset
    return scan.ijk_to_ras @ to_ijk


@pytest.mark.parametrize("axis_order", ["IJK", "KJI"])
@pytest.mark.parametrize("code", CODES)
def test_orient_from_every_orientation_agrees_with_nibabel(code, axis_order):
    for source in CODES:
        linear = np.zeros((3, 3))
        for column, (axis, way) in enumerate(axcodes2ornt(source)):
            linear[int(axis), column] = way
        scan = make_scan(linear)
        prepared = prepare(scan, [{"step": "orient", "to": code}], axis_order)

        image = nib.Nifti1Image(scan.array[0].transpose(2, 1, 0), scan.ijk_to_ras)
        turn = ornt_transform(io_orientation(image.affine), axcodes2ornt(code))
        expected = image.as_reoriented(turn)
        array, affine = expected.get_fdata(dtype=np.float32), expected.affine
        if axis_order == "KJI":
            array, affine = array.transpose(2, 1, 0), affine[:, [2, 1, 0, 3]]
        np.testing.assert_array_equal(prepared.array[0], array)
        np.testing.assert_allclose(network_to_ras(prepared, scan), affine, atol=1e-5)
        assert prepared.array.flags.c_contiguous
        assert prepared.scan_shape == scan.shape


@settings(max_examples=300)
@given(angles=ANGLES, signs=st.tuples(*[st.sampled_from([-1, 1])] * 3))
def test_the_closest_axes_of_oblique_scans_are_nibabels(angles, signs):
    scan = make_scan(Rotation.from_euler("xyz", angles).as_matrix() * np.array(signs))
    expected = io_orientation(scan.ijk_to_ras)
    assert [list(axis) for axis in closest_axes(scan.ijk_to_ras)] == expected.tolist()


def test_oblique_scans_turn_as_in_monai():
    from monai.data import MetaTensor
    from monai.transforms import Orientation

    scan = make_scan(Rotation.from_euler("xyz", (0.5, -2.2, 1.4)).as_matrix())
    prepared = prepare(scan, [{"step": "orient", "to": "RAS"}], "IJK")
    image = MetaTensor(scan.array.transpose(0, 3, 2, 1).copy(), affine=scan.ijk_to_ras)
    expected = Orientation(axcodes="RAS", labels=None)(image)
    np.testing.assert_array_equal(prepared.array, expected.numpy())
    np.testing.assert_allclose(network_to_ras(prepared, scan), expected.affine.numpy(), atol=1e-5)


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, 0.2, -0.1)])
def test_spacing_agrees_with_monai(angles):
    from monai.data import MetaTensor
    from monai.transforms import Spacing

    scan = make_scan(Rotation.from_euler("xyz", angles).as_matrix(), shape=(12, 15, 20))
    # So that the field is a whole number of new voxels: MONAI centres what is left over.
    new = SPACING_IJK * np.array([20 / 16, 15 / 20, 12 / 9])
    steps = [{"step": "spacing", "mm": new.tolist()}]
    prepared = prepare(scan, steps, "IJK")
    image = MetaTensor(scan.array.transpose(0, 3, 2, 1).copy(), affine=scan.ijk_to_ras)
    resample = Spacing(
        new, mode="bilinear", padding_mode="border", scale_extent=True, align_corners=False
    )
    expected = resample(image)
    assert prepared.array.shape == tuple(expected.shape) == (1, 16, 20, 9)
    np.testing.assert_allclose(prepared.array, expected.numpy(), atol=1e-4)
    np.testing.assert_allclose(network_to_ras(prepared, scan), expected.affine.numpy(), atol=1e-5)


@settings(max_examples=40)
@given(size=st.tuples(*[st.integers(1, 17)] * 3), channels=st.integers(1, 2))
def test_resize_is_torchs_interpolation(size, channels):
    import torch

    scan = make_scan(shape=(7, 6, 5), channels=channels)
    prepared = prepare(scan, [{"step": "resize", "size": list(size)}], "KJI")
    expected = torch.nn.functional.interpolate(
        torch.from_numpy(scan.array)[None], size=size, mode="trilinear", align_corners=False
    )[0]
    np.testing.assert_allclose(prepared.array, expected.numpy(), atol=1e-4)
    assert_voxels_are_where_the_map_says(prepared, scan)


@settings(max_examples=60)
@given(
    code=st.sampled_from(CODES),
    axis_order=st.sampled_from(["IJK", "KJI"]),
    angles=ANGLES,
    mm=st.tuples(*[st.floats(0.4, 6)] * 3),
    interpolation=st.sampled_from(["linear", "cubic", "nearest"]),
)
def test_spacing_keeps_every_voxel_in_its_place(code, axis_order, angles, mm, interpolation):
    scan = ramp(linear=Rotation.from_euler("xyz", angles).as_matrix())
    steps = [
        {"step": "orient", "to": code},
        {"step": "spacing", "mm": list(mm), "interpolation": interpolation},
    ]
    prepared = prepare(scan, steps, axis_order)
    matrix = network_to_ras(prepared, scan)
    np.testing.assert_allclose(
        np.linalg.norm(matrix[:3, :3], axis=0), mm, rtol=1e-2
    )  # a change below a hundredth of a voxel over the whole field is left out
    for axis, size in zip(prepared.axes, mm, strict=True):
        field = scan.spacing[axis.scan_axis] * scan.shape[axis.scan_axis]
        assert abs(axis.length - field / size) <= 0.5 + 0.01 or axis.length == 1
        first_edge = axis.offset - 0.5 * axis.scale
        wanted = -0.5 if axis.scale > 0 else scan.shape[axis.scan_axis] - 0.5
        assert first_edge == pytest.approx(wanted, abs=1e-6)
    if interpolation == "linear":
        assert_voxels_are_where_the_map_says(prepared, scan)
    else:
        indices = scan_indices(prepared)
        shape = np.reshape(scan.shape, (3, 1, 1, 1))
        inside = ((indices > 4) & (indices < shape - 5)).all(axis=0)
        expected = map_coordinates(scan.array[0], indices, order=1, mode="nearest")
        tolerance = 1.06 if interpolation == "nearest" else 0.05
        assert np.abs(prepared.array[0] - expected)[inside].max(initial=0) <= tolerance


def test_beyond_the_last_voxel_the_other_axes_are_still_interpolated():
    ramp_along_j = np.broadcast_to(np.arange(9, dtype=np.float32)[:, np.newaxis], (8, 9, 10))
    scan = Scan(ramp_along_j[np.newaxis], np.eye(4), "ramp")
    step = {"step": "spacing", "mm": [1, 0.75, 1.5], "interpolation": "cubic", "align": "monai"}
    found = prepare(scan, [step], "IJK").array[0]
    assert found.shape == (10, 12, 6)  # the last plane lies half a voxel outside
    expected = np.broadcast_to(np.minimum(0.75 * np.arange(12), 8)[:, np.newaxis], found.shape)
    np.testing.assert_allclose(found[:, 2:9], expected[:, 2:9], atol=0.06)
    np.testing.assert_array_equal(found[:, :, -1], found[:, :, -2])


@settings(max_examples=60)
@given(
    code=st.sampled_from(CODES),
    axis_order=st.sampled_from(["IJK", "KJI"]),
    box=st.tuples(*[st.tuples(st.integers(0, 6), st.integers(7, 14))] * 3),
    size=st.tuples(*[st.integers(2, 30)] * 3),
    margin=st.sampled_from([0.0, 1.0, 4.1]),
)
def test_orient_crop_and_resize_together(code, axis_order, box, size, margin):
    scan = ramp()
    marked = np.zeros_like(scan.array[0])
    marked[tuple(slice(first, last) for first, last in box)] = 1
    both = Scan(np.concatenate([scan.array, 100 * marked[np.newaxis]]), scan.ijk_to_ras, "both")
    crop = {"step": "crop_foreground", "above": 50, "margin_mm": margin}
    cropped = prepare(both, [{"step": "orient", "to": code}, crop], axis_order)
    indices = scan_indices(cropped)
    np.testing.assert_array_equal(cropped.array[0], scan.array[0][tuple(indices.astype(int))])
    for axis, (first, last) in enumerate(box):
        more = math.ceil(margin / scan.spacing[axis] - 1e-6)
        assert indices[axis].min() == max(0, first - more)
        assert indices[axis].max() == min(scan.shape[axis], last + more) - 1
    steps = [{"step": "orient", "to": code}, crop, {"step": "resize", "size": list(size)}]
    resized = prepare(both, steps, axis_order)
    finer = scan_indices(resized)
    clamped = np.stack([np.clip(finer[n], indices[n].min(), indices[n].max()) for n in range(3)])
    expected = map_coordinates(scan.array[0], clamped, order=1)
    np.testing.assert_allclose(resized.array[0], expected, atol=1e-4)


def test_no_steps_leave_the_voxels_as_they_are():
    scan = make_scan()
    prepared = prepare(scan, [], "KJI")
    np.testing.assert_array_equal(prepared.array, scan.array)
    np.testing.assert_array_equal(prepare(scan, [], "IJK").array, scan.array.transpose(0, 3, 2, 1))
    same = {"step": "spacing", "mm": [2.5, 1.5000001, 0.8]}
    unmoved = prepare(scan, [same], "KJI")
    assert all(axis.scale == 1 and axis.offset == 0 for axis in unmoved.axes)
    np.testing.assert_array_equal(unmoved.array, scan.array)


@pytest.mark.parametrize(
    "step",
    [
        {},
        {"step": "sharpen"},
        {"step": ["clip"]},
        {"step": "clip", "low": 0},
        {"step": "clip", "low": 0, "high": 1, "middle": 2},
        {"step": "clip", "low": "0", "high": 1},
        {"step": "clip", "low": True, "high": 2},
        {"step": "clip", "low": 2, "high": 1},
        {"step": "clip", "low": 0, "high": math.nan},
        {"step": "clip_percentiles", "low": -1, "high": 99},
        {"step": "orient", "to": "RAR"},
        {"step": "orient", "to": "RASP"},
        {"step": "orient", "to": 5},
        {"step": "spacing", "mm": [1, 1]},
        {"step": "spacing", "mm": [1, 1, 0]},
        {"step": "spacing", "mm": 1},
        {"step": "spacing", "mm": [1, 1, 1], "interpolation": "best"},
        {"step": "spacing", "mm": [1, 1, 1], "interpolation": ["linear"]},
        {"step": "resize", "size": [4, 4, 4.5]},
        {"step": "resize", "size": [4, 4, 0]},
        {"step": "resize", "size": "444"},
        {"step": "scale_range", "from": [1, 1], "to": [0, 1]},
        {"step": "scale_range", "from": [0, 1], "to": [0, 1], "clip": 1},
        {"step": "zscore", "nonzero": "yes"},
        {"step": "crop_foreground", "above": 0, "margin_mm": -1},
        {"step": "crop_to_model", "model": "finder", "margin": 0},
        {"step": "crop_to_model", "model": 7, "margin": 0},
    ],
)
def test_wrong_steps_are_named(step):
    with pytest.raises(ScanError) as caught:
        prepare(make_scan(), [step], "IJK")
    assert caught.value.code == "scan.step"
    assert repr(step.get("step")) in str(caught.value)


def test_scans_without_what_a_step_needs():
    scan = make_scan()
    found_nothing = np.zeros(scan.shape, np.uint8)
    cases = {
        "scan.constant": [{"step": "clip", "low": 5, "high": 6}, {"step": "zscore"}],
        "scan.foreground": [{"step": "crop_foreground", "above": 7}],
        "scan.not-found": [{"step": "crop_to_model", "model": "finder", "margin": 0.1}],
    }
    for code, steps in cases.items():
        with pytest.raises(ScanError) as caught:
            prepare(scan, steps, "IJK", lambda *_: on_the_scans_grid(found_nothing))
        assert caught.value.code == code


@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak memory as Linux tells it")
def test_memory_of_a_ct_pipeline():
    code = """
import resource, numpy as np
from medptq.scans.preprocessing import prepare
from medptq.scans.scan import Scan
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
steps = [{"step": "orient", "to": "LPI"}, {"step": "spacing", "mm": [1.01, 1.01, 1.0]},
         {"step": "clip_percentiles", "low": 1, "high": 99}, {"step": "zscore"},
         {"step": "resize", "size": [255, 255, 255]}]
small = Scan(np.random.rand(1, 9, 9, 9).astype("f4"), np.eye(4), "small")
prepare(small, steps, "IJK")
scan = Scan(np.zeros((1, 256, 256, 256), np.float32), np.eye(4), "scan")
scan.array[:, ::2] = 1
before = peak()
prepare(scan, steps, "IJK")
print((peak() - before) / scan.array.nbytes)
"""
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert float(ran.stdout) < 2.4


@pytest.mark.shared_data
def test_a_real_scan_in_psr_becomes_ras():
    path = SHARED / "ixi2mm_dlmuse/images/IXI059-HH-1284_T1.nii.gz"
    if not path.exists():
        pytest.skip("ixi2mm_dlmuse is not in ../shared/data")
    scan, image = read_scan(path), nib.load(path)
    assert nib.aff2axcodes(scan.ijk_to_ras) == ("P", "S", "R")
    prepared = prepare(scan, [{"step": "orient", "to": "RAS"}], "IJK")
    expected = nib.as_closest_canonical(image)
    np.testing.assert_array_equal(prepared.array[0], expected.get_fdata(dtype=np.float32))
    np.testing.assert_allclose(network_to_ras(prepared, scan), expected.affine, atol=1e-4)
