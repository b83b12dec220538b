"""DICOM series: found, ordered and read, or refused where they are no volume."""

from __future__ import annotations

import shutil
import struct
from pathlib import Path

import numpy as np
import pydicom
import pytest
import SimpleITK as sitk

from medptq.errors import ScanError
from medptq.progress import Reporter
from medptq.scans.reading import ScanSource, find_scans, read_scan

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
VOXELS = np.random.default_rng(0).integers(-1000, 1000, (5, 6, 7)).astype(np.int16)
AXIAL = np.eye(3)


def write_series(
    folder: Path,
    offsets,
    direction: np.ndarray = AXIAL,
    series: str = "1.2.3.4",
    step=None,
    prefix: str = "",
    tags: dict[str, str] | None = None,
) -> None:
    """Write one slice for each offset, so many mm along ``step`` (the normal, if it is None)."""
    folder.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    step = direction[:, 2] if step is None else np.array(step)
    for number, offset in enumerate(offsets):
        image = sitk.GetImageFromArray(VOXELS[number % 5][np.newaxis])
        image.SetSpacing((0.5, 0.75, 1.0))
        position = np.array([-10.0, 20.0, 30.0]) + offset * step
        for key, value in {
            "0008|0060": "CT",
            "0008|0018": f"{series}.{number}",
            "0020|000d": "1.2.3",
            "0020|000e": series,
            "0020|0013": str(number),
            "0020|0032": "\\".join(f"{value:.6f}" for value in position),
            "0020|0037": "\\".join(f"{value:.8f}" for value in direction[:, :2].T.ravel()),
            **(tags or {}),
        }.items():
            image.SetMetaData(key, value)
        image.SetOrigin(position.tolist())
        image.SetDirection(direction.ravel().tolist())
        # The names run against the order of the places.
        writer.SetFileName(str(folder / f"{prefix}IM{99 - number}"))
        writer.SetImageIO("GDCMImageIO")
        writer.Execute(image)


def write_report(path: Path) -> None:
    """Write a structured report: a DICOM object without an image."""

    def element(group: int, number: int, kind: str, value: bytes) -> bytes:
        value += (b"\0" if kind == "UI" else b" ") * (len(value) % 2)
        return struct.pack("<HH2sH", group, number, kind.encode(), len(value)) + value

    sort = b"1.2.840.10008.5.1.4.1.1.88.11"
    meta = element(2, 2, "UI", sort) + element(2, 3, "UI", b"1.9")
    meta += element(2, 0x10, "UI", b"1.2.840.10008.1.2.1")
    body = element(8, 0x16, "UI", sort) + element(8, 0x18, "UI", b"1.9")
    body += element(8, 0x60, "CS", b"SR") + element(0x20, 0xE, "UI", b"1.2.9")
    length = element(2, 0, "UL", struct.pack("<I", len(meta)))
    path.write_bytes(bytes(128) + b"DICM" + length + meta + body)


def rotated() -> np.ndarray:
    cosine, sine = np.cos(0.3), np.sin(0.3)
    return np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]])


def refusal(folder: Path) -> str:
    with pytest.raises(ScanError) as caught:
        read_scan(folder)
    return caught.value.code


@pytest.mark.parametrize("direction", [AXIAL, rotated(), rotated()[:, [1, 2, 0]]])
@pytest.mark.parametrize("way", [1, -1])
def test_a_series_is_read_in_the_order_of_its_places(tmp_path, direction, way):
    folder = tmp_path / "CT thorax"
    write_series(folder, [2.5 * way * n for n in range(5)], direction)
    scan = read_scan(folder)
    assert scan.name == "CT thorax"
    assert scan.shape == (5, 6, 7)
    np.testing.assert_allclose(scan.spacing, (2.5, 0.75, 0.5), rtol=1e-6)
    # Every slice's corner lies where its header says, whatever its index became.
    for number in range(5):
        k = number if way == 1 else 4 - number
        np.testing.assert_array_equal(scan.array[0, k], VOXELS[number])
        place = [-10, 20, 30] + 2.5 * way * number * direction[:, 2]
        ras = scan.ijk_to_ras @ [0, 0, k, 1]
        np.testing.assert_allclose(ras[:3] * [-1, -1, 1], place, atol=1e-5)
    along_i = scan.ijk_to_ras[:3, 0] * [-1, -1, 1]
    np.testing.assert_allclose(along_i, 0.5 * direction[:, 0], atol=1e-7)


def test_intensities_are_rescaled(tmp_path):
    write_series(tmp_path, range(5), tags={"0028|1052": "-1000", "0028|1053": "2"})
    plain = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "IM99")))
    np.testing.assert_array_equal(read_scan(tmp_path).array[0, 0], plain[0])
    np.testing.assert_allclose(plain[0], VOXELS[0], atol=2)


