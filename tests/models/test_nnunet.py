"""nnU-Net v2 folders: the network its package builds, its fixed normalisation, and what cannot be taken over by name."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeft.errors import RecipeError, StepError
from edgeft.models.foreign import is_foreign, processor_of, read_labels, read_network, read_preparation
from edgeft.models.nnunet import read_plans
from edgeft.pipeline.given.inputs import Inputs, resolve_inputs
from edgeft.recipe.load import load_recipe
from edgeft.store import Store

NAME = "nnUNetTrainer__nnUNetPlans__3d_fullres"
PLACE = "dynamic_network_architectures.architectures.unet."
INTENSITIES = {"mean": 98.5, "std": 40.25, "percentile_00_5": -12.0, "percentile_99_5": 226.5, "median": 100.0}
KWARGS: dict[str, Any] = {
    "n_stages": 2, "features_per_stage": [8, 24], "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3], [3, 3, 3]], "strides": [[1, 1, 1], [2, 2, 2]], "n_conv_per_stage": [1, 1],
    "n_conv_per_stage_decoder": [1], "conv_bias": True, "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-05, "affine": True}, "dropout_op": None, "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU", "nonlin_kwargs": {"inplace": True},
}  # fmt: skip
FULL: dict[str, Any] = {
    "data_identifier": "nnUNetPlans_3d_fullres", "preprocessor_name": "DefaultPreprocessor", "batch_size": 2,
    "patch_size": [12, 12, 16], "spacing": [1.0, 1.0, 1.0], "normalization_schemes": ["CTNormalization"],
    "use_mask_for_norm": [False], "architecture": {
        "network_class_name": PLACE + "PlainConvUNet", "arch_kwargs": KWARGS,
        "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
    },
}  # fmt: skip
PLANS: dict[str, Any] = {
    "dataset_name": "Dataset001_Tissue", "plans_name": "nnUNetPlans", "transpose_forward": [0, 1, 2],
    "transpose_backward": [0, 1, 2],
    "configurations": {
        "2d": {**FULL, "patch_size": [12, 16], "spacing": [1.0, 1.0]}, "3d_fullres": FULL,
        "3d_small": {"inherits_from": "3d_fullres", "patch_size": [8, 8, 8]},
        "3d_cascade_fullres": {"inherits_from": "3d_fullres", "previous_stage": "3d_lowres"},
    },
    "foreground_intensity_properties_per_channel": {"0": INTENSITIES},
}  # fmt: skip
DATASET: dict[str, Any] = {
    "channel_names": {"0": "CT"},
    "labels": {"white": 2, "rest": 0, "grey": 1, "ignore": 3},
    "numTraining": 1,
    "file_ending": ".nii.gz",
}
RECIPE = """name: demo
model: {path: FOLDER, task: volume-segmentation}
data: {source: mni-volumes, options: {scanners: [plain]}, group: slab, split: split, unit: row}
preprocess: {window: [-12, 226.5], orientation: stored, spacing: [1, 1, 1]}
serve: {batch: 1, depth: 12, height: 12, width: 16, overlap: 0.5}
measure: {protocol: none}
targets: [{device: local-cpu, export: [onnx], optimise: size}]
gates: [{metric: mean_dice, no_worse_than: source, margin: 0.3}]
"""
Change = Callable[[dict[str, Any], dict[str, Any]], object]


def write_folder(root: Path, change: Change = lambda plans, dataset: None, name: str = NAME) -> Path:
    folder = root / name
    (folder / "fold_0").mkdir(parents=True)
    plans, dataset = copy.deepcopy(PLANS), copy.deepcopy(DATASET)
    change(plans, dataset)
    (folder / "plans.json").write_text(json.dumps(plans))
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (root / "demo.yaml").write_text(RECIPE.replace("FOLDER", name))
    return folder


def write_weights(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")


def given(root: Path, *sets: str) -> Inputs:
    return resolve_inputs(load_recipe(root / "demo.yaml", list(sets)), Store(root / "store"), offline=True)


def refused(root: Path, *sets: str) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        given(root, *sets)
    return caught.value


def trained(folder: Path) -> Any:
    """nnU-Net's network, and a checkpoint of it as its trainer writes one."""
    import numpy as np
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    given = {**KWARGS, "conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(4)
        network = PlainConvUNet(input_channels=1, num_classes=3, deep_supervision=True, **given)
    checkpoint = {
        "network_weights": network.state_dict(),
        "optimizer_state": torch.optim.SGD(network.parameters(), 0.01).state_dict(), "grad_scaler_state": None,
        "logging": {"mean_fg_dice": [np.float64(0.5)], "train_losses": [np.float32(0.25)], "lrs": [0.01]},
        "_best_ema": np.float64(0.5), "current_epoch": 1, "trainer_name": "nnUNetTrainer",
        "init_args": {"plans": PLANS, "configuration": "3d_fullres", "fold": 0, "device": torch.device("cpu")},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }  # fmt: skip
    torch.save(checkpoint, folder / "fold_0" / "checkpoint_final.pth")
    network.decoder.deep_supervision = False
    return network.eval()


@pytest.mark.ml
def test_the_network_is_the_one_nnunet_trained(tmp_path: Path) -> None:
    pytest.importorskip("dynamic_network_architectures")
    import torch

    from edgeft.cli import main
    from edgeft.models.load import load_model

    folder = write_folder(tmp_path)
    theirs = trained(folder)
    error = refused(tmp_path)
    assert "keeps its weights as pickles" in error.what and "demo.yaml:2" in error.where
    words = error.hint.partition("edgeft ")[2].split()
    assert words[0] == "convert" and words[2:4] == ["--key", "network_weights"]
    assert main(words) == 0
    found = given(tmp_path)
    assert found.labels == ("rest", "grey", "white") and found.about["architecture"] == "nnU-Net PlainConvUNet"
    assert any("windows of 12 x 12 x 16" in note for note in found.about["notes"])
    ours = load_model(found.model, labels=found.labels, task="volume-segmentation")
    volumes = torch.rand(2, 1, 12, 12, 16)
    with torch.inference_mode():
        assert torch.equal(ours(volumes), theirs(volumes)), "at full resolution, to the last bit"
    with pytest.raises(StepError, match="answers 3 classes, the data has 2"):
        load_model(found.model, labels=("rest", "brain"), task="volume-segmentation")


@pytest.mark.ml
def test_eight_bit_voxels_reach_the_network_as_nnunet_normalises_them(tmp_path: Path) -> None:
    import numpy as np

    from edgeft.medical.order import quantise, window
    from edgeft.tasks.volume_spec import make_volume_spec

    folder = write_folder(tmp_path)
    spec = make_volume_spec(folder, {"depth": 12, "height": 12, "width": 16}, (12, 12, 16))
    units = np.linspace(-400, 700, 12 * 12 * 16, dtype=np.float32).reshape(1, 1, 12, 12, 16)
    low, high = INTENSITIES["percentile_00_5"], INTENSITIES["percentile_99_5"]
    wanted = (np.clip(units, low, high) - INTENSITIES["mean"]) / INTENSITIES["std"]
    step = (high - low) / 255 / INTENSITIES["std"]
    ours = spec.values(quantise(window(units, low, high)))
    assert np.abs(ours - wanted).max() <= step / 2 + 1e-5, "but for the rounding to 256 levels"
    assert read_preparation(folder).patch == (12, 12, 16) and processor_of(folder)["num_channels"] == 1


def test_a_folder_says_its_configuration_by_its_name_and_may_inherit(tmp_path: Path) -> None:
    folder = write_folder(tmp_path, name="nnUNetTrainer__nnUNetPlans__3d_small")
    assert is_foreign(folder) and read_plans(folder).configuration == "3d_small"
    assert read_preparation(folder).patch == (8, 8, 8) and read_network(folder).dimensions == 3
    flat = write_folder(tmp_path / "flat", name="renamed")
    write_weights(flat)
    assert "its folder's name says none" in refused(tmp_path / "flat").what
    plans = {**PLANS, "configurations": {"3d_fullres": FULL}}
    (flat / "plans.json").write_text(json.dumps(plans))
    assert read_labels(flat) == ("rest", "grey", "white")


def test_a_folder_of_another_configuration_is_another_model(tmp_path: Path) -> None:
    """The same files: what the name says decides spacing and windows, so a cached step of the one is none of the other."""
    found = []
    for name in (NAME, NAME.replace("3d_fullres", "3d_small")):
        write_weights(write_folder(tmp_path / name, name=name))
        found.append(given(tmp_path / name))
    assert found[0].model.digest != found[1].model.digest
    assert found[0].tokenizer.digest != found[1].tokenizer.digest


def set_at(*path: str) -> Callable[[Any], Change]:
    """A change of the plans at a path."""

    def with_value(value: Any) -> Change:
        def change(plans: dict[str, Any], dataset: dict[str, Any]) -> None:
            place = plans
            for key in path[:-1]:
                place = place[key]
            place[path[-1]] = value

        return change

    return with_value


ARCHITECTURE = ("configurations", "3d_fullres", "architecture")
RANGES = ("foreground_intensity_properties_per_channel", "0")
HOSTILE: list[tuple[str, Change, str]] = [
    ("z-scores", set_at("configurations", "3d_fullres", "normalization_schemes")(["ZScoreNormalization"]), "ZScoreNor"),
    ("network", set_at(*ARCHITECTURE, "network_class_name")("os.system"), "'os.system', not one of"),
    ("lookalike", set_at(*ARCHITECTURE, "network_class_name")("evil.PlainConvUNet"), "not one of"),
    ("monai", set_at(*ARCHITECTURE, "network_class_name")("monai.networks.nets.UNet"), "is UNet, not one of"),
    ("operator", set_at(*ARCHITECTURE, "arch_kwargs", "conv_op")("os.system"), "names the operator 'os.system'"),
    ("torch.load", set_at(*ARCHITECTURE, "arch_kwargs", "nonlin")("torch.load"), "names the operator"),
    ("old", set_at(*ARCHITECTURE)(None), "before 2.3"),
    ("turned", set_at("transpose_forward")([1, 0, 2]), "turns the axes"),
    ("no intensities", set_at("foreground_intensity_properties_per_channel")({}), "no intensities"),
    ("no spacing", set_at("configurations", "3d_fullres", "spacing")([0, 1, 1]), "no spacing"),
    ("empty", set_at("configurations")([]), "no configurations"),
    ("round", set_at("configurations", "3d_fullres")({"inherits_from": "3d_fullres"}), "before 2.3"),
    ("regions", lambda plans, dataset: dataset.update(labels={"rest": 0, "all": [1, 2]}), "regions"),
    ("numbers", lambda plans, dataset: dataset.update(labels={"rest": 0, "grey": 2}), "not numbered"),
    ("channels", lambda plans, dataset: dataset.update(channel_names=[]), "names no channels"),
    ("stages", set_at(*ARCHITECTURE, "arch_kwargs", "n_stages")(10**9), "1000000000 is no number"),
    ("channels wide", set_at(*ARCHITECTURE, "arch_kwargs", "features_per_stage")([8, 10**6]), "1000000 is no number"),
    ("no operator", set_at(*ARCHITECTURE, "arch_kwargs", "conv_op")(None), "neither Conv2d nor Conv3d"),
    ("flat patch", set_at("configurations", "3d_fullres", "patch_size")([12, 16]), "2 of patch_size for 3 axes"),
    ("flat spacing", set_at("configurations", "3d_fullres", "spacing")([1, 1]), "2 sides of spacing"),
    ("no range", set_at(*RANGES)({**INTENSITIES, "percentile_99_5": -12.0 + 1e-12}), "no intensities"),
    ("truth", lambda plans, dataset: dataset.update(labels={"rest": 0, "grey": True}), "not numbered"),
    ("digits", lambda plans, dataset: dataset.update(labels={"rest": 0, "grey": "1" * 5000}), "not numbered"),
    (
        "two lines",
        lambda plans, dataset: dataset.update(labels={"rest": 0, "a\nb": 1}),
        "label 'a\\nb' is empty, there",
    ),
    ("escapes", set_at("transpose_forward")("\x1b[2J"), "by  [2J,"),
    ("two", lambda plans, dataset: dataset.update(channel_names={"0": "T1", "1": "T2"}), "of 2 channels"),
]


@pytest.mark.parametrize(("change", "what"), [row[1:] for row in HOSTILE], ids=[row[0] for row in HOSTILE])
def test_what_cannot_be_taken_over_is_refused_at_the_recipes_line(tmp_path: Path, change: Change, what: str) -> None:
    write_weights(write_folder(tmp_path, change))
    error = refused(tmp_path)
    assert what in error.what and "demo.yaml:2" in error.where and error.hint


def test_a_folder_without_its_dataset_is_told_what_it_lacks(tmp_path: Path) -> None:
    folder = write_folder(tmp_path)
    write_weights(folder)
    (folder / "dataset.json").unlink()
    error = refused(tmp_path)
    assert "dataset.json" in error.what and error.hint == "restore the file"


def test_z_scores_are_taken_over_by_a_preprocessing_of_ones_own(tmp_path: Path) -> None:
    """What the refusal advises works: the network comes with the window that the recipe states."""
    z_scores = set_at("configurations", "3d_fullres", "normalization_schemes")(["ZScoreNormalization"])
    write_weights(write_folder(tmp_path, z_scores))
    (tmp_path / "own").mkdir()
    (tmp_path / "own/preprocessor_config.json").write_text('{"num_channels": 1}')
    found = given(tmp_path, f"model.tokenizer={tmp_path / 'own'}", "preprocess.window=[0, 900]")
    assert found.labels == ("rest", "grey", "white") and found.tokenizer.path == tmp_path / "own"


def test_a_cascade_and_another_dimension_are_refused(tmp_path: Path) -> None:
    write_weights(write_folder(tmp_path, name="nnUNetTrainer__nnUNetPlans__3d_cascade_fullres"))
    assert "second stage of a cascade" in refused(tmp_path).what
    write_weights(write_folder(tmp_path / "a"))
    assert "for 3-D images" in refused(tmp_path / "a", "model.task=segmentation").what


@pytest.mark.parametrize(
    ("sets", "what", "hint"),
    [
        ("preprocess.window=[0, 255]", "trained with window [-12, 226.5], here it is [0, 255]", "window: [-12, 226.5]"),
        ("preprocess.spacing=[2, 1, 1]", "trained with spacing [1, 1, 1], here it is [2, 1, 1]", "spacing: [1, 1, 1]"),
        ("preprocess.spacing=null", "here it is left as stored", "spacing: [1, 1, 1]"),
    ],
)
def test_a_recipe_that_prepares_images_otherwise_is_told_how(tmp_path: Path, sets: str, what: str, hint: str) -> None:
    write_weights(write_folder(tmp_path))
    error = refused(tmp_path, sets)
    assert what in error.what and error.hint == f"preprocess: {{{hint}}}"
    (tmp_path / "own").mkdir()
    (tmp_path / "own/preprocessor_config.json").write_text('{"num_channels": 1}')
    assert given(tmp_path, sets, f"model.tokenizer={tmp_path / 'own'}").labels


@pytest.mark.ml
def test_adapters_on_layers_of_two_names_are_refused(tmp_path: Path) -> None:
    """nnU-Net's blocks hold each convolution twice, and run the place that an adapter would not take."""
    pytest.importorskip("dynamic_network_architectures")
    from edgeft.stages.finetune.adapters import target_layers

    network = trained(write_folder(tmp_path))
    with pytest.raises(StepError, match="is also 'encoder") as caught:
        target_layers(network, "all-layers", "steps[0]")
    assert caught.value.hint.startswith("method: full")


@pytest.mark.ml
@pytest.mark.slow
def test_from_an_nnunet_folder_to_a_bundle(tmp_path: Path) -> None:
    """As it is, and after some steps of full fine-tuning: exported, int8, gated."""
    pytest.importorskip("dynamic_network_architectures")
    from edgeft.cli import main
    from tests.pipeline.conftest import Workbench

    bench = Workbench(tmp_path, tmp_path / "built")
    folder = write_folder(tmp_path)
    trained(folder)
    words = [str(folder / "fold_0/checkpoint_final.pth"), "--key", "network_weights"]
    assert main(["convert", *words, "--output", str(folder / "model.safetensors")]) == 0
    run = bench.run("build", "demo.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    record = bench.record("demo")
    assert record["model"]["architecture"] == "nnU-Net PlainConvUNet"
    rows = {row["name"]: (row["status"], row["why"]) for row in record["targets"][0]["candidates"]}
    assert {"eligible", "chosen"} >= {rows["onnx/float"][0], rows["onnx/int8-static"][0]}, rows
    said = json.loads((bench.folder / "out/demo/targets/local-cpu/preprocess.json").read_text())
    assert said["medical"]["window"] == [-12.0, 226.5]
    text = (bench.folder / "demo.yaml").read_text()
    step = "steps:\n  - finetune: {method: full, max_steps: 4, batch_size: 2, learning_rate: 0.01, dice: 1.0}\n"
    (bench.folder / "tuned.yaml").write_text(
        text.replace("name: demo", "name: tuned").replace("measure:", step + "measure:")
    )
    run = bench.run("build", "tuned.yaml")
    assert run.returncode == 0, run.stderr + run.stdout
    assert json.loads((bench.folder / "out/tuned/record.json").read_text())["status"] == "passed"
