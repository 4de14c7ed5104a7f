"""MONAI bundles: the same network and the same preprocessing as MONAI's own, nothing of the bundle is run."""

from __future__ import annotations

import json
import shlex
import warnings
from pathlib import Path
from typing import Any

import pytest

from edgeft.artifact import Artifact
from edgeft.errors import RecipeError, StepError
from edgeft.models.foreign import processor_of, read_labels, read_network, read_preparation
from edgeft.models.monai_bundle import is_bundle
from edgeft.models.network import DEFAULTS, MONAI_NETS
from edgeft.pipeline.given.inputs import Inputs, resolve_inputs
from edgeft.recipe.load import load_recipe
from edgeft.store import Store
from edgeft.tasks.image_spec import ImageServe, make_spec

UNET: dict[str, Any] = {
    "_target_": "UNet", "spatial_dims": 2, "in_channels": "@channels", "out_channels": 3,
    "channels": [4, 8, 12], "strides": [2, 2], "num_res_units": 1, "norm": "batch",
}  # fmt: skip
RANGE = {
    "_target_": "ScaleIntensityRanged",
    "keys": "image",
    "a_min": 0,
    "a_max": 255,
    "b_min": -1,
    "b_max": 1,
    "clip": True,
}
NORMAL = {"_target_": "NormalizeIntensityd", "keys": ["image"], "subtrahend": 0.2, "divisor": 0.5}
RECIPE = """name: demo
model: {path: bundle, task: segmentation}
data: {source: mni-slices, labels: [rest, grey, white], group: slab, split: split, unit: row}
targets: [{device: local-cpu, export: [onnx]}]
gates: [{metric: mean_dice, at_least: 0.5}]
"""


