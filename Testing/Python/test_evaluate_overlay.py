"""What is in the picture: colours where labels are, orientation, proportions."""

from __future__ import annotations

import io
from itertools import permutations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nibabel.orientations import io_orientation
from PIL import Image
from scipy import ndimage

from medptq.evaluate import drawing, overlay, planes
from medptq.evaluate.overlay import DISAGREEMENT, png_bytes, render_overlay
from medptq.models.segmentation_model import Label
from medptq.scans.scan import Scan

RED = (250, 40, 30)
LABELS = (Label(1, "Liver", RED), Label(2, "Spleen", (40, 90, 250)))


def scan_of(array: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0)) -> Scan:
    """Return a RAS scan of [K, J, I] intensities; spacing along (K, J, I)."""
    affine = np.diag([*spacing[::-1], 1.0])
    affine[:3, 3] = (-11.0, 7.0, 23.0)
    return Scan(array[None].astype(np.float32), affine, "Jane Doe")


def head(shape: tuple[int, int, int] = (24, 28, 20), seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=shape)
    return 100 + 400 * ndimage.gaussian_filter(noise, 1.5)


def box_in(shape: tuple[int, int, int], where: tuple[slice, slice, slice]) -> np.ndarray:
    labels = np.zeros(shape, dtype=np.uint8)
    labels[where] = 1
    return labels


def pixels_of(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def panels(image: Image.Image, columns: int) -> list[list[np.ndarray]]:
    """Return the panels as [column][row], found by the background between them."""
    pixels = pixels_of(image)
    middle = pixels[:, overlay._MARGIN]
    rows = ndimage.find_objects(ndimage.label((middle == 0).all(axis=1))[0])
    row_spans = [found[0] for found in rows if found[0].stop - found[0].start > 60][:3]
    across = (pixels[row_spans[0]] == overlay.BACKGROUND).all(axis=(0, 2))
    column_spans = [found[0] for found in ndimage.find_objects(ndimage.label(~across)[0])]
    assert (len(row_spans), len(column_spans)) == (3, columns)
    return [[pixels[row, column] for row in row_spans] for column in column_spans]


def extent(panel: np.ndarray, color: tuple[int, int, int]) -> tuple[int, int]:
    rows, columns = np.nonzero((panel == color).all(axis=2))
    assert len(rows), "the colour is not there"
    return np.ptp(rows) + 1, np.ptp(columns) + 1


def black_scan(shape: tuple[int, int, int]) -> np.ndarray:
    array = np.zeros(shape)
    array[0, 0, 0] = 1
    return array


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (5.0, 0.8, 0.8), (0.5, 2.0, 1.0)])
def test_a_cube_is_square_in_every_plane(spacing: tuple[float, float, float]) -> None:
    shape = tuple(round(120 / mm) for mm in spacing)
    middle = tuple(slice(round(40 / mm), round(80 / mm)) for mm in spacing)
    image = render_overlay(
        scan_of(black_scan(shape), spacing), [("FP32", box_in(shape, middle))], LABELS
    )
    sizes = [extent(panel, RED) for panel in panels(image, 1)[0]]
    for height, width in sizes:
        assert height == pytest.approx(width, abs=3)
        assert height == pytest.approx(sizes[0][0], abs=3)


