"""MONAI bundles that cannot be used as they are in MONAI: each is refused, and says for what."""

from __future__ import annotations

from typing import Any

import pytest

import medptq
from medptq.errors import ModelError
from medptq.models.monai_bundle import read_monai_bundle
from medptq.models.monai_bundle_values import Values
from medptq.progress import Reporter
from monai_bundles import (
    ARGMAX,
    INFERER,
    SOFTMAX,
    UNET,
    inference,
    invert,
    refusal,
    transform,
    write_bundle,
    write_settings,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    monkeypatch.setenv("MEDPTQ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MEDPTQ_LIBRARY", str(tmp_path / "library"))


def with_step(name: str, **arguments: Any) -> dict[str, Any]:
    return inference(steps=[transform(name, **arguments)])


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (with_step("RandFlip"), "RandFlipd (preprocessing::transforms::3)"),
        (with_step("Lambda", func="$lambda x: x + 1"), "Lambdad"),
        (with_step("Spacing", pixdim=[1, 1, -1]), '"pixdim"'),
        (with_step("Spacing", pixdim=[1, 1, 1], diagonal=True), '"diagonal" is True'),
        (with_step("Spacing", pixdim=[1, 1, 1], mode=3), '"mode" is 3'),
        (with_step("Orientation", axcodes="RAX"), '"axcodes"'),
        (with_step("ScaleIntensityRange", a_min=0, a_max=1, b_min="$-x", b_max=1), "b_min"),
        (with_step("CropForeground", source_key="image", margin=10), '"margin"'),
        (with_step("CropForeground", source_key="image", select_fn="$print"), "select_fn"),
        (with_step("CastToType", dtype="$torch.float16"), '"dtype"'),
        (with_step("Orientation", axcodes="RAS", new=1), 'its "new" is not known'),
        (inference(inferer={**INFERER, "roi_size": "$@a + [1]"}), "inferer::roi_size"),
        (inference(inferer={**INFERER, "roi_size": [0, -1, 32]}), '"roi_size"'),
        (inference(inferer={**INFERER, "padding_mode": "reflect"}), '"padding_mode"'),
        (inference(inferer={**INFERER, "overlap": 1}), '"overlap"'),
        (inference(inferer={"_target_": "SliceInferer"}), "SlidingWindowInferer"),
        (inference(inferer={"_target_": "SimpleInferer"}), "SlidingWindowInferer"),
        (inference(after=[{**SOFTMAX, "softmax": False, "sigmoid": True}]), "several labels"),
        (inference(after=[SOFTMAX, invert(nearest=False)]), "no AsDiscreted"),
        (inference(after=[ARGMAX, invert(nearest=False)]), "labels are interpolated"),
        (inference(after=[ARGMAX, {"_target_": "FillHolesd", "keys": "pred"}]), "FillHolesd"),
        (inference(network={**UNET, "_target_": "FlexibleUNet"}), "FlexibleUNet"),
        (inference(network={**UNET, "spatial_dims": 2}), '"spatial_dims" is 2'),
        (inference(network={**UNET, "act": "relu"}), '"act" is another'),
        (inference(network={**UNET, "norm": "layer"}), '"norm" is neither'),
        (inference(network={**UNET, "out_channels": 1}), "one output only"),
        (inference(network={**UNET, "_mode_": "debug"}), "_mode_"),
        (inference(network={**UNET, "channels": "%train.json::x"}), "macro"),
        (inference(network={**UNET, "channels": "@not::there"}), '"not::there"'),
    ],
)
def test_what_cannot_be_done_the_same_way_is_refused_by_name(tmp_path, settings, words):
    assert words in refusal(settings, tmp_path / "bundle")


def test_references_that_double_with_each_level_are_refused():
    content = {"R": {}, "e9": "@R"}
    for level in range(9):
        content["R"][f"b{level}"] = content[f"k{level}"] = f"@e{level + 1}"
        content[f"e{level}"] = f"@k{level}" + f"::b{level}" * 2
    with pytest.raises(ModelError, match="too many references") as caught:
        Values(content, "small").plain("@e0", "patch")
    assert caught.value.code == "model.bundle"


def test_configurations_that_are_none_are_refused(tmp_path):
    folder = tmp_path / "bundle"
    assert 'no "preprocessing"' in refusal({"network_def": UNET}, folder)
    assert "holds no settings" in refusal([], folder)  # type: ignore[arg-type]
    (folder / "configs" / "inference.json").unlink()
    (folder / "configs" / "inference.yaml").write_text("a: 1")
    with pytest.raises(ModelError, match=r"inference\.yaml, and only JSON is read"):
        medptq.load_model(str(folder))


def test_a_description_of_a_giant_is_refused_before_it_is_built(tmp_path):
    bundle = write_bundle(tmp_path / "bundle")
    giant = {**UNET, "channels": [1_000_000 for _ in UNET["channels"]]}  # petabytes
    write_settings(bundle, inference(network=giant))
    with pytest.raises(ModelError, match=r"model\.pt do not fit") as caught:
        read_monai_bundle(bundle, Reporter()).build()
    assert caught.value.code == "model.weights"
