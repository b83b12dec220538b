"""What marks other programs' model folders."""

from __future__ import annotations

from pathlib import Path

import pytest

from medptq.models.foreign import FORMATS, format_of, roots_of

MARKS = [(name, mark) for name, found in FORMATS.items() for mark in found.marks]


def write(folder: Path, names: tuple[str, ...]) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_is_known_by_its_marks(name: str, tmp_path: Path) -> None:
    assert format_of(write(tmp_path, FORMATS[name].marks)) is FORMATS[name]


@pytest.mark.parametrize(("name", "missing"), MARKS)
def test_it_has_all_of_them(name: str, missing: str, tmp_path: Path) -> None:
    others = tuple(mark for mark in FORMATS[name].marks if mark != missing)
    assert format_of(write(tmp_path, others)) is None
    assert roots_of(others) == []


def test_they_are_found_by_the_names_in_an_archive() -> None:
    names = [
        "readme.md",
        "b/x/plans.json",
        "b/x/dataset.json",
        "b/x/fold_0/checkpoint_final.pth",
        "a/configs/metadata.json",
        "a/docs/metadata.json",
        "c/plans.json",
        "d/myconfigs/metadata.json",
    ]
    assert roots_of(names) == ["a", "b/x"]
    assert roots_of(names, [FORMATS["nnunet"]]) == ["b/x"]
    assert roots_of(["plans.json", "dataset.json"]) == ["."]