def test_the_inside_is_tinted_and_the_outline_pure() -> None:
    shape = (30, 30, 30)
    labels = box_in(shape, (slice(8, 22),) * 3)
    scan = scan_of(np.full(shape, 50.0) + black_scan(shape))
    plain, painted = (
        panel[0]
        for panel in panels(render_overlay(scan, [("Scan", None), ("INT8", labels)], LABELS), 2)
    )
    middle = tuple(length // 2 for length in painted.shape[:2])
    grey = plain[middle]
    expected = np.array(grey) * (1 - drawing.FILL) + np.array(RED) * drawing.FILL
    assert painted[middle] == pytest.approx(expected, abs=2)
    pure = (painted == RED).all(axis=2)
    perimeter = sum(2 * side for side in extent(painted, RED))
    assert pure.sum() == pytest.approx(drawing.OUTLINE_PX * perimeter, rel=0.1)
    assert not (plain == RED).all(axis=2).any()


def test_every_voxel_that_differs_is_seen_even_if_the_scan_is_large() -> None:
    shape = (8, 900, 900)
    differs = np.zeros(shape, dtype=bool)
    differs[4, 450, 450] = True
    a = box_in(shape, (slice(2, 6), slice(200, 700), slice(200, 700)))
    image = render_overlay(
        scan_of(black_scan(shape), (1.0, 0.4, 0.4)), [("FP32", a), ("Differs", differs)], LABELS
    )
    fp32, loud = panels(image, 2)
    assert (loud[0] == DISAGREEMENT).all(axis=2).sum() >= 9
    assert not (fp32[0] == DISAGREEMENT).all(axis=2).any()


def test_it_shows_the_planes_with_most_in_them() -> None:
    shape = (20, 22, 24)
    labels = np.zeros(shape, dtype=np.uint8)
    labels[3, 2:20, 2:22] = 1
    labels[5:15, 10, 11] = 1
    scan = scan_of(head(shape))
    orientation = planes.orientation_of(scan.ijk_to_ras)
    assert planes.busiest(orientation.apply(labels) > 0) == (11, 10, 3)
    place = planes.position_mm(scan.ijk_to_ras, shape, planes.PLANES[0], 3)
    assert place == pytest.approx(23 + 3)


def reoriented(
    array: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same scan with its axes (I, J, K) permuted and flipped in the file."""
    ijk = array.transpose(2, 1, 0).transpose(order)
    new_to_old = np.zeros((4, 4))
    new_to_old[3, 3] = 1
    for new, (old, flip) in enumerate(zip(order, flips, strict=True)):
        new_to_old[old, new] = -1 if flip else 1
        if flip:
            new_to_old[old, 3] = ijk.shape[new] - 1
            ijk = np.flip(ijk, new)
    return np.ascontiguousarray(ijk.transpose(2, 1, 0)), affine @ new_to_old


def test_the_picture_is_the_same_however_the_file_is_stored() -> None:
    array = head()
    labels = (array > 110).astype(np.uint8)
    other = (array > 112).astype(np.uint8)
    affine = np.array([[1.1, 0.1, 0, -4], [-0.1, 0.9, 0.2, 3], [0, -0.1, 2, 9], [0, 0, 0, 1.0]])
    stored = [
        (order, flips)
        for order in permutations(range(3))
        for flips in product((False, True), repeat=3)
    ]
    pictures = set()
    for order, flips in stored[::5]:
        scan_array, scan_affine = reoriented(array, affine, order, flips)
        maps = [reoriented(m, affine, order, flips)[0] for m in (labels, other)]
        columns = [("Scan", None), ("FP32", maps[0]), ("Differs", maps[0] != maps[1])]
        scan = Scan(scan_array[None].astype(np.float32), scan_affine, "x")
        # The footer tells the voxel size along the file's own axes, so it is left out.
        image = render_overlay(scan, columns, LABELS)
        pictures.add(image.crop((0, 0, image.width, image.height - 44)).tobytes())
    assert len(stored[::5]) == 10
    assert len(pictures) == 1


@pytest.mark.parametrize(
    ("corner", "plane", "left", "top"),
    [
        ("R", 0, True, None),
        ("A", 0, None, True),
        ("R", 1, True, None),
        ("S", 1, None, True),
        ("A", 2, True, None),
        ("S", 2, None, True),
    ],
)
def test_radiological_convention(
    corner: str, plane: int, left: bool | None, top: bool | None
) -> None:
    shape = (40, 40, 40)
    half = slice(24, 38)
    where = {
        "R": (slice(10, 30), slice(10, 30), half),
        "A": (slice(10, 30), half, slice(10, 30)),
        "S": (half, slice(10, 30), slice(10, 30)),
    }[corner]
    labels = box_in(shape, where)
    labels[20, 20, 2:38] = labels[20, 2:38, 20] = labels[2:38, 20, 20] = 2
    image = render_overlay(scan_of(black_scan(shape)), [("FP32", labels)], LABELS)
    panel = panels(image, 1)[0][plane]
    rows, columns = np.nonzero((panel == RED).all(axis=2))
    if left is not None:
        assert (columns.mean() < panel.shape[1] / 2) == left
    if top is not None:
        assert (rows.mean() < panel.shape[0] / 2) == top
    edges = planes.PLANES[plane].edges
    assert corner == (edges[0] if left is not None else edges[2])


@given(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3), st.integers(0, 10**6))
def test_orientation_is_that_of_nibabel(
    order: list[int], flips: tuple[bool, bool, bool], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    tilt, _ = np.linalg.qr(np.eye(3) + rng.normal(scale=0.12, size=(3, 3)))
    tilt *= np.sign(np.diag(tilt))
    directions = tilt[:, order] * np.where(flips, -1, 1)
    affine = np.eye(4)
    affine[:3, :3] = directions * rng.uniform(0.4, 5, 3)
    found = planes.orientation_of(affine)
    for ijk, (world, sign) in enumerate(io_orientation(affine).astype(int)):
        assert found.order[world] == 2 - ijk
        assert found.flipped[world] == (sign < 0)
        assert found.spacing[world] == pytest.approx(np.linalg.norm(affine[:3, ijk]))


@given(st.data())
def test_the_field_holds_the_foreground_and_half_of_the_scan(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 60)] * 3))
    corner = [data.draw(st.integers(0, length - 1)) for length in shape]
    end = [data.draw(st.integers(c + 1, n)) for c, n in zip(corner, shape, strict=True)]
    foreground = np.zeros(shape, dtype=bool)
    foreground[tuple(slice(c, e) for c, e in zip(corner, end, strict=True))] = True
    field = planes.field_around(foreground, (1.0, 2.0, 0.7))
    for (lo, hi), c, e, length in zip(field, corner, end, shape, strict=True):
        assert 0 <= lo <= c
        assert e <= hi <= length
        assert hi - lo >= length / 2


def test_more_labels_than_fit_are_counted() -> None:
    labels = np.arange(4 * 5 * 6, dtype=np.uint8).reshape(4, 5, 6)
    known = [Label(value, f"Structure {value}", (value, 100, 200)) for value in range(1, 120)]
    entries, left_out = overlay._legend(known, [labels])
    assert len(entries) == 16
    assert left_out == 119 - 16
    few, none_left = overlay._legend(known[:16], [labels])
    assert [label.value for label in few] == list(range(1, 17))
    assert none_left == 0


def test_ct_is_shown_in_the_soft_tissue_window() -> None:
    array = np.linspace(-1000, 1000, 1000).reshape(10, 10, 10)
    assert drawing.window_of(array, "CT") == (-160, 240)
    low, high = drawing.window_of(array, "MR T1w")
    assert low == pytest.approx(-990, abs=5)
    assert high == pytest.approx(990, abs=5)


@pytest.mark.parametrize(
    "shape", [(1, 30, 30), (3, 200, 200), (300, 12, 12)], ids=["one slice", "slab", "tall"]
)
def test_odd_shapes_and_empty_maps_are_drawn(shape: tuple[int, int, int]) -> None:
    empty = np.zeros(shape, dtype=np.uint16)
    columns = [("Scan", None), ("FP32", empty), ("Differs", empty != empty)]
    image = render_overlay(scan_of(np.zeros(shape)), columns, [Label(1, "Größe 脾", RED)])
    assert min(image.size) > 300
    again = Image.open(io.BytesIO(png_bytes(image)))
    assert again.size == image.size
