"""Words that no command can mean."""

from __future__ import annotations

import pytest

from medptq.cli import main
from medptq.cli.parsing import parsed

LONG = "é" * 200


@pytest.mark.parametrize(
    "command",
    [
        ["inspect", LONG],
        ["segment", LONG, "scan.nii.gz", "--output", "labels.nii.gz"],
        ["segment", "deepbet", f"scans/{LONG}/scan.nii.gz", "--output", "labels.nii.gz"],
        ["quantize", "deepbet", "--scans", LONG, "--output", "int8"],
        ["benchmark", "deepbet", LONG, "--data", "data.json", "--output", "results"],
        ["import", LONG],
    ],
)
def test_a_name_that_no_file_can_have_is_wrong_usage(command, capsys):
    with pytest.raises(SystemExit) as ended:
        main(command)
    assert ended.value.code == 2
    assert "a name has at most 255 bytes, and this has 400" in capsys.readouterr().err


def test_names_of_that_many_bytes_are_looked_for(capsys, tmp_path):
    assert main(["inspect", str(tmp_path / ("é" * 127))]) == 3
    assert "a name has" not in capsys.readouterr().err


@pytest.mark.parametrize("place", range(5))
def test_options_may_stand_between_words(place):
    words = ["one", "two", "scan.nii.gz"]
    options = ["--output", "report"]
    mixed = [*words[:place], *options, *words[place:]]
    asked = parsed(["compare", *mixed])
    assert (asked.model, asked.quantized, asked.scan, asked.output) == (*words, "report")
    assert parsed(["benchmark", *mixed]).networks == words


def test_a_word_may_be_left_out_wherever_options_stand():
    for mixed in (["one", "--output", "x", "scan"], ["one", "scan", "--output", "x"]):
        asked = parsed(["compare", *mixed])
        assert (asked.model, asked.quantized, asked.scan) == ("one", None, "scan")
    assert parsed(["benchmark", "--output", "x"]).networks == []


@pytest.mark.parametrize(
    "command",
    [
        ["compare", "--output", "x"],
        ["compare", "one", "--output", "x"],
        ["compare", "one", "two", "scan", "more", "--output", "x"],
        ["compare", "one", "two", "scan"],
        ["compare", "one", "two", "scan", "--output", "x", "--unknown"],
    ],
)
def test_too_few_or_too_many_words_are_wrong_usage(command):
    with pytest.raises(SystemExit) as ended:
        parsed(command)
    assert ended.value.code == 2


def test_an_agreement_that_nothing_would_ask_for_is_wrong_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["quantize", "deepbet", "--scans", "scans", "--least-agreement", "0.9"])
    assert ended.value.code == 2
    assert "--least-agreement is asked with --auto only" in capsys.readouterr().err
