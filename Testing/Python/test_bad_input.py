"""Bad input: one clear sentence, an exit code, and nothing lost or half-written.

Every test goes through the command line, as a user does.
"""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import SimpleITK as sitk
import torch

from medptq.cli import main
from medptq.quantization.quantized_model import load_quantized_model
from quantization_helpers import export
from tiny_network import write_network, write_scan

SCAN, MODEL, OUTPUT = 3, 4, 7


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def network(tmp_path):
    return write_network(tmp_path / "network")


def _quantize(network: Path, scans: Path, output: Path, *more: str) -> int:
    command = ["quantize", str(network), "--scans", str(scans), "--output", str(output)]
    return main([*command, "--patches", "2", "--quiet", *more])


def _segment(network: Path, scan: Path, output: Path, *more: str) -> int:
    command = ["segment", str(network), str(scan), "--output", str(output)]
    return main([*command, "--engine", "pytorch", "--quiet", *more])


def _refused(status: int, expected: int, capsys, folder: Path, *words: str) -> None:
    """The command failed as it should, said so in one sentence, and left nothing behind."""
    assert status == expected
    output = capsys.readouterr()
    assert output.out == ""
    lines = output.err.strip().splitlines()
    assert len(lines) == 1, output.err
    assert "Traceback" not in output.err
    for word in words:
        assert word in lines[0], f"{word!r} is not in {lines[0]!r}"
    assert _remains(folder) == []


def _remains(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if ".medptq-part" in path.name]


def _image(array: np.ndarray, path: Path, **geometry) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = sitk.GetImageFromArray(array)
    sitk.WriteImage(image, str(path))
    return path


def test_an_empty_folder(tmp_path, network, capsys):
    (tmp_path / "empty").mkdir()
    status = _quantize(network, tmp_path / "empty", tmp_path / "out")
    _refused(status, SCAN, capsys, tmp_path, "empty", "NIfTI")
    assert not (tmp_path / "out").exists()


def test_unreadable_files_among_good_ones_are_skipped_by_name(tmp_path, network, capsys):
    for seed in range(2):
        write_scan(tmp_path / "scans" / f"good{seed}.nii.gz", seed=seed)
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"\x1f\x8b rubbish")
    (tmp_path / "scans" / "notes.txt").write_text("no image")
    assert _quantize(network, tmp_path / "scans", tmp_path / "out", "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    assert {warning.split()[0] for warning in answer["warnings"]} == {"bad.nii.gz"}
    assert answer["scans"] == 2
    assert load_quantized_model(tmp_path / "out").manifest["calibration"]["scans"] == 2


@pytest.mark.parametrize("more", [[], ["--auto"]])
def test_a_file_where_the_twin_is_to_be_is_kept(tmp_path, network, capsys, more):
    (tmp_path / "out").write_text("years of work")
    write_scan(tmp_path / "scans" / "a.nii.gz")
    status = _quantize(network, tmp_path / "scans", tmp_path / "out", "--overwrite", *more)
    _refused(status, OUTPUT, capsys, tmp_path, "it is a file")
    assert (tmp_path / "out").read_text() == "years of work"


@pytest.mark.parametrize("more", [[], ["--auto"]])
def test_other_files_where_the_twin_is_to_be_are_told_before_anything_is_done(
    tmp_path, network, capsys, more
):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.txt").write_text("years of work")
    status = _quantize(network, tmp_path / "no-scans", tmp_path / "out", "--overwrite", *more)
    _refused(status, OUTPUT, capsys, tmp_path, "thesis.txt")
    assert (tmp_path / "out" / "thesis.txt").read_text() == "years of work"


def test_only_unreadable_files(tmp_path, network, capsys):
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "bad.nii.gz").write_bytes(b"rubbish")
    status = _quantize(network, tmp_path / "scans", tmp_path / "out", "--json")
    answer = json.loads(capsys.readouterr().out)
    assert status == SCAN
    assert answer["error"]["code"] == "scan.unusable"
    assert not (tmp_path / "out").exists()


