"""The report: every figure is in it, nothing is loaded from elsewhere, hostile text is text."""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image

from evaluate_helpers import LABELS, comparison, result
from medptq.errors import OutputError
from medptq.evaluate.charts import Bar, bar_chart
from medptq.evaluate.formats import share
from medptq.evaluate.overlay import png_bytes
from medptq.evaluate.report import write_report
from medptq.evaluate.results import Comparison, Score

X = "\N{MULTIPLICATION SIGN}"
PNG = png_bytes(Image.new("RGB", (4, 3), (255, 0, 144)))
HOSTILE = "</style><script src=https://evil.example/x.js></script><img src=x onerror=alert(1)>\"'&"


class Page(HTMLParser):
    """Elements, what they would load, and the text outside styles."""

    VOID = frozenset({"meta", "img", "br", "link", "rect"})

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []
        self.text = re.sub(r"\s+", " ", " ".join(self.words))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data)


def page_of(compared: Comparison, folder: Path) -> tuple[str, Page]:
    html = write_report(compared, {"Overlay": PNG}, folder).read_text(encoding="utf-8")
    return html, Page(html)


def test_every_figure_is_in_the_report(tmp_path: Path) -> None:
    _, page = page_of(comparison(), tmp_path)
    for expected in (
        f"5.0{X}", "faster network", "280 ms for a patch instead of 1,400 ms with PyTorch FP32",
        f"2.5{X} faster than OpenVINO FP32",
        f"4.0{X}", "smaller file", "2.2 MB on the disk instead of 9.0 MB",
        "0.9750", "mean of 2 structures", "lowest: Spleen, 0.9600",
        "14.9 s", "3.67 s", "1,280 MB", "640 MB", "(252 to 336)",
        "1,500", "1,512", "+0.83 %", "-1.00 %", "0.9950", "0.9810", "within 1.0 mm",
        "99.875 %", "96.25 %", "1,234 voxels differ",
        f"40 {X} 30 {X} 20 voxels", f"0.75 {X} 0.75 {X} 5.00 mm", f"64 {X} 80 {X} 96",
        "11 unlabeled scans", "percentile 99.99", "41 in INT8, 6 in FP32",
        "A fine processor, 12 cores", "A fine GPU", "31.5 GB", "Linux 6.1", "2026.4.0",
        "Apache-2.0", "https://example.org/two-organs", "The machine was idle.",
        "medptq compare two-organs int8 SCAN", "Measured 3 February 2026", "Not for clinical use",
    ):  # fmt: skip
        assert expected in page.text, expected


def test_the_report_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    html, page = page_of(comparison(), tmp_path)
    assert not {"script", "link", "iframe", "object", "embed", "base", "form"} & set(page.tags)
    loads = [value for name, value in page.attributes if name in {"src", "srcset", "href", "data"}]
    assert loads == ["data:image/png;base64," + base64.b64encode(PNG).decode()]
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    assert ("content", "default-src 'none'; img-src data:; style-src 'unsafe-inline'") in (
        page.attributes
    )


def test_hostile_text_stays_text(tmp_path: Path) -> None:
    compared = replace(
        comparison(),
        model_id=HOSTILE,
        model_title=HOSTILE,
        model_source=HOSTILE,
        model_licence=HOSTILE,
        labels=(replace(LABELS[0], name=HOSTILE), LABELS[1]),
        recipe={HOSTILE: HOSTILE},
        notes=(HOSTILE,),
        command=HOSTILE,
        versions={HOSTILE: HOSTILE},
        engines=(
            result("pytorch", "fp32", 10.0),
            result(HOSTILE, "int8", 5.0, dice=Score({1: 0.5, 2: None})),
        ),
    )
    path = write_report(compared, {HOSTILE: PNG}, tmp_path)
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.tags.count("img") == 1
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert page.text.count("alert(1)") > 8


