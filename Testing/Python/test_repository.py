"""What the README, the pins and the package say must fit each other."""

from __future__ import annotations

import re
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import medptq
from medptq.cli.arguments import make_parser
from medptq.models.card import read_card

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def _project() -> str:
    # tomllib is not in Python 3.10, and these lists are simple.
    return (ROOT / "pyproject.toml").read_text(encoding="utf-8")


def _requirements() -> list[Requirement]:
    project = _project()
    listed = re.search(r"^dependencies = \[(.*?)^\]", project, re.DOTALL | re.MULTILINE)
    extras = re.search(
        r"^\[project.optional-dependencies\](.*?)^\[", project, re.DOTALL | re.MULTILINE
    )
    assert listed
    assert extras
    return [Requirement(text) for text in re.findall(r'"([^"]+)"', listed[1] + extras[1])]


def test_the_card_in_the_readme_is_one_that_works(tmp_path):
    [example] = re.findall(r"```json\n(.*?)```", README, re.DOTALL)
    (tmp_path / "spleen.json").write_text(example, encoding="utf-8")
    model = read_card(tmp_path / "spleen.json", tmp_path / "spleen.onnx")
    assert [label.name for label in model.labels] == ["Spleen"]
    assert model.labels[0].coding is not None


def test_every_dependency_is_pinned_for_every_python():
    pins: dict[str, list[Requirement]] = {}
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            pin = Requirement(line)
            pins.setdefault(canonicalize_name(pin.name), []).append(pin)
    for requirement in _requirements():
        if requirement.name == "tensorrt":
            continue  # pinned when there is an engine to try it with
        for python in ("3.10", "3.11", "3.12", "3.13", "3.14"):
            environment = {"python_version": python, "python_full_version": f"{python}.0"}
            fitting = [
                pin
                for pin in pins.get(canonicalize_name(requirement.name), [])
                if pin.marker is None or pin.marker.evaluate(environment)
            ]
            assert len(fitting) == 1, f"{requirement.name} on Python {python}"
            [exact] = fitting[0].specifier
            assert exact.operator == "=="
            assert exact.version in requirement.specifier


def test_the_version_is_one():
    assert f'version = "{medptq.__version__}"' in _project()


def test_the_readme_names_every_command_and_its_pictures_are_there():
    actions = make_parser()._subparsers._group_actions  # type: ignore[union-attr]
    for command in actions[0].choices:
        assert f"medptq {command}" in README
    for target in re.findall(r"\]\(([^)#:]+)\)", README):
        assert (ROOT / target).exists(), target
