"""The card: what it says, what it may leave out, and what is refused."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medptq.errors import ModelError
from medptq.models import checked_json
from medptq.models.card import EXAMPLE, card_of, model_of, read_card
from medptq.models.segmentation_model import Provenance
from medptq.scans.prepared import AxisMap, Located
from medptq.scans.preprocessing import prepare
from medptq.scans.scan import Scan

ONNX = Path("network.onnx")

text = st.text(max_size=30)
number = st.integers(-1000, 1000) | st.floats(-1e6, 1e6)
size = st.lists(st.integers(1, 512), min_size=3, max_size=3)
ascending = st.tuples(number, number).map(sorted).filter(lambda pair: pair[0] < pair[1])
orientation = st.permutations(["LR", "PA", "IS"]).flatmap(
    lambda axes: st.tuples(*(st.sampled_from(axis) for axis in axes)).map("".join)
)


def step(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({"step": st.just(name), **arguments})


preprocessing_steps = st.one_of(
    step("orient", to=orientation),
    step("spacing", mm=st.lists(st.floats(0.1, 10), min_size=3, max_size=3)),
    step(
        "spacing",
        mm=st.just([1, 1, 1]),
        interpolation=st.sampled_from(["linear", "cubic", "nearest"]),
        align=st.sampled_from(["edges", "monai"]),
    ),
    step("resize", size=size),
    ascending.map(lambda pair: {"step": "clip", "low": pair[0], "high": pair[1]}),
    step("clip_percentiles", low=st.floats(0, 49), high=st.floats(50, 100)),
    step("scale_range", **{"from": ascending, "to": ascending}, clip=st.booleans()),
    step("zscore", nonzero=st.booleans(), filled=st.booleans(), channels=st.just([0])),
    step("transpose", order=st.permutations([0, 1, 2])),
    step("spacing_nnunet", mm=st.just([1, 2, 3]), separate=st.booleans()),
    step("crop_nonzero"),
    step("minmax", to=ascending),
    step("scale", factor=number, offset=number),
    step("crop_foreground", above=number, margin_mm=st.floats(0, 50)),
    step("crop_to_model", model=st.just("deepbet-locator"), margin=st.floats(0, 1)),
    step("pad_with", value=number),
)


@st.composite
def cards(draw: st.DrawFn) -> dict[str, Any]:
    values = draw(st.lists(st.integers(1, 65535), min_size=1, max_size=5, unique=True))
    snomed = st.fixed_dictionaries(
        {"code": st.from_regex(r"\A[1-9][0-9]{5,10}\Z"), "meaning": st.text(min_size=1, max_size=9)}
    )
    labels = [
        draw(
            st.fixed_dictionaries(
                {
                    "value": st.just(value),
                    "name": st.text(min_size=1, max_size=20),
                    "color": st.lists(st.integers(0, 255), min_size=3, max_size=3),
                },
                optional={"snomed": snomed},
            )
        )
        for value in values
    ]
    post = step(
        draw(st.sampled_from(["largest_component", "fill_holes"])),
        labels=st.lists(st.sampled_from(values), min_size=1, unique=True),
        connectivity=st.sampled_from(["faces", "corners"]),
    )
    return draw(
        st.fixed_dictionaries(
            {
                "schema": st.just(1),
                "id": st.from_regex(r"\A[A-Za-z0-9][A-Za-z0-9_-]{0,20}\Z").filter(
                    lambda name: not re.fullmatch("con|prn|aux|nul|com[0-9]|lpt[0-9]", name.lower())
                ),
                "modality": st.sampled_from(["CT", "MR", "MR T1w"]),
                "input": st.fixed_dictionaries(
                    {"patch_size": size},
                    optional={
                        "channels": st.integers(1, 8),
                        "axis_order": st.sampled_from(["IJK", "KJI"]),
                        "overlap": st.floats(0, 0.99),
                    },
                ),
                "preprocessing": st.lists(preprocessing_steps, max_size=5),
                "labels": st.just(labels),
            },
            optional={
                "title": text,
                "task": text,
                "region": text,
                "output": st.fixed_dictionaries(
                    {},
                    optional={
                        "blending": st.sampled_from(["gaussian", "constant", "nnunet"]),
                        "interpolated": st.sampled_from(["outputs", "probabilities", "labels"]),
                    },
                ),
                "postprocessing": st.lists(post, max_size=2),
                "source": text,
                "licence": text,
                "citation": text,
            },
        )
    )


@given(card=cards())
@settings(max_examples=50)
def test_what_was_written_is_read_back(
    card: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    model = model_of(card, ONNX, "The card")
    path = tmp_path_factory.mktemp("card") / "card.json"
    path.write_text(json.dumps(card_of(model)), encoding="utf-8")

    assert read_card(path, ONNX) == model


@given(card=cards())
@settings(max_examples=50)
def test_the_model_says_what_the_card_says(card: dict[str, Any]) -> None:
    written = card_of(model_of(card, ONNX, "The card"))

    for key, value in card.items():
        if key in ("input", "output"):
            assert value.items() <= written[key].items()
        else:
            assert written[key] == value


def test_the_example_can_be_used_and_the_rest_has_the_documented_defaults() -> None:
    model = model_of(EXAMPLE, ONNX, "The example")

    assert model.onnx == ONNX
    assert model.title == model.id == "my-network"
    assert (model.task, model.region) == ("", "")
    assert (model.channels, model.axis_order, model.overlap) == (1, "IJK", 0.5)
    assert model.postprocessing == ()
    assert model.provenance == Provenance(source="", licence="", citation="")
    assert model.classes == 2


STEPS: list[dict[str, Any]] = [
    {"step": "orient", "to": "LPS"},
    {"step": "transpose", "order": [2, 0, 1]},
    {"step": "spacing", "mm": [1, 2, 3], "interpolation": "nearest", "align": "monai"},
    {"step": "spacing_nnunet", "mm": [4, 1, 1], "separate": True},
    {"step": "resize", "size": [4, 5, 6]},
    {"step": "clip", "low": 0, "high": 50},
    {"step": "clip_percentiles", "low": 1, "high": 99},
    {"step": "scale_range", "from": [0, 100], "to": [0, 1], "clip": True},
    {"step": "zscore", "nonzero": True, "filled": True, "channels": [0]},
    {"step": "minmax", "to": [-1, 1]},
    {"step": "scale", "factor": 2, "offset": 1},
    {"step": "crop_foreground", "above": 10, "margin_mm": 1},
    {"step": "crop_nonzero"},
    {"step": "crop_to_model", "model": "deepbet-locator", "labels": [1], "margin": 0.1},
    {"step": "pad_with", "value": 0},
]


@pytest.mark.parametrize("step", STEPS, ids=lambda step: step["step"])
def test_every_step_that_a_card_may_name_can_be_done(step: dict[str, Any]) -> None:
    array = np.arange(8 * 9 * 10, dtype=np.float32).reshape(1, 8, 9, 10)
    scan = Scan(array, np.diag([1.0, 2.0, 3.0, 1.0]), "scan")
    model = model_of({**EXAMPLE, "preprocessing": [step]}, ONNX, "The card")

    own = AxisMap(0, 1.0, 0.0, 8), AxisMap(1, 1.0, 0.0, 9), AxisMap(2, 1.0, 0.0, 10)
    found = Located(np.ones((8, 9, 10), np.uint8), own, 0.0)
    prepared = prepare(scan, model.preprocessing, model.axis_order, lambda *_: found)

    assert prepared.array.ndim == 4


def test_the_steps_above_are_all_that_there_are() -> None:
    schema = json.loads(Path(checked_json.__file__).with_name("card.schema.json").read_text())
    names = schema["definitions"]["preprocessing_step"]["allOf"][0]["properties"]["step"]["enum"]

    assert [step["step"] for step in STEPS] == names


def add(step: dict[str, Any]) -> Callable[[dict[str, Any]], None]:
    return lambda card: card["preprocessing"].insert(0, step)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda card: card.pop("id"), 'lacks the field "id"'),
        (lambda card: card.update(patch=1), 'unknown field "patch"'),
        (lambda card: card["input"].update(patch=1), '"input" has the unknown field "patch"'),
        (lambda card: card.update(schema=2), '"schema" must be 1'),
        (lambda card: card.update(id="../net"), '"id" is "../net", not of the form wanted'),
        (lambda card: card.update(id="net\n"), '"id"'),
        (lambda card: card.update(id="Con"), '"id"'),  # no folder of Windows'
        (lambda card: card.update(id="lpt1"), '"id"'),
        (lambda card: card.update(modality=3), '"modality" must be string'),
        (lambda card: card["input"].update(patch_size=[96, 96]), '"input.patch_size"'),
        (lambda card: card["input"].update(patch_size=[96, 96, 0]), '"input.patch_size[2]"'),
        (lambda card: card["input"].update(overlap=1), '"input.overlap"'),
        (lambda card: card["input"].update(axis_order="JIK"), '"IJK", "KJI"'),
        (lambda card: card.update(labels=[]), '"labels"'),
        (lambda card: card["labels"][0].update(value=0), '"labels[0].value"'),
        (lambda card: card["labels"][0].update(value=True), '"labels[0].value"'),
        (lambda card: card["labels"][0].update(color=[0, 0, 256]), '"labels[0].color[2]"'),
        (lambda card: card["labels"].append(card["labels"][0]), "same value"),
        (add({"step": "normalise"}), '"preprocessing[0].step" must be one of "orient"'),
        (add({"to": "RAS"}), '"preprocessing[0]" lacks the field "step"'),
        (add({"step": "orient", "to": "RLS"}), '"preprocessing[0].to"'),
        (add({"step": "clip", "low": 1}), '"preprocessing[0]" lacks the field "high"'),
        (add({"step": "clip", "low": "1", "high": 2}), '"preprocessing[0].low" must be number'),
        (add({"step": "clip", "low": 2, "high": 2}), "the lower bound 2 is not below"),
        (add({"step": "zscore", "axis": 1}), '"preprocessing[0]" has the unknown field "axis"'),
        (add({"step": "clip_percentiles", "low": 0, "high": 101}), '"preprocessing[0].high"'),
        (add({"step": "scale_range", "from": [1, 0], "to": [0, 1]}), "the lower bound 1"),
        (
            lambda card: card.update(postprocessing=[{"step": "fill_holes", "labels": [7]}]),
            '"postprocessing[0].labels" names 7',
        ),
    ],
)
def test_a_wrong_field_is_named(spoil: Callable[[dict[str, Any]], object], words: str) -> None:
    card = copy.deepcopy(dict(EXAMPLE))
    spoil(card)

    with pytest.raises(ModelError) as caught:
        model_of(card, ONNX, "The card net.json")

    assert caught.value.code == "model.card"
    assert words in str(caught.value)
    assert str(caught.value).startswith("The card net.json cannot be used: ")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"{", "no JSON"),
        (b"\xff\xfe", "no JSON"),
        (b"[]", "must be object"),
        (b'{"schema": NaN}', "NaN is not a finite number"),
        (b'{"schema": 1e999}', "1e999 is not a finite number"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (5 << 20), "larger than"),
    ],
)
def test_a_hostile_file_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "net.json"
    path.write_bytes(content)

    with pytest.raises(ModelError, match=words):
        read_card(path, ONNX)