def test_several_series_in_one_folder_and_below_it(tmp_path):
    write_series(tmp_path / "study", range(5), series="1.2.1", prefix="a")
    write_series(tmp_path / "study", range(4), series="1.2.2", prefix="b")
    write_series(tmp_path / "study/more", range(3), series="1.2.3")
    write_report(tmp_path / "study/report.dcm")
    (tmp_path / "study/notes.txt").write_text("hello")
    warnings: list[str] = []
    found = find_scans(tmp_path, Reporter(on_warning=warnings.append))
    assert sorted(len(source.paths) for source in found) == [3, 4, 5]
    assert {source.name for source in found} == {"study-1", "study-2", "more"}
    assert found == find_scans(tmp_path, Reporter())
    for source in found:
        assert read_scan(source).shape == (len(source.paths), 6, 7)
    assert len(warnings) == 1
    assert "1 DICOM file" in warnings[0]


def test_a_series_in_several_folders_is_told(tmp_path):
    write_series(tmp_path / "a", range(5))
    write_series(tmp_path / "b", range(5, 9))
    write_series(tmp_path / "c", range(5), series="1.2.3.5")
    warnings: list[str] = []
    found = find_scans(tmp_path, Reporter(on_warning=warnings.append))
    assert [len(source.paths) for source in found] == [5, 4, 5]
    assert len(warnings) == 1
    assert f"2 folders, such as {tmp_path / 'a'} and {tmp_path / 'b'}" in warnings[0]


def test_a_localizer_does_not_spoil_the_series_of_the_same_uid(tmp_path):
    write_series(tmp_path, range(5), prefix="a")
    write_series(tmp_path, [7], rotated(), prefix="b")
    assert sorted(len(source.paths) for source in find_scans(tmp_path, Reporter())) == [1, 5]


def test_a_segmentation_object_is_no_scan(tmp_path):
    write_series(tmp_path / "ct", range(5))
    write_series(tmp_path / "seg", range(5), series="1.2.8", tags={"0008|0060": "SEG"})
    assert [source.name for source in find_scans(tmp_path, Reporter())] == ["ct"]


def test_a_folder_of_reports_holds_no_scan(tmp_path):
    write_report(tmp_path / "report.dcm")
    assert refusal(tmp_path) == "scan.empty"


def test_finding_stops_when_asked_to(tmp_path):
    write_series(tmp_path, range(5))
    with pytest.raises(Exception, match="cancelled"):
        find_scans(tmp_path, Reporter(cancelled=lambda: True))


@pytest.mark.parametrize(
    ("offsets", "code"),
    [
        ([0, 2, 4, 8, 10], "scan.missing-slices"),
        ([0, 4, 6, 8, 10], "scan.missing-slices"),
        ([0, 1, 2, 3, 3], "scan.duplicate-slices"),
        ([0, 0, 1, 1, 2, 2], "scan.duplicate-slices"),
        ([0, 1, 2.2, 3.6, 5], "scan.uneven-slices"),
    ],
)
def test_slices_that_do_not_fill_a_box_are_refused(tmp_path, offsets, code):
    write_series(tmp_path, offsets)
    assert refusal(tmp_path) == code


def test_places_rounded_by_the_scanner_are_accepted(tmp_path):
    write_series(tmp_path, [0, 1.2, 2.5, 3.7, 5.0])
    np.testing.assert_allclose(read_scan(tmp_path).spacing[0], 1.25, rtol=1e-6)


def test_a_tilted_gantry_is_refused(tmp_path):
    write_series(tmp_path, [2.5 * n for n in range(5)], step=[0, np.sin(0.2), np.cos(0.2)])
    assert refusal(tmp_path) == "scan.sheared"


def test_a_single_slice_is_refused_and_the_folder_named(tmp_path):
    write_series(tmp_path, [0])
    with pytest.raises(ScanError, match="folder with all slices") as caught:
        read_scan(tmp_path)
    assert caught.value.code == "scan.2d"


def test_a_damaged_or_missing_slice(tmp_path):
    write_series(tmp_path, range(5))
    (source,) = find_scans(tmp_path, Reporter())
    victim = source.paths[2]
    content = victim.read_bytes()
    victim.write_bytes(content[:-20])
    with pytest.raises(ScanError) as caught:
        read_scan(source)
    assert caught.value.code == "scan.corrupt"
    # Found anew, it is left out with a warning, and what is left has a hole.
    warnings: list[str] = []
    (rest,) = find_scans(tmp_path, Reporter(on_warning=warnings.append))
    assert len(warnings) == 1
    assert len(rest.paths) == 4
    victim.unlink()
    for broken, code in ((source, "scan.missing"), (rest, "scan.missing-slices")):
        with pytest.raises(ScanError) as caught:
            read_scan(broken)
        assert caught.value.code == code


def test_a_multi_frame_file_is_a_series_by_itself(tmp_path):
    frames = (VOXELS % 256).astype(np.uint8)
    sitk.WriteImage(sitk.GetImageFromArray(frames), str(tmp_path / "frames.dcm"))
    (source,) = find_scans(tmp_path, Reporter())
    np.testing.assert_array_equal(read_scan(source).array[0], frames)


