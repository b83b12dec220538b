"""From a network and scans to a folder with its INT8 twin, by every kind of recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from medptq.errors import QuantizationError
from medptq.graph.executor import GraphExecutor
from medptq.models.loading import load_model
from medptq.models.segmentation_model import SegmentationModel
from medptq.progress import Reporter
from medptq.quantization import observer_choice, quantizing
from medptq.quantization.calibration import CalibrationPatches
from medptq.quantization.quantized_model import QuantizedModel, load_quantized_model
from medptq.quantization.quantizing import quantize_model
from medptq.quantization.recipe import OBSERVERS, Recipe
from medptq.quantization.simulation import simulating
from medptq.quantization.simulation.simulating import simulate
from medptq.scans.finding import find_scans
from quantization_helpers import SmallUNet, export
from small_networks import one_thread
from tiny_network import write_network, write_scan


@pytest.fixture(scope="module", autouse=True)
def _one_thread():
    with one_thread():
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = write_network(tmp_path_factory.mktemp("net"))
    torch.manual_seed(2)
    export(SmallUNet(), (1, 1, 16, 16, 16), path)
    card = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    card["preprocessing"] = [{"step": "scale_range", "from": [0, 100], "to": [-2, 2]}]
    path.with_suffix(".json").write_text(json.dumps(card), encoding="utf-8")
    return load_model(path)


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scans")
    for seed in range(5):
        write_scan(folder / f"{seed}.nrrd", seed=seed)
    return folder


def _patches(model: SegmentationModel, scans: Path, recipe: Recipe) -> CalibrationPatches:
    reporter = Reporter()
    sources = find_scans(scans, reporter)
    return CalibrationPatches(model, sources, recipe, lambda *_: None, reporter)


def _quantized(
    model: SegmentationModel, scans: Path, recipe: Recipe, folder: Path
) -> QuantizedModel:
    return quantize_model(model, _patches(model, scans, recipe), folder, recipe=recipe)


def _levels(twin: QuantizedModel) -> list[int]:
    """Return the largest integer of each weight."""
    tensors = [numpy_helper.to_array(tensor) for tensor in onnx.load(twin.int8).graph.initializer]
    weights = [array for array in tensors if array.dtype == np.int8 and array.ndim > 1]
    return [int(np.abs(array).max()) for array in weights]


@pytest.mark.parametrize(
    ("recipe", "largest"),
    [
        (Recipe(patches=3, activation_granularity="channel"), 127),
        *(
            (Recipe(observer, patches=3, activation_granularity="channel"), 127)
            for observer in OBSERVERS
        ),
        (Recipe(patches=3, weight_bits=4), 7),
        (Recipe("percentile", patches=3, weight_bits=5, activation_bits=6), 15),
        (Recipe(patches=3, weight_bits=4, activation_bits=4, activation_granularity="channel"), 7),
    ],
)
def test_each_recipe_is_written_and_read_back(model, scans, tmp_path, recipe, largest):
    twin = _quantized(model, scans, recipe, tmp_path / "twin")
    assert load_quantized_model(twin.folder).recipe == recipe
    assert max(_levels(twin)) == largest
    placement, calibration = twin.manifest["placement"], twin.manifest["calibration"]
    assert placement["weights"] == len(_levels(twin)) == 6
    packed = -(-placement["weight_bytes"] * recipe.weight_bits // 8)
    assert placement["weight_bytes_if_packed"] == packed
    assert calibration["patches"] == calibration["scans"] == 3
    assert all(scale > 0 for scale in calibration["scales"].values())


def test_by_default_ranges_are_the_first_observers_if_that_agrees(model, scans, tmp_path):
    twin = _quantized(model, scans, Recipe(patches=3), tmp_path / "int8")
    calibration = twin.manifest["calibration"]
    assert twin.manifest["recipe"]["observer"] == "agreement"
    assert calibration["observer"] == "mse"
    assert list(calibration["dice_by_observer"]) == ["mse"]
    same = _quantized(model, scans, Recipe("mse", patches=3), tmp_path / "mse")
    assert same.int8.read_bytes() == twin.int8.read_bytes()
    assert "dice_by_observer" not in same.manifest["calibration"]


def test_where_that_does_not_agree_they_are_those_that_agree_best(
    model, scans, tmp_path, monkeypatch
):
    monkeypatch.setattr(observer_choice, "_ENOUGH", 1.1)
    twin = _quantized(model, scans, Recipe(patches=3), tmp_path / "int8")
    calibration = twin.manifest["calibration"]
    dice = calibration["dice_by_observer"]
    assert set(dice) == set(OBSERVERS)
    assert dice[calibration["observer"]] == max(dice.values())
    same = _quantized(model, scans, Recipe(calibration["observer"], patches=3), tmp_path / "same")
    assert same.int8.read_bytes() == twin.int8.read_bytes()


SPECIAL = [
    {"activation_granularity": "channel"},
    {"weight_bits": 4},
    {"spared": ("/down/Conv",)},
    {"activation_granularity": "channel", "weight_bits": 4, "spared": ("/down/Conv",)},
]


@pytest.mark.parametrize("special", SPECIAL)
def test_special_recipes_have_the_ranges_that_agree_best_too(
    model, scans, tmp_path, monkeypatch, special
):
    monkeypatch.setattr(observer_choice, "_ENOUGH", 1.1)
    runs: list[str] = []

    class Counting(GraphExecutor):
        def run(self, *args, **options):
            runs.append("patch")
            return super().run(*args, **options)

    monkeypatch.setattr(simulating, "GraphExecutor", Counting)
    twin = _quantized(model, scans, Recipe(patches=3, **special), tmp_path / "int8")
    assert len(runs) == 3, "patches are looked at once, whatever is tried"
    calibration = twin.manifest["calibration"]
    dice = calibration["dice_by_observer"]
    assert set(dice) == set(OBSERVERS)
    assert len(set(dice.values())) > 1
    assert dice[calibration["observer"]] == max(dice.values())
    recipe = Recipe(calibration["observer"], patches=3, **special)
    same = _quantized(model, scans, recipe, tmp_path / "same")
    assert same.int8.read_bytes() == twin.int8.read_bytes()
    assert same.manifest["calibration"]["observer"] == calibration["observer"]
    assert "dice_by_observer" not in same.manifest["calibration"]


def test_before_recovery_the_observer_is_chosen_with_weights_of_8_bits(
    model, scans, tmp_path, monkeypatch
):
    monkeypatch.setattr(observer_choice, "_ENOUGH", 1.1)
    asked = []

    def recovering(model, scheme, *args, **options):
        asked.append(scheme)
        return simulate(model, scheme, *args, **options)

    monkeypatch.setattr(quantizing, "simulate_recovered", recovering)
    three, eight = (
        _quantized(model, scans, recipe, tmp_path / f"{recipe.weight_bits}").manifest["calibration"]
        for recipe in (Recipe(patches=3, weight_bits=3, recovery=True), Recipe(patches=3))
    )
    assert three["dice_by_observer"] == eight["dice_by_observer"]
    [scheme] = asked
    assert (scheme.weight_bits, scheme.fitted_weights) == (3, True)
    assert scheme.observer == three["observer"] == eight["observer"]


def test_below_8_bits_activations_have_the_ranges_of_the_least_squared_error(
    model, scans, tmp_path
):
    twin = _quantized(model, scans, Recipe(patches=3, activation_bits=5), tmp_path / "int8")
    assert twin.manifest["calibration"]["observer"] == "mse"
    assert "dice_by_observer" not in twin.manifest["calibration"]


def test_recovery_is_used_and_no_worse(model, scans, tmp_path):
    agreement = [
        _quantized(
            *(model, scans, Recipe(patches=3, weight_bits=3, recovery=recovery)),
            tmp_path / f"{recovery}",
        ).manifest["agreement_with_fp32"]
        for recovery in (False, True)
    ]
    assert agreement[1]["relative_output_error"] < agreement[0]["relative_output_error"]


def test_spared_layers_stay_in_floating_point(model, scans, tmp_path):
    # Both are rewritten for OpenVINO, and keep their names.
    spared = ("/down/Conv", "/head/ConvTranspose")
    twin = _quantized(model, scans, Recipe(patches=2, spared=spared), tmp_path / "twin")
    assert twin.manifest["recipe"]["spared"] == list(spared)
    assert len(_levels(twin)) == 4
    with pytest.raises(QuantizationError, match="no layer 'elsewhere'"):
        _quantized(model, scans, Recipe(patches=2, spared=("elsewhere",)), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_where_nothing_was_spared_yet_the_numbers_are_those_of_a_plain_recipe(
    model, scans, tmp_path
):
    """The two ways to a graph, with and without a simulation, meet."""
    found = []
    for spared in ((), ("/merge/Conv",)):
        recipe = Recipe(patches=3, spared=spared)
        twin = _quantized(model, scans, recipe, tmp_path / f"{len(spared)}")
        patch = torch.from_numpy(next(iter(_patches(model, scans, recipe))))
        GraphExecutor(twin.int8).run(
            patch, lambda _, x: found.append(x), watch=["/up/ConvTranspose_output_0"]
        )
    assert torch.equal(*found)


# What the agreement is measured on


def _held_out(patches: CalibrationPatches, count: int) -> tuple[list[bytes], list[bytes]]:
    drawn = [patch.tobytes() for patch in patches]
    return drawn, [patch.tobytes() for patch in patches.held_out(count)]


def test_patches_are_held_out_from_scans_that_were_not_used(model, scans):
    patches = _patches(model, scans, Recipe(patches=3))
    drawn, held_out = _held_out(patches, 2)
    assert len(drawn) == 3
    assert len(held_out) == 2
    assert not set(drawn) & set(held_out)
    assert len(patches.scan_digests) == 3, "what was held out is none of the calibration's scans"


def test_patches_are_held_out_from_other_places_where_all_scans_were_used(model, scans):
    drawn, held_out = _held_out(_patches(model, scans, Recipe(patches=10)), 4)
    assert len(drawn) == 10
    assert len(held_out) == len(set(held_out)) == 4
    assert not set(drawn) & set(held_out)


@pytest.mark.parametrize("used", [2, 10])  # of five scans
def test_what_is_held_out_is_of_several_scans(model, scans, used, monkeypatch):
    patches = _patches(model, scans, Recipe(patches=used))
    list(patches)
    read: list[object] = []
    prepared = patches._prepared
    monkeypatch.setattr(patches, "_prepared", lambda scan: read.append(scan) or prepared(scan))
    assert len(list(patches.held_out(3))) == len(set(read)) == 3


def test_where_scans_have_no_other_patch_that_is_said(model, tmp_path):
    write_scan(tmp_path / "scans" / "small.nrrd", shape=(16, 16, 16))
    patches = _patches(model, tmp_path / "scans", Recipe(patches=2))
    assert _held_out(patches, 3)[1] == []
    twin = _quantized(model, tmp_path / "scans", Recipe(patches=2), tmp_path / "twin")
    agreement = twin.manifest["agreement_with_fp32"]
    assert (agreement["held_out"], agreement["patches"]) == (False, 1)


def test_the_agreement_is_of_what_was_held_out(model, scans, tmp_path):
    twin = _quantized(model, scans, Recipe(patches=3), tmp_path / "twin")
    agreement = twin.manifest["agreement_with_fp32"]
    assert (agreement["held_out"], agreement["patches"]) == (True, 3)
    least = agreement["least_alike"]
    assert least["name"] in [label.name for label in model.labels]
    assert 0.9 < least["dice"] <= agreement["dice"] <= 1.0
