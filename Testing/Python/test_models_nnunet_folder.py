"""Model folders of nnU-Net: what is read of them, and what is refused."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest

from medptq.errors import ModelError
from medptq.models.built_network import BuiltNetwork
from medptq.models.foreign import FORMATS, format_of
from medptq.models.nnunet_dataset import modality_of
from medptq.models.nnunet_folder import read_nnunet_folder
from medptq.progress import Reporter
from nnunet_folders import (
    CONFIGURATION,
    FOLDER,
    TRAINER,
    network_before_2_2,
    plain_network,
    residual_network,
    write_model_folder,
)


def read(folder: Path) -> tuple[BuiltNetwork, list[str]]:
    warnings: list[str] = []
    return read_nnunet_folder(folder, Reporter(on_warning=warnings.append)), warnings


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        read_nnunet_folder(folder, Reporter())
    return caught.value


def network_with(**options: Any) -> dict[str, Any]:
    network = plain_network()
    network["architecture"]["arch_kwargs"].update(options)
    return network


def test_the_card_says_what_the_plans_and_the_data_set_say(tmp_path):
    folder = write_model_folder(tmp_path, configuration={"spacing": [3.0, 1.5, 1.25]})
    built, warnings = read(folder)
    model = built.model
    assert format_of(folder) is FORMATS["nnunet"]
    assert (model.id, model.title) == (
        "small-organs-3d-fullres",
        "Small organs (nnU-Net 3d_fullres)",
    )
    assert (model.modality, model.channels, model.patch_size) == ("CT", 1, (8, 16, 8))
    assert (model.axis_order, model.overlap, model.blending) == ("KJI", 0.5, "nnunet")
    assert [(label.value, label.name) for label in model.labels] == [
        (1, "spleen"),
        (2, "kidney_right"),
    ]
    assert [step["step"] for step in model.preprocessing] == [
        *("crop_nonzero", "zscore", "spacing_nnunet", "pad_with")
    ]
    assert model.preprocessing[2]["mm"] == [3.0, 1.5, 1.25]
    assert "fold_0" in model.provenance.source
    assert "without mirroring" in model.provenance.source
    assert warnings == []


@pytest.mark.parametrize(
    ("channel", "modality"),
    [
        *(("PET", "PET"), ("US", "US"), ("MRI", "MR"), ("mri", "MR"), ("MR T1", "MR T1")),
        *(("T1", "MR T1"), ("t2_flair", "MR t2_flair"), ("T1w", "MR T1w"), ("ADC", "MR ADC")),
    ],
)
def test_the_modality_is_what_the_channel_is(tmp_path, channel, modality):
    folder = write_model_folder(tmp_path, channels={"0": channel})
    assert read(folder)[0].model.modality == modality


def test_channels_of_several_modalities_are_not_called_mr(tmp_path):
    names = ["PET", "T1"]
    assert modality_of(names, {"normalization_schemes": ["ZScoreNormalization"] * 2}) == "PET, T1"


def test_many_structures_have_colours_of_their_own(tmp_path):
    labels = {"background": 0, **{f"part {n}": n for n in range(1, 118)}}
    model = read(write_model_folder(tmp_path, dataset={"labels": labels}))[0].model
    assert model.classes == 118
    assert len({label.color for label in model.labels}) == 117


def test_totalsegmentators_structures_have_their_codes(tmp_path):
    labels = {"background": 0, "aorta": 1, "kidney_right": 2, "something new": 3}
    plans = {"dataset_name": "Dataset291_TotalSegmentator_part1_organs_1559subj"}
    folder = write_model_folder(tmp_path, dataset={"labels": labels}, plans=plans)
    aorta, kidney, new = read(folder)[0].model.labels
    assert (aorta.value, aorta.name) == (1, "aorta")
    assert (aorta.coding.code, kidney.coding.meaning) == ("15825003", "Kidney")
    assert (new.value, new.name, new.coding) == (3, "something new", None)


def test_nibabels_reader_with_reorientation_turns_the_scan(tmp_path):
    plans = {"image_reader_writer": "NibabelIOWithReorient"}
    model = read(write_model_folder(tmp_path, plans=plans))[0].model
    assert model.preprocessing[0] == {"step": "orient", "to": "RAS"}


def test_the_old_name_of_the_intensities(tmp_path):
    folder = write_model_folder(
        tmp_path, configuration={"normalization_schemes": ["CTNormalization"]}
    )
    content = json.loads((folder / "plans.json").read_text())
    key = "foreground_intensity_properties_per_channel"
    content["foreground_intensity_properties_by_modality"] = content.pop(key)
    (folder / "plans.json").write_text(json.dumps(content))
    assert read(folder)[0].model.preprocessing[1] == {"step": "clip", "low": -60.0, "high": 130.0}


def test_a_configuration_may_inherit_from_another(tmp_path):
    folder = write_model_folder(tmp_path)
    content = json.loads((folder / "plans.json").read_text())
    found = content["configurations"]
    found["3d_lowres"] = {"inherits_from": CONFIGURATION, "spacing": [5.0, 5.0, 5.0]}
    (folder / "plans.json").write_text(json.dumps(content))
    lower = folder.rename(folder.with_name(f"{TRAINER}__nnUNetPlans__3d_lowres"))
    assert read(lower)[0].model.preprocessing[2]["mm"] == [5.0, 5.0, 5.0]


def test_the_ignore_label_is_no_structure(tmp_path):
    labels = {"background": 0, "spleen": 1, "kidney": [2], "ignore": 3}
    model = read(write_model_folder(tmp_path, dataset={"labels": labels}))[0].model
    assert [label.name for label in model.labels] == ["spleen", "kidney"]


def test_of_several_folds_the_first_is_used_and_that_is_told(tmp_path):
    folder = write_model_folder(tmp_path, folds=("fold_10", "fold_all", "fold_2"))
    built, warnings = read(folder)
    assert "fold_2;" in built.model.provenance.source
    assert len(warnings) == 1
    assert "3 folds, fold_2 alone" in warnings[0]


def test_a_training_that_was_not_finished_is_told(tmp_path):
    folder = write_model_folder(tmp_path, checkpoint="checkpoint_best.pth")
    built, warnings = read(folder)
    assert len(warnings) == 1
    assert "not finished" in warnings[0]
    built.build()


@pytest.mark.parametrize(
    "trainer",
    [
        *("nnUNetTrainer", "nnUNetTrainerNoMirroring", "nnUNetTrainer_4000epochs_NoMirroring"),
        *("nnUNetTrainer_DASegOrd0_NoMirroring", "nnUNetTrainer_1epoch", "nnUNetTrainerAdan3en4"),
        *("nnUNetTrainerDiceCELoss_noSmooth", "nnUNetTrainer_onlyMirror01_1500ep"),
    ],
)
def test_nnunets_own_trainers_are_nothing_to_be_told(tmp_path, trainer):
    folder = f"{trainer}__nnUNetPlans__{CONFIGURATION}"
    built, warnings = read(write_model_folder(tmp_path, folder=folder, trainer=trainer))
    assert warnings == []
    built.build()


def test_another_trainer_is_told(tmp_path):
    folder = f"nnUNetTrainerReLU__nnUNetPlans__{CONFIGURATION}"
    _, warnings = read(write_model_folder(tmp_path, folder=folder))
    assert len(warnings) == 1
    assert "nnUNetTrainerReLU is none of nnU-Net's own" in warnings[0]


def test_a_folder_of_another_name_is_what_its_checkpoint_says(tmp_path):
    model = read(write_model_folder(tmp_path, folder="my network"))[0].model
    assert model.title == "Small organs (nnU-Net 3d_fullres)"


def test_a_checkpoint_of_another_configuration_is_refused(tmp_path):
    folder = write_model_folder(tmp_path)
    content = json.loads((folder / "plans.json").read_text())
    content["configurations"]["3d_lowres"] = content["configurations"][CONFIGURATION]
    (folder / "plans.json").write_text(json.dumps(content))
    renamed = folder.rename(folder.with_name(f"{TRAINER}__nnUNetPlans__3d_lowres"))
    built = read_nnunet_folder(renamed, Reporter())
    with pytest.raises(ModelError, match="folder's name says 3d_lowres") as caught:
        built.build()
    assert caught.value.code == "model.nnunet"


def test_the_weights_of_another_network_are_refused(tmp_path):
    folder = write_model_folder(tmp_path)
    other = write_model_folder(tmp_path / "other", network=residual_network())
    weights = "fold_0/checkpoint_final.pth"
    (folder / weights).write_bytes((other / weights).read_bytes())
    with pytest.raises(ModelError) as caught:
        read_nnunet_folder(folder, Reporter()).build()
    assert caught.value.code == "model.weights"


def test_plans_of_a_giant_are_refused_before_it_is_built(tmp_path):
    giant = {"features_per_stage": [4096] * 2, "kernel_sizes": [[64] * 3] * 2}
    folder = write_model_folder(tmp_path)
    content = json.loads((folder / "plans.json").read_text())
    network = content["configurations"][CONFIGURATION]["architecture"]
    network["arch_kwargs"].update(giant)
    (folder / "plans.json").write_text(json.dumps(content))
    with pytest.raises(ModelError, match=r"checkpoint_final.pth do not fit") as caught:
        read_nnunet_folder(folder, Reporter()).build()
    assert caught.value.code == "model.weights"


def test_the_digest_is_of_all_files(tmp_path):
    first = read(write_model_folder(tmp_path / "1"))[0].digest
    assert read(write_model_folder(tmp_path / "2", spacing=[2, 2, 2]))[0].digest != first
    folder = write_model_folder(tmp_path / "3", dataset={"numTraining": 4})
    assert read(folder)[0].digest != first
    folder = write_model_folder(tmp_path / "4", folds=("fold_0", "fold_1"))
    (folder / "fold_0").rename(folder / "removed")
    assert read(folder)[0].digest != first


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "2d": ({"configuration": {"patch_size": [64, 64]}}, "in two dimensions"),
    "cascade": ({"configuration": {"previous_stage": "3d_lowres"}}, "second stage of a cascade"),
    "regions": (
        {"dataset": {"labels": {"background": 0, "whole": [1, 2], "core": 2}}},
        "regions that overlap",
    ),
    "label gap": ({"dataset": {"labels": {"background": 0, "spleen": 2}}}, "without a gap"),
    "labels of v1": ({"dataset": {"labels": {"0": "background", "1": "a"}}}, "whole numbers"),
    "no background": ({"dataset": {"labels": {"spleen": 1, "kidney": 2}}}, "without a gap"),
    "label manager": ({"plans": {"label_manager": "Mine"}}, "its labels are made by 'Mine'"),
    "preprocessor": ({"configuration": {"preprocessor_name": "Mine"}}, "prepared by 'Mine'"),
    "reader": ({"plans": {"image_reader_writer": "Tiff3DIO"}}, "as 'Tiff3DIO' reads them"),
    "normalization": (
        {"configuration": {"normalization_schemes": ["MyNormalization"]}},
        "normalized by 'MyNormalization'",
    ),
    "too few schemes": ({"channels": {"0": "T1", "1": "T2"}, "configuration": {
        "normalization_schemes": ["ZScoreNormalization"]}}, "each of 2 channels"),
    "resampling": (
        {"configuration": {"resampling_fn_data": "resample_torch_fornnunet"}},
        "'resample_torch_fornnunet'",
    ),
    "order": (
        {"configuration": {"resampling_fn_data_kwargs": {"is_seg": False, "order": 1}}},
        '"order" of "resampling_fn_data" is 1',
    ),
    "separate": (
        {"configuration": {"resampling_fn_data_kwargs": {"order": 3, "force_separate_z": True}}},
        '"force_separate_z" is True for the scans',
    ),
    "transpose": ({"plans": {"transpose_forward": [0, 0, 1]}}, "0, 1 and 2 in some order"),
    "no configuration": ({"plans": {"configurations": {}}}, "no configuration '3d_fullres'"),
    "network": (
        {"network": {"architecture": {"network_class_name": "os.system", "arch_kwargs": {}}}},
        "its network is 'os.system'",
    ),
    "network before 2.2": (
        {"network": {**network_before_2_2(), "UNet_class_name": "MyUNet"}}, "network is 'MyUNet'",
    ),
    "norm": ({"network": network_with(norm_op="torch.nn.BatchNorm3d")}, '"norm_op" of its network'),
    "dropout": ({"network": network_with(dropout_op="torch.nn.Dropout3d")}, '"dropout_op"'),
    "activation": ({"network": network_with(nonlin="torch.nn.ReLU")}, '"nonlin" of its network'),
    "slope": ({"network": network_with(nonlin_kwargs={"negative_slope": 0.2})}, '"nonlin_kwargs"'),
    "option": ({"network": network_with(attention=True)}, 'unknown option "attention"'),
    "stages": ({"network": network_with(n_conv_per_stage=[2, 2, 2])}, "list of 2 whole numbers"),
    "layers": ({"network": network_with(n_conv_per_stage=10**12)}, "2 whole numbers"),
    "kernels": ({"network": network_with(kernel_sizes="3")}, "three whole numbers for each stage"),
    "no checkpoint": ({"folds": ()}, "no checkpoint_final.pth or checkpoint_best.pth"),
    "a number beyond floats": ({"configuration": {"spacing": [1.0, 10**400, 1.0]}}, "3 numbers"),
    "spacing": ({"configuration": {"spacing": [1.0, None, 1.0]}}, "a list of 3 numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_with_a_reason(tmp_path, name):
    changes, why = REFUSED[name]
    error = refusal(write_model_folder(tmp_path, **changes))
    assert error.code == "model.nnunet"
    assert why in str(error)


def places_in(content: Any, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    if not isinstance(content, dict):
        return []
    return [
        p for key, value in content.items() for p in ((*path, key), *places_in(value, (*path, key)))
    ]


def test_whatever_stands_anywhere_it_is_read_or_refused(tmp_path):
    schemes = {"normalization_schemes": ["CTNormalization"]}
    folders = [
        write_model_folder(tmp_path / "new", configuration=schemes),
        write_model_folder(tmp_path / "old", network=network_before_2_2()),
    ]
    for folder, name in [(f, n) for f in folders for n in ("plans.json", "dataset.json")]:
        original = (folder / name).read_text()
        for place in places_in(json.loads(original)):
            for value in (None, -1, "x", [[]], {}):
                content = json.loads(original)
                parent = content
                for key in place[:-1]:
                    parent = parent[key]
                parent[place[-1]] = value
                if value is None:
                    del parent[place[-1]]
                (folder / name).write_text(json.dumps(content))
                with contextlib.suppress(ModelError):
                    read_nnunet_folder(folder, Reporter())
        (folder / name).write_text(original)


@pytest.mark.parametrize("text", ["[]", "{", '{"configurations": 1}', '{"configurations": {}}'])
def test_plans_that_are_none_are_refused(tmp_path, text):
    folder = write_model_folder(tmp_path)
    (folder / "plans.json").write_text(text)
    assert refusal(folder).code == "model.nnunet"


def test_configurations_that_inherit_from_each_other_are_refused(tmp_path):
    folder = write_model_folder(tmp_path)
    content = json.loads((folder / "plans.json").read_text())
    content["configurations"] = {
        CONFIGURATION: {"inherits_from": "other"},
        "other": {"inherits_from": CONFIGURATION},
    }
    (folder / "plans.json").write_text(json.dumps(content))
    assert "inherit from each other" in str(refusal(folder))


def test_a_folder_of_something_else_is_none(tmp_path):
    assert format_of(tmp_path) is None
    assert format_of(write_model_folder(tmp_path) / "fold_0") is None
    assert format_of(tmp_path / FOLDER / "plans.json") is None