def write_enhanced(path: Path, positions) -> None:
    """Write an enhanced MR object: a file of frames, each with a position (None for none)."""
    file = pydicom.Dataset()
    file.file_meta = pydicom.dataset.FileMetaDataset()
    file.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    kind = "1.2.840.10008.5.1.4.1.1.4.1"
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID = kind
    file.file_meta.MediaStorageSOPInstanceUID = file.SOPInstanceUID = "1.2.3.4.5"
    file.Modality, file.SeriesInstanceUID = "MR", "1.2.3.4"
    file.PatientName = "Nobody"
    frames = np.stack([VOXELS[number % 5] for number in range(len(positions))]).astype(np.uint16)
    file.NumberOfFrames, file.Rows, file.Columns = frames.shape
    file.SamplesPerPixel, file.PhotometricInterpretation = 1, "MONOCHROME2"
    file.BitsAllocated, file.BitsStored, file.HighBit, file.PixelRepresentation = 16, 16, 15, 0
    file.PixelData = frames.tobytes()
    shared, measures, plane = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
    measures.PixelSpacing, measures.SliceThickness = [0.75, 0.5], 2.0
    plane.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
    file.SharedFunctionalGroupsSequence = [shared]
    file.PerFrameFunctionalGroupsSequence = []
    for position in positions:
        frame = pydicom.Dataset()
        if position is not None:
            place = pydicom.Dataset()
            place.ImagePositionPatient = list(position)
            frame.PlanePositionSequence = [place]
        file.PerFrameFunctionalGroupsSequence.append(frame)
    file.save_as(path, enforce_file_format=True)


def along_z(*offsets: float) -> list[tuple[float, float, float]]:
    return [(-10.0, 20.0, float(offset)) for offset in offsets]


@pytest.mark.parametrize("step", [2.0, -2.0])
def test_frames_are_read_where_they_lie(tmp_path, step):
    places = along_z(*(step * number for number in range(5)))
    write_enhanced(tmp_path / "enhanced.dcm", places)
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(scan.array[0], VOXELS.astype(np.uint16))
    for frame, (left, posterior, superior) in enumerate(places):
        place = scan.ijk_to_ras @ [0, 0, frame, 1]
        np.testing.assert_allclose(place, [-left, -posterior, superior, 1], atol=1e-6)
    np.testing.assert_allclose(scan.spacing, (2.0, 0.75, 0.5))


@pytest.mark.parametrize(
    ("positions", "code"),
    [
        (along_z(0, 2, 4, 10, 12), "missing-slices"),
        (along_z(0, 2, 4, 0, 2, 4), "duplicate-slices"),
        (along_z(0, 0, 2, 2, 4, 4), "duplicate-slices"),
        (along_z(0, 8, 2, 6, 4), "uneven-slices"),
        ([(0.0, float(number), 2.0 * number) for number in range(5)], "sheared"),
        ([*along_z(0, 2, 4), None], "no-position"),
    ],
)
def test_frames_that_do_not_fill_a_box_are_refused(tmp_path, positions, code):
    write_enhanced(tmp_path / "enhanced.dcm", positions)
    assert refusal(tmp_path) == f"scan.{code}"


def test_a_series_is_one_however_its_spacing_is_written(tmp_path):
    write_series(tmp_path, range(6))
    for path in sorted(tmp_path.iterdir())[::2]:
        file = pydicom.dcmread(path)
        file.PixelSpacing = ["0.7500", "0.50000"]
        file.save_as(path)
        assert b"0.7500\\0.50000" in path.read_bytes()
    [source] = find_scans(tmp_path, Reporter())
    assert len(source.paths) == 6


def test_nothing_is_printed(tmp_path, capfd):
    write_series(tmp_path, [0, 1, 2, 4, 5])
    refusal(tmp_path)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")


@pytest.mark.shared_data
def test_a_real_series_and_one_slice_less(tmp_path):
    folder = SHARED / "ct_totalseg_example" / "dicom"
    if not folder.is_dir():
        pytest.skip("ct_totalseg_example is not in ../shared/data")
    (source,) = find_scans(folder, Reporter())
    scan = read_scan(source)
    assert scan.shape == (20, 512, 512)
    np.testing.assert_allclose(scan.spacing, (2.0, 0.9765625, 0.9765625))
    labels = sitk.ReadImage(str(folder.parent / "example_seg_dicom.nii.gz"))
    assert labels.GetSize() == scan.shape[::-1]
    assert -1100 < scan.array.min() < -900  # air, in Hounsfield units
    assert isinstance(source, ScanSource)
    for path in source.paths[:4] + source.paths[5:9]:
        shutil.copy(path, tmp_path / path.name)
    assert refusal(tmp_path) == "scan.missing-slices"