def write_bundle(root: Path, network: Any = None, steps: Any = (RANGE, NORMAL), weights: bool = True) -> Path:
    folder = root / "bundle"
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    config = {
        "channels": 1, "bundle_root": ".", "device": "$torch.device('cuda' if torch.cuda.is_available() else 'cpu')",
        "network_def": network or UNET, "network": "$@network_def.to(@device)",
        "preprocessing": {"_target_": "Compose", "transforms": [{"_target_": "LoadImaged", "keys": "image"}, *steps]},
    }  # fmt: skip
    (folder / "configs/inference.json").write_text(json.dumps(config))
    image = {"type": "image", "num_channels": 1, "spatial_shape": [48, 24], "dtype": "float32", "value_range": [0, 1]}
    answer = {"channel_def": {"0": "rest", "1": "grey", "2": "white"}, "num_channels": 3}
    metadata = {"network_data_format": {"inputs": {"image": image}, "outputs": {"pred": answer}}}
    (folder / "configs/metadata.json").write_text(json.dumps(metadata))
    if weights:
        (folder / "models/model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    (root / "demo.yaml").write_text(RECIPE)
    return folder


def refused(root: Path) -> RecipeError:
    with pytest.raises(RecipeError) as caught:
        resolve_inputs(load_recipe(root / "demo.yaml"), Store(root / "store"), offline=True)
    return caught.value


def given(root: Path, sets: list[str]) -> Inputs:
    return resolve_inputs(load_recipe(root / "demo.yaml", sets), Store(root / "store"), offline=True)


@pytest.mark.ml
def test_the_network_is_the_one_monai_would_build(tmp_path: Path) -> None:
    """MONAI's own parser builds the module, its pickle is converted, and both answer alike to the last bit."""
    pytest.importorskip("monai")
    import torch

    from edgeft.cli import main
    from edgeft.models.load import load_model

    folder = write_bundle(root := tmp_path / "my nets", weights=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.bundle import ConfigParser

        theirs = ConfigParser(json.loads((folder / "configs/inference.json").read_text())).get_parsed_content(
            "network_def"
        )
    torch.save(theirs.state_dict(), folder / "models/model.pt")
    error = refused(root)
    assert "pickle (model.pt)" in error.what and error.hint.startswith("convert it first: edgeft convert")
    assert main(shlex.split(error.hint)[4:]) == 0, "the hint can be pasted, spaces in the path too"
    found = given(root, [])
    assert found.labels == ("rest", "grey", "white") and found.about["architecture"] == "MONAI UNet"
    ours = load_model(found.model, labels=found.labels, task="segmentation")
    images = torch.rand(2, 1, 48, 24)
    with torch.inference_mode():
        assert torch.equal(ours(images), theirs.eval()(images))
    with pytest.raises(StepError, match="answers 3 classes, the data has 2"):
        load_model(found.model, labels=("rest", "brain"), task="segmentation")


@pytest.mark.ml
def test_eight_bit_pixels_reach_the_network_as_monai_prepares_them(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    import numpy as np

    from edgeft.tasks.images import to_values

    folder = write_bundle(tmp_path)
    spec = make_spec(folder, ImageServe(None, None, None, None), whole=True)
    assert (spec.height, spec.width, spec.channels, spec.order) == (48, 24, 1, "L")
    pixels = np.random.default_rng(1).integers(0, 256, (2, 48, 24, 1)).astype(np.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.transforms import NormalizeIntensity, ScaleIntensityRange

        scale = ScaleIntensityRange(a_min=0, a_max=255, b_min=-1, b_max=1, clip=True)
        normal = NormalizeIntensity(subtrahend=0.2, divisor=0.5)
        wanted = np.stack([np.asarray(normal(scale(image.transpose(2, 0, 1).astype(np.float32)))) for image in pixels])
    np.testing.assert_allclose(to_values(pixels, spec), wanted, rtol=1e-5, atol=1e-5)
    broken = spec.model_copy(update={"mean": (0.5,)})
    assert np.abs(to_values(pixels, broken) - wanted).max() > 0.1


@pytest.mark.ml
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_a_bundle_is_trained_adapted_merged_and_read_again(tmp_path: Path) -> None:
    pytest.importorskip("monai")
    pytest.importorskip("nilearn")
    import torch

    from edgeft.models.load import load_model
    from tests.stages.slices import LABELS, Slices

    slices = Slices(tmp_path / "world")
    folder = write_bundle(tmp_path, weights=False)
    model = Artifact("torch-model", folder, "x", {"form": "monai", "initialise": True})
    steps: dict[str, Any] = {"max_steps": 4, "batch_size": 4, "learning_rate": 0.02}
    trained = slices.train(model, method="full", **steps)
    assert trained.facts["form"] == "monai" and is_bundle(trained.path)
    assert read_network(trained.path) == read_network(folder)
    adapter = slices.train(trained, method="lora", rank=2, target_modules="all-layers", dropout=0.0, **steps)
    merged = slices.merge(trained, adapter)
    images = torch.rand(2, 1, 48, 24)
    with torch.inference_mode():
        unmerged = load_model(trained, adapter=adapter, labels=LABELS, task="segmentation")(images)
        torch.testing.assert_close(
            load_model(merged, labels=LABELS, task="segmentation")(images), unmerged, rtol=1e-4, atol=1e-5
        )
        before = load_model(trained, labels=LABELS, task="segmentation")(images)
    assert float((before - unmerged).abs().max()) > 1e-3


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"_target_": "os.system", "command": "true"}, "'os.system', not one of"),
        ({**UNET, "_target_": "evil.monai.networks.nets.UNet"}, "not one of"),
        ({**UNET, "_target_": "VISTA3D"}, "not one of"),
        ({**UNET, "channels": "$[open('/tmp/x', 'w')]"}, "is an expression, which is never run"),
        ({**UNET, "act": {"_target_": "torch.load", "f": "x"}}, "'torch.load' as an argument"),
        ({**UNET, "channels": "@channels_of"}, ""),
        ({**UNET, "_target_": "DenseNet121", "pretrained": True}, "weights would be fetched"),
        ({**UNET, "spatial_dims": 3}, "is for 3-D images"),
        ({**UNET, "in_channels": 4}, "takes 4 channels"),
        ({**UNET, "in_channels": "two"}, "takes None channels"),
        ({**UNET, "in_channels": 60_000}, "takes 60000 channels"),
        ({**UNET, "in_channels": 10**12}, "1000000000000 is no number that a network is built with"),
        ({**UNET, "dropout": float("nan")}, "nan is no number that a network is built with"),
        ({"_target_": "BasicUNet", "out_channels": 3}, "BasicUNet is for 3-D images"),
        ("$import_anything()", "no network_def that could be read"),
    ],
)
def test_what_is_no_plain_network_is_refused_at_the_recipes_line(tmp_path: Path, change: Any, what: str) -> None:
    write_bundle(tmp_path, change)
    if not what:  # a reference to nothing leaves no value: MONAI says so when it builds
        assert read_network(tmp_path / "bundle").arguments["channels"] is None
        return
    error = refused(tmp_path)
    assert what in error.what and "demo.yaml:2" in error.where
    assert not Path("/tmp/x").exists()


