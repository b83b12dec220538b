"""The networks that can be built by name: what they are asked for by, and which they are."""

from __future__ import annotations

import importlib
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, get_type_hints

import pytest
import torch

from medptq.errors import ModelError
from medptq.models.architectures.building import build_network, options_of
from medptq.models.architectures.registry import ARCHITECTURES
from small_networks import SMALL, fill, image, names_digest, one_thread, sampled

pytestmark = pytest.mark.filterwarnings("ignore")  # of MONAI, as it is imported

# The digest of the names and shapes in the authors' own network, counted in their code at its
# published size: checkpoints of theirs load. MedFormer's without the head for training.
NAMES = {
    "unet": "c42564eaf20202b8",
    "nnunet": "b64041fb0df2ab00",
    "nnunet-resenc": "9a4c7644899c1df7",
    "transunet": "4890ba1acd4fc855",
    "unest": "e2e49f296230e95a",
    "stunet-b": "ed25cceec0d85b5a",
    "stunet-l": "cc309d2ac7ca3937",
    "stunet-h": "7b0499b6e2f5746a",
    "medformer": "7433bdae3476ca08",
}

# What the authors' own code computes with the small options, from the weights of fill().
OUTPUTS = {
    "unet": [-0.03048, -0.06286, -0.09886, -0.03048, -0.08673, -0.09761],
    "nnunet": [0.04995, -0.93652, 1.40412, -0.25678, -0.44645, 1.19263],
    "nnunet-resenc": [0.40144, -0.55229, 2.49083, 0.10125, 0.54417, -0.45511],
    "transunet": [-0.65449, -0.93534, 0.81604, -0.07588, 0.08139, -0.08763],
    "unest": [0.53445, 0.47782, -0.62853, 0.08815, 0.05957, -0.75057],
    "stunet-b": [0.08544, 3.15329, -3.58389, 0.15345, -0.06868, -0.03663],
    "medformer": [-0.0307, 0.06381, 0.10449, -0.33624, 0.92357, -2.09171],
}

# The smallest patch is that of the published strides, which SMALL shortens for some.
STAGES = {"n_conv_per_stage_decoder": (1,) * 5, "features_per_stage": (2,) * 6}
NARROW: dict[str, dict[str, Any]] = {
    "nnunet": {**STAGES, "n_conv_per_stage": (1,) * 6},
    "nnunet-resenc": {**STAGES, "n_blocks_per_stage": (1,) * 6},
    "segresnet": {"init_filters": 8},
    "transunet": {**SMALL["transunet"][0], "image_size": (32, 32, 32)},
    "stunet-b": {"width": 2},
    "monai-dynunet": {"filters": (2,) * 6},
    "monai-segresnetds": {"init_filters": 8},
    "monai-unet": {"level_channels": (2, 4, 4, 4, 4)},
    "unetr": {**SMALL["unetr"][0], "img_size": (16, 16, 16)},
}


@pytest.fixture(scope="module", autouse=True)
def _on_one_thread() -> Iterator[None]:
    with one_thread():
        yield


def function_of(name: str) -> Any:
    module, function = ARCHITECTURES[name].builder.split(":")
    return getattr(importlib.import_module(f"medptq.models.architectures.{module}"), function)


def count(name: str) -> int:
    if name.startswith("swinunetr"):  # MONAI's asks a tensor for its value as it is built
        network = build_network(name)
    else:
        with torch.device("meta"):
            network = build_network(name)
    return sum(parameter.numel() for parameter in network.parameters())