def test_a_truncated_file(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    scan.write_bytes(scan.read_bytes()[: scan.stat().st_size // 2])
    status = _segment(network, scan, tmp_path / "out.nii.gz")
    _refused(status, SCAN, capsys, tmp_path, "scan.nii.gz")
    assert not (tmp_path / "out.nii.gz").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_voxels_that_are_not_numbers(tmp_path, network, capsys, value):
    array = np.random.default_rng(0).normal(0, 1, (20, 20, 20)).astype(np.float32)
    array[3, 4, 5] = value
    scan = _image(array, tmp_path / "scan.nii.gz")
    _refused(
        _segment(network, scan, tmp_path / "o.nii.gz"),
        SCAN,
        capsys,
        tmp_path,
        "1 of its 8000 voxels",
    )


def test_a_constant_image(tmp_path, network, capsys):
    scan = _image(np.full((20, 20, 20), 7, np.int16), tmp_path / "scan.nrrd")
    _refused(_segment(network, scan, tmp_path / "o.nii.gz"), SCAN, capsys, tmp_path, "7")


def test_a_2d_image(tmp_path, network, capsys):
    array = np.random.default_rng(0).integers(0, 99, (1, 30, 30)).astype(np.int16)
    scan = _image(array, tmp_path / "scan.nii.gz")
    _refused(_segment(network, scan, tmp_path / "o.nii.gz"), SCAN, capsys, tmp_path, "2D")


def test_what_the_header_tells_is_said_before_the_network_is_built(tmp_path, network, capsys):
    scan = _image(np.zeros((1, 30, 30), np.int16), tmp_path / "scan.nii.gz")
    status = _segment(network, scan, tmp_path / "o.nii.gz", "--engine", "openvino")
    _refused(status, SCAN, capsys, tmp_path, "2D")
    assert not (tmp_path / "cache").exists()


def test_a_4d_scan_and_one_with_several_channels(tmp_path, network, capsys):
    one = sitk.GetImageFromArray(np.random.default_rng(0).random((9, 9, 9)).astype(np.float32))
    sitk.WriteImage(sitk.JoinSeries([one, one + 1]), str(tmp_path / "4d.nii.gz"))
    sitk.WriteImage(sitk.Compose(one, one + 1), str(tmp_path / "vector.nrrd"))
    for name in ("4d.nii.gz", "vector.nrrd"):
        status = _segment(network, tmp_path / name, tmp_path / "o.nii.gz")
        _refused(status, SCAN, capsys, tmp_path, "2", "1")


def test_a_scan_smaller_than_the_patch_is_padded_and_segmented(tmp_path, network):
    scan = write_scan(tmp_path / "scans" / "small.nii.gz", shape=(8, 20, 6))
    assert _segment(network, scan, tmp_path / "out.nii.gz") == 0
    labels = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "out.nii.gz")))
    assert labels.shape == (8, 20, 6)
    assert set(np.unique(labels)) == {0, 1, 2}
    assert _quantize(network, scan.parent, tmp_path / "int8") == 0