def test_a_loss_is_called_a_loss(tmp_path: Path) -> None:
    engines = (
        result("pytorch", "fp32", 100.0),
        result("openvino", "fp32", 100.5),
        result("openvino", "int8", 150.0, dice=Score({1: 0.5, 2: 0.7})),
    )
    html, page = page_of(replace(comparison(), engines=engines), tmp_path)
    assert f"1.50{X} slower network" in page.text
    assert 'class="loss"' in html
    assert '<span class="claim">faster' not in html
    assert "smaller file" in page.text


def test_structures_are_listed_worst_first_and_absent_ones_named_apart(tmp_path: Path) -> None:
    labels = (*LABELS, replace(LABELS[0], value=3, name="Gallbladder"))
    scores = Score({1: 0.99, 2: 0.5, 3: None})
    engines = (result("pytorch", "fp32", 9.0), result("openvino", "int8", 5.0, dice=scores))
    _, page = page_of(replace(comparison(), labels=labels, engines=engines), tmp_path)
    table = page.text[page.text.index("Every structure") :]
    assert table.index("Spleen") < table.index("Liver") < table.index("In neither segmentation:")
    assert "In neither segmentation: Gallbladder." in table


def test_a_reference_segmentation_is_reported_for_both(tmp_path: Path) -> None:
    engines = tuple(
        replace(engine, dice_vs_reference=Score({1: mean, 2: mean}))
        for engine, mean in zip(comparison().engines, (0.9131, 0.9132, 0.9087), strict=True)
    )
    _, page = page_of(replace(comparison(), engines=engines), tmp_path)
    assert "against the reference segmentation 0.9087, 0.9131 with PyTorch FP32" in page.text
    assert page.text.count("Dice vs reference") == 2


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1.0000"), (0.999999, "0.9999"), (0.99994, "0.9999"), (0.0, "0.0000"), (0.5, "0.5000")],
)
def test_only_what_is_identical_is_given_as_one(value: float, text: str) -> None:
    assert share(value) == text


def test_an_existing_report_is_kept_unless_asked(tmp_path: Path) -> None:
    first = write_report(comparison(), {}, tmp_path)
    with pytest.raises(OutputError) as caught:
        write_report(comparison(), {}, tmp_path)
    assert caught.value.code == "output.exists"
    assert write_report(comparison(), {}, tmp_path, overwrite=True) == first
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]


def test_pictures_may_be_files_but_must_be_pictures(tmp_path: Path) -> None:
    picture = tmp_path / "overlay.png"
    picture.write_bytes(PNG)
    html = write_report(comparison(), {"a": picture}, tmp_path).read_text(encoding="utf-8")
    assert base64.b64encode(PNG).decode() in html
    for bad in (b"<svg onload='alert(1)'/>", tmp_path / "missing.png"):
        with pytest.raises(OutputError) as caught:
            write_report(comparison(), {"a": bad}, tmp_path / "other")
        assert caught.value.code == "output.picture"
        assert not (tmp_path / "other").exists()


def test_bars_are_as_long_as_their_values_and_are_read_aloud() -> None:
    bars = [Bar("A & B", (10.0, 30.0), "40 s"), Bar("C", (5.0, 15.0), "20 s", highlight=True)]
    chart = ElementTree.fromstring(str(bar_chart("Seconds", bars, ("load", "run"))))  # noqa: S314
    described = " ".join(chart.get("aria-labelledby", "").split())
    texts = {node.get("id"): node.text for node in chart if node.get("id")}
    assert [texts[name] for name in described.split()] == ["Seconds", "A & B: 40 s; C: 20 s"]
    lengths = [
        float(node.get("width", "0")) + 1
        for node in chart.iter("rect")
        if node.get("height") != "10"
    ]
    assert lengths[0] + lengths[1] == pytest.approx(2 * (lengths[2] + lengths[3]), abs=0.05)
    assert lengths[1] == pytest.approx(3 * lengths[0], abs=0.05)
    printed = [node.text for node in chart.iter("text")]
    assert {"40 s", "20 s", "A & B", "load"} <= set(printed)