def test_reading_the_registry_is_light() -> None:
    code = "import medptq.models.architectures.registry, medptq.models.architectures.building, sys"
    code += "; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "monai", "numpy"} & set(done.stdout.split())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_each_entry_says_what_it_is_and_its_options_are_documented(name: str) -> None:
    entry = ARCHITECTURES[name]
    assert entry.source.startswith("https://github.com/")
    assert entry.licence in ("Apache-2.0", "MIT", "GPL-2.0-only")
    assert re.search(r"\b20\d\d\b", entry.citation)
    sides = zip(entry.smallest, entry.multiple, strict=True)
    assert all(side % multiple == 0 for side, multiple in sides)
    documented = inspect.getdoc(function_of(name)) or ""
    hints = get_type_hints(function_of(name))
    for option, default in options_of(name).items():
        assert f"{option}: " in documented
        assert option in hints
        assert default is not inspect.Parameter.empty
    assert set(entry.preset) <= set(options_of(name))
    assert entry.size_option in ("", *options_of(name))


def test_each_family_has_a_small_network_for_the_tests() -> None:
    assert {ARCHITECTURES[name].builder for name in SMALL} == {
        entry.builder for entry in ARCHITECTURES.values()
    }


@pytest.mark.parametrize(
    "name", [name for name, entry in ARCHITECTURES.items() if entry.published is not None]
)
def test_parameters_are_as_many_as_published(name: str) -> None:
    published = ARCHITECTURES[name].published
    assert published is not None
    assert count(name) / 1e6 == pytest.approx(published.millions, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_weights_have_the_names_and_shapes_of_the_authors(name: str) -> None:
    with torch.device("meta"):
        assert names_digest(build_network(name)) == NAMES[name]


@pytest.mark.parametrize("name", OUTPUTS)
def test_computes_what_the_authors_own_code_does(name: str) -> None:
    options, size = SMALL[name]
    network = build_network(name, **options, classes=5)
    fill(network)
    with torch.inference_mode():
        found = sampled(network(image((2, 1, *size))))
    # Processors round differently: on an AMD EPYC MedFormer's are off by 0.0004.
    assert found == pytest.approx(OUTPUTS[name], abs=1e-3)


@pytest.mark.parametrize(
    ("options", "size"),
    [({}, (64, 32, 32)), ({"window_size": 3, "use_v2": True}, (64, 32, 96))],
)
def test_swin_unetr_computes_what_monais_does(
    options: dict[str, Any], size: tuple[int, int, int]
) -> None:
    from monai.networks.nets.swin_unetr import SwinUNETR

    theirs = SwinUNETR(1, 3, feature_size=12, **options).eval()
    ours = build_network("swinunetr-t", classes=3, **options)
    ours.load_state_dict(theirs.state_dict())
    x = image((2, 1, *size))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-6)


def test_unetr_computes_what_monais_does() -> None:
    from monai.networks.nets.unetr import UNETR

    options, size = SMALL["unetr"]
    theirs = UNETR(1, 3, **{**options, "proj_type": "perceptron"}).eval()
    ours = build_network("unetr", classes=3, **options)
    ours.load_state_dict(theirs.state_dict())
    x = image((2, 1, *size))
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=1e-5)


def test_vista3d_finds_what_monais_does_for_these_classes_and_background_elsewhere() -> None:
    from monai.networks.nets.vista3d import vista3d132

    theirs = vista3d132(8).eval()
    ours = build_network("vista3d", encoder_embed_dim=8, class_indices=[3, 1, 25])
    ours.load_state_dict(theirs.state_dict())
    x = image((1, 1, 32, 16, 16))
    with torch.inference_mode():
        expected = theirs(x, class_vector=torch.tensor([[3], [1], [25]]), transpose=True)
        found = ours(x)
    torch.testing.assert_close(found[:, 1:], expected, rtol=0, atol=1e-5)
    assert not found[:, 0].any()


def test_vista3d_is_as_large_as_monais() -> None:
    from monai.networks.nets.vista3d import vista3d132

    with torch.device("meta"):
        assert names_digest(build_network("vista3d")) == names_digest(vista3d132())


@pytest.mark.parametrize("name", SMALL)
def test_takes_the_smallest_patch_and_gives_a_channel_a_class(name: str) -> None:
    entry = ARCHITECTURES[name]
    options = NARROW.get(name, SMALL[name][0])
    network = build_network(name, **options)
    assert not network.training
    with torch.inference_mode():
        found = network(image((1, 1, *entry.smallest)))
    classes = 4 if name == "vista3d" else options_of(name)["classes"]
    assert found.shape == (1, classes, *entry.smallest)
    assert found.isfinite().all()