@pytest.mark.parametrize("name", ["ScaleIntensityd", "NormalizeIntensityd", "ScaleIntensityRangePercentilesd"])
def test_preprocessing_that_depends_on_the_image_is_refused_by_name(tmp_path: Path, name: str) -> None:
    folder = write_bundle(tmp_path, steps=[{"_target_": name, "keys": "image"}])
    error = refused(tmp_path)
    assert name.removesuffix("d") in error.what and "depends on the values of each image" in error.what
    (tmp_path / "stated").mkdir()
    (tmp_path / "stated/preprocessor_config.json").write_text('{"num_channels": 1, "size": 32}')
    assert given(tmp_path, [f"model.tokenizer={tmp_path / 'stated'}"]).model.path == folder


def test_the_window_spacing_and_orientation_are_told(tmp_path: Path) -> None:
    steps = [
        {"_target_": "monai.transforms.Orientationd", "keys": "image", "axcodes": "RAS"},
        {"_target_": "Spacingd", "keys": ["image", "label"], "pixdim": [1.5, 1.5]},
        {**RANGE, "a_min": -175, "a_max": 250, "b_min": 0},
        {"_target_": "CropForegroundd", "keys": ["image"]},
        {"_target_": "ScaleIntensityd", "keys": "label"},
    ]
    folder = write_bundle(tmp_path, steps=steps)
    said = read_preparation(folder)
    assert (said.values, said.result, said.spacing, said.orientation) == ((-175, 250), (0, 1), (1.5, 1.5), "RAS")
    notes = " ".join(given(tmp_path, []).about["notes"])
    assert all(text in notes for text in ("-175..250", "1.5, 1.5 mm", "RAS", "CropForeground", "columns before rows"))
    assert processor_of(folder)["image_mean"] == [0] and processor_of(folder)["image_std"] == [1]


@pytest.mark.parametrize("text", ["{", "[]", "9" * 100, '{"network_def": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_a_hostile_configuration_is_an_error_in_words(tmp_path: Path, text: str) -> None:
    folder = write_bundle(tmp_path)
    (folder / "configs/inference.json").write_text(text)
    assert refused(tmp_path).what


def test_references_that_multiply_are_stopped(tmp_path: Path) -> None:
    """Five names, each a list of the next a hundred times: a file of 5 KB that would be 10^10 values."""
    folder = write_bundle(tmp_path)
    names = {f"n{place}": [f"@n{place + 1}"] * 100 for place in range(5)}
    (folder / "configs/inference.json").write_text(json.dumps({"network_def": {**UNET, "channels": "@n0"}, **names}))
    assert "more than 100,000 values" in refused(tmp_path).what


@pytest.mark.ml
def test_defaults_of_arguments_are_those_of_monai() -> None:
    pytest.importorskip("monai")
    import inspect

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import monai.networks.nets as nets
    for net in MONAI_NETS:
        parameters = inspect.signature(getattr(nets, net)).parameters
        stated = {name: parameters[name].default for name in ("spatial_dims", "in_channels", "out_channels")}
        known = {name: value for name, value in stated.items() if value is not inspect.Parameter.empty}
        assert known == DEFAULTS.get(net, {}), net


def test_labels_come_from_the_metadata(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path)
    assert read_labels(folder) == ("rest", "grey", "white")
    (folder / "configs/metadata.json").unlink()
    assert read_labels(folder) is None