def test_singular_geometry(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii")
    content = bytearray(scan.read_bytes())
    header = np.frombuffer(content, np.dtype("<f4"), count=12, offset=280)
    assert header.any(), "the sform is where NIfTI-1 has it"
    content[280:328] = bytes(48)
    content[252:256] = b"\x00\x00\x01\x00"  # no qform, and an sform of zeros
    scan.write_bytes(content)
    _refused(_segment(network, scan, tmp_path / "o.nii.gz"), SCAN, capsys, tmp_path, "scan.nii")


def test_names_with_spaces_and_letters_of_all_alphabets(tmp_path):
    folder = tmp_path / "Ärzte und 患者 с пробелом"
    network = write_network(folder, "réseau 网络")
    scan = write_scan(folder / "scans" / "tête 头 1.nii.gz")
    assert _quantize(network, scan.parent, folder / "gé nial") == 0
    assert _segment(folder / "gé nial", scan, folder / "étiquettes 标签.nii.gz") == 0
    assert (folder / "étiquettes 标签.nii.gz").is_file()


def test_an_output_folder_that_cannot_be_written_to(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    (tmp_path / "file").write_text("kept")
    status = _segment(network, scan, tmp_path / "file" / "out.nii.gz")
    _refused(status, OUTPUT, capsys, tmp_path, "could not be written")
    status = _quantize(network, scan, tmp_path / "file" / "out")
    _refused(status, OUTPUT, capsys, tmp_path, "could not be written")
    assert (tmp_path / "file").read_text() == "kept"


def test_a_read_only_output_folder(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    sealed = tmp_path / "sealed"
    sealed.mkdir(mode=0o555)
    if os.access(sealed, os.W_OK):  # root may write everywhere but to the kernel's own folders
        sealed = Path("/sys")
        if not sealed.is_dir():
            pytest.skip("there is no folder that this user may not write to")
    status = _segment(network, scan, sealed / "out.nii.gz")
    _refused(status, OUTPUT, capsys, tmp_path, "could not be written", "Permission")
    _refused(_quantize(network, scan, sealed / "q"), OUTPUT, capsys, tmp_path, "written")


def test_a_full_disk(tmp_path, network, capsys, monkeypatch):
    """The system says that the disk is full at the last moment: when the data are flushed."""

    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    scan = write_scan(tmp_path / "scan.nii.gz")
    before = tmp_path / "before.nii.gz"
    assert _segment(network, scan, before) == 0
    content = before.read_bytes()
    capsys.readouterr()
    monkeypatch.setattr(os, "fsync", full)
    status = _segment(network, scan, before, "--overwrite")
    _refused(status, OUTPUT, capsys, tmp_path, "No space left")
    assert before.read_bytes() == content, "the result from before must stay"
    _refused(_quantize(network, scan, tmp_path / "q"), OUTPUT, capsys, tmp_path, "No space left")
    assert not (tmp_path / "q").exists()


def test_nothing_is_overwritten_unasked_and_no_strange_file_is_lost(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("kept")
    status = _quantize(network, scan, tmp_path / "mine")
    _refused(status, OUTPUT, capsys, tmp_path, "already", "--overwrite")
    status = _quantize(network, scan, tmp_path / "mine", "--overwrite")
    _refused(status, OUTPUT, capsys, tmp_path, "thesis.txt")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    (tmp_path / "labels.nii.gz").write_text("kept")
    status = _segment(network, scan, tmp_path / "labels.nii.gz")
    _refused(status, OUTPUT, capsys, tmp_path, "already")
    assert (tmp_path / "labels.nii.gz").read_text() == "kept"


def test_a_quantized_network_that_was_changed(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    assert _quantize(network, scan, tmp_path / "int8") == 0
    capsys.readouterr()
    with (tmp_path / "int8" / "int8.onnx").open("ab") as file:
        file.write(b"\0")
    status = _segment(tmp_path / "int8", scan, tmp_path / "out.nii.gz")
    _refused(status, MODEL, capsys, tmp_path, "SHA-256", "int8.onnx")


def test_a_download_with_the_wrong_sha256(tmp_path, capsys, monkeypatch):
    mirror = tmp_path / "mirror"
    mirror.mkdir()
    (mirror / "deepbet-1.0.2-py3-none-any.whl").write_bytes(b"not the wheel that is meant")
    monkeypatch.setenv("MEDPTQ_MIRROR", str(mirror))
    scan = write_scan(tmp_path / "scan.nii.gz")
    status = main(["segment", "deepbet", str(scan), "--output", str(tmp_path / "o.nii"), "--quiet"])
    _refused(status, MODEL, capsys, tmp_path, "SHA-256")


def test_an_onnx_file_that_is_no_segmentation_network(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")

    class Classifier(torch.nn.Module):
        def forward(self, image):
            return image.mean((2, 3, 4))

    export(Classifier(), (1, 1, 16, 16, 16), network)
    _refused(_segment(network, scan, tmp_path / "o.nii"), MODEL, capsys, tmp_path, "segmentation")
    network.write_bytes(b"no network at all")
    _refused(_segment(network, scan, tmp_path / "o.nii"), MODEL, capsys, tmp_path, "net.onnx")


def test_a_network_with_nothing_to_quantize(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")

    class Pointwise(torch.nn.Module):
        def forward(self, image):
            return torch.cat([image, image * 2, image * 3], 1)

    export(Pointwise(), (1, 1, 16, 16, 16), network)
    status = _quantize(network, scan, tmp_path / "q")
    _refused(status, 5, capsys, tmp_path, "no convolution")


def test_a_network_without_a_card_and_one_with_a_wrong_card(tmp_path, network, capsys):
    scan = write_scan(tmp_path / "scan.nii.gz")
    card = network.with_suffix(".json")
    content = json.loads(card.read_text(encoding="utf-8"))
    card.write_text(json.dumps({**content, "labels": content["labels"][:1]}), encoding="utf-8")
    _refused(_segment(network, scan, tmp_path / "o.nii"), MODEL, capsys, tmp_path, "3", "2")
    card.unlink()
    status = _segment(network, scan, tmp_path / "o.nii")
    assert status == MODEL
    assert "net.json" in capsys.readouterr().err


def test_a_network_that_became_infinite(tmp_path, network, capsys):
    model = onnx.load(str(network))
    for tensor in model.graph.initializer:
        if tensor.name.endswith("bias"):
            array = onnx.numpy_helper.to_array(tensor).copy()
            array[0] = np.inf
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))
    onnx.save(model, str(network))
    scan = write_scan(tmp_path / "scan.nii.gz")
    status = _quantize(network, scan, tmp_path / "q")
    _refused(status, 5, capsys, tmp_path, "infinite")


def test_wrong_usage_is_exit_code_2(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["quantize", "deepbet"])
    assert caught.value.code == 2
    assert "--scans" in capsys.readouterr().err