@pytest.mark.parametrize(
    ("name", "options", "code", "words"),
    [
        ("unetx", {}, "model.architecture", "There is no network called 'unetx': the name is not"),
        ("unetx", {}, "model.architecture", "unet is close to it"),
        ("unet", {"base_feature": 8}, "model.options", "no option 'base_feature'; base_features"),
        ("unet", {"base_features": "8"}, "model.options", "cannot be '8'. Give it a whole number"),
        ("unet", {"base_features": True}, "model.options", "cannot be True"),
        ("unet", {"base_features": 0}, "model.options", "a layer without weights"),
        ("unet", {"classes": 0}, "model.options", "its option classes is 0. Give a positive"),
        ("unetr", {"proj_type": "linear"}, "model.options", "Give it 'conv' or 'perceptron'"),
        ("unetr", {"img_size": [96, 96]}, "model.options", "a list of 3, each entry of it a whole"),
        ("unetr", {"img_size": [96, 96, 90]}, "model.options", "no multiple of 16"),
        ("nnunet", {"strides": [[2, 2], [2, 2]]}, "model.options", "each entry of it a list of 3"),
        ("nnunet", {"strides": [[1, 1, 1]]}, "model.options", "name 6, 6, 1, 6, 6 stages"),
        ("transunet", {"num_heads": 7}, "model.options", "num_heads 7 does not divide"),
        ("transunet", {"image_size": (96, 96, 97)}, "model.options", "no multiple of 16"),
        ("swinunetr-b", {"feature_size": 13}, "model.options", "divisible by 12"),
        ("unest", {"image_size": 90}, "model.options", "no multiple of 32"),
        ("unest", {"embed_dim": (1, 2, 3)}, "model.options", "8, 16 and 32 times 16"),
        ("unest", {"num_heads": (3, 8, 16)}, "model.options", "3 does not divide 128"),
        ("unest", {"patch_size": 2}, "model.options", "the decoder takes 4 only"),
        ("stunet-b", {"strides": [[2, 2, 2]]}, "model.options", "has 1 entries, and STU-Net 5"),
        ("medformer", {"conv_num": (1, 2)}, "model.options", "need 8 entries each"),
        ("medformer", {"strides": [[2, 2, 2]]}, "model.options", "strides 4"),
        ("medformer", {"trans_num": (1,) * 8}, "model.options", "no semantic map"),
        ("medformer", {"strides": [[4, 4, 4]] * 4}, "model.options", "are not 1 or 2"),
        ("medformer", {"fusion_heads": 7}, "model.options", "7 heads do not divide 320"),
        ("vista3d", {"class_indices": [1, 1]}, "model.options", "names a class twice"),
        ("vista3d", {"class_indices": [512]}, "model.options", "outside 1 to 511"),
        ("monai-unet", {"strides": (2, 2)}, "model.options", "one stride fewer"),
        ("segresnet", {"blocks_up": (1,)}, "model.options", "need one fewer up"),
    ],
)
def test_what_cannot_be_built_is_refused_in_a_sentence(
    name: str, options: dict[str, Any], code: str, words: str
) -> None:
    with pytest.raises(ModelError) as caught:
        build_network(name, **options)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_lists_as_json_has_them_stand_for_tuples() -> None:
    strides = [[1, 1, 1], [1, 2, 2]]
    network = build_network(
        "nnunet",
        features_per_stage=[2, 4],
        kernel_sizes=[[3, 3, 3], [3, 3, 3]],
        strides=strides,
        n_conv_per_stage=[1, 1],
        n_conv_per_stage_decoder=[1],
        conv_bias=False,
    )
    assert network(image((1, 1, 4, 8, 8))).shape == (1, 105, 4, 8, 8)
