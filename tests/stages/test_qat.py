"""Quantisation-aware fine-tuning: what is simulated is what ONNX Runtime does, and what is learnt survives it."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.exporter import Variant
from edgeft.models.load import load_model
from edgeft.models.predict import forward_logits, predict_logits
from edgeft.stages.finetune.qat import Qat
from tests.material import SATURATES, saturates
from tests.stages.test_resume import killed
from tests.stages.world import LABELS, World, make_world

pytestmark = pytest.mark.ml

OUTLIER = 1500.0
"""How far one channel sticks out of the others: 8 bits over its range leave the others less than one step each."""
QUICK: dict[str, Any] = {"method": "qat", "max_steps": 6, "batch_size": 8}


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A trained classifier as root/base that answers as before in float, with one outlier channel planted per layer."""
    world = make_world(tmp_path_factory.mktemp("hard"), hidden=64, train=400, validation=160)
    made = world.run({"method": "full", "epochs": 5, "batch_size": 16, "learning_rate": 1e-3, "metric": "loss"}, "fine")
    assert made.facts["training"]["best_metric"] < 0.5
    shutil.rmtree(world.root / "base")
    plant(made, world.root / "base")
    shutil.copytree(made.path, world.root / "fine")
    return world


def plant(model: Artifact, out: Path) -> None:
    """Scale one value channel up and its use down: the same function, a far wider range of what enters the layer."""
    import torch

    from edgeft.models.save import save_model

    module: Any = load_model(model, labels=LABELS)
    with torch.no_grad():
        for layer in module.bert.encoder.layer:
            value, output = layer.attention.self.value, layer.attention.output.dense
            value.weight[3] *= OUTLIER
            value.bias[3] *= OUTLIER
            output.weight[:, 3] /= OUTLIER
    out.mkdir()
    save_model(module, model, out)


def cases(world: World) -> tuple[dict[str, Any], Any]:
    """Feeds and labels of the validation split."""
    import pyarrow.parquet as pq

    ctx = world.context("cases")
    rows = pq.read_table(ctx.splits["validation"].path)
    return ctx.task.feeds(rows, ctx.prepared), rows.column("label").to_numpy()


def run_int8(world: World, model: Artifact, mode: str) -> Any:
    """Logits of the exporter's int8 form on ONNX Runtime, case by case."""
    import onnxruntime
    from edgeft_exporters.onnx.exporter import OnnxExporter

    ctx, exporter, (feeds, _) = world.context("export"), OnnxExporter(), cases(world)
    ctx.prepared = None  # the words' tokenizer of these tests states no inputs
    exported, out = world.root / f"float-{model.digest[:16]}", Path(tempfile.mkdtemp(dir=world.root))
    if not exported.exists():
        exported.mkdir()
        exporter.export(model, {"opset": 20, "ir_version": 10}, exported, ctx)
    options = {"mode": mode, "embeddings": "float", "reduce_range": False}
    variant = Variant(mode, options, needs_calibration=mode == "static")
    calibration = {name: array[:64] for name, array in feeds.items()} if variant.needs_calibration else None
    exporter.compress(Artifact("onnx", exported, "0" * 64), variant, calibration, out, ctx)
    session = onnxruntime.InferenceSession(str(out / "model.onnx"), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_inputs()]
    count = len(feeds["input_ids"])
    parts = [session.run(["logits"], {name: feeds[name][at : at + 1] for name in names})[0] for at in range(count)]
    return np.concatenate(parts)


def run_float(world: World, model: Artifact) -> Any:
    return predict_logits(load_model(model, labels=LABELS), cases(world)[0])


def accuracy(world: World, logits: Any) -> float:
    return float((logits.argmax(axis=1) == cases(world)[1]).mean())


@pytest.mark.skipif(saturates(), reason=SATURATES)
def test_simulated_rounding_is_that_of_onnx_runtime(hard: World) -> None:
    """Rounded in torch and run as int8 by ONNX Runtime, the model strays from float in the same way, to a few percent."""
    import torch

    from edgeft.stages.finetune import fake_quant

    module = load_model(hard.base, labels=LABELS)
    names = fake_quant.layers_to_round(module)
    assert len(names) == 13 and "classifier" not in names, "two layers of six, and the pooler; the head stays"
    fake_quant.insert(module, names, fake_quant.Rounding("case"), None)
    feeds = {name: torch.from_numpy(array) for name, array in cases(hard)[0].items()}
    with torch.no_grad():
        simulated = forward_logits(module.eval(), feeds).numpy()
    real, exact = run_int8(hard, hard.base, "dynamic"), run_float(hard, hard.base)
    assert np.abs(simulated - real).mean() < 0.1 * np.abs(exact - real).mean()


@pytest.mark.skipif(saturates(), reason=SATURATES)
def test_int8_after_training_loses_less_than_without(hard: World) -> None:
    """On ONNX Runtime, static int8 of the planted model; its float answers stay those of the model before."""
    before = {mode: run_int8(hard, hard.base, mode) for mode in ("static", "dynamic")}
    exact = run_float(hard, hard.base)
    lost = accuracy(hard, exact) - accuracy(hard, before["static"])
    assert lost > 0.04, "the planted channel must hurt, or there is nothing to show"
    options = {"epochs": 4, "batch_size": 16, "learning_rate": 1e-3, "activations": "static", "metric": "loss"}
    made = hard.run({"method": "qat", **options}, "rescued")
    trained = run_float(hard, made)
    after = {mode: run_int8(hard, made, mode) for mode in ("static", "dynamic")}
    assert accuracy(hard, exact) - accuracy(hard, after["static"]) < 0.5 * lost
    for mode in ("static", "dynamic"):
        assert np.abs(after[mode] - trained).mean() < 0.5 * np.abs(before[mode] - exact).mean()
    assert accuracy(hard, trained) >= accuracy(hard, exact) - 0.01
    assert made.facts["rounding"] == {"layers": 13, "weight_bits": 8, "activations": "one fixed range"}


@pytest.mark.parametrize(
    "options", [{"activations": "static"}, {"rank": 4}, {"weight_bits": 4, "group_size": 16}], ids=str
)
def test_what_is_left_is_a_plain_model(hard: World, options: dict[str, Any]) -> None:
    from safetensors.torch import load_file

    made = hard.run({**QUICK, **options}, f"plain-{len(str(options))}")
    before, after = (load_file(item.path / "model.safetensors") for item in (hard.base, made))
    assert {name: tensor.shape for name, tensor in before.items()} == {n: t.shape for n, t in after.items()}
    assert sorted(path.name for path in made.path.iterdir()) == ["config.json", "model.safetensors"]
    name = "bert.encoder.layer.0.intermediate.dense.weight"
    change = (after[name] - before[name]).double()
    assert float(change.abs().max()) > 0
    if "rank" in options:
        import torch

        values = torch.linalg.svdvals(change)
        # Adding the update to the stored weight rounds every entry once: 1e-6 of the weight, far below its 4 directions.
        assert int((values > 1e-2 * values[0]).sum()) <= 4
        embeddings = "bert.embeddings.word_embeddings.weight"
        assert (after[embeddings] == before[embeddings]).all(), "only the updates and the head train"
    assert np.isfinite(run_float(hard, made)).all()


@pytest.mark.parametrize(("bits", "group"), [(8, None), (7, None), (4, None), (4, 16)])
def test_weights_have_as_many_steps_as_the_recipe_says(bits: int, group: int | None) -> None:
    """Of every channel or group: whole multiples of one scale, its largest weight at the last step."""
    import torch

    from edgeft.stages.finetune import fake_quant

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(64, 8, bias=False), torch.nn.Linear(8, 2))
    weight = net[0].weight.detach().clone()
    fake_quant.insert(net, ("0",), fake_quant.Rounding("float", bits, group), None)
    with torch.no_grad():
        rounded = net[0](torch.eye(64)).T
    most = 2 ** (bits - 1) - 1
    rows, exact = (item.reshape(-1, group or 64) for item in (rounded, weight))
    steps = rows / (exact.abs().amax(dim=1, keepdim=True) / most)
    torch.testing.assert_close(steps, steps.round(), rtol=0, atol=1e-3)
    assert (steps.round().abs().amax(dim=1) == most).all()
    assert float((rounded - weight).abs().max()) > 0


def test_ranges_are_learnt_from_training_rows_alone() -> None:
    import torch

    from edgeft.stages.finetune.fake_quant import StaticRange

    quantiser = StaticRange().train()
    quantiser(torch.linspace(-1, 1, 50))
    scale = float(quantiser.quantiser.scale)
    assert scale == pytest.approx(2 / 255, rel=1e-3)
    quantiser.eval()
    clipped = quantiser(torch.tensor([-50.0, 0.0, 50.0]))
    assert float(quantiser.quantiser.scale) == scale and float(clipped.abs().max()) < 1.01


def test_case_ranges_do_not_depend_on_the_batch() -> None:
    import torch

    from edgeft.stages.finetune.fake_quant import CaseRange

    torch.manual_seed(0)
    rows, quantiser = torch.randn(4, 5, 8) * torch.tensor([1.0, 10, 0.1, 3])[:, None, None], CaseRange()
    torch.testing.assert_close(quantiser(rows), torch.cat([quantiser(row[None]) for row in rows]), rtol=0, atol=0)
    step = (rows.amax(dim=(1, 2)) - rows.amin(dim=(1, 2))) / 255
    assert bool(((quantiser(rows) - rows).abs().amax(dim=(1, 2)) <= 0.51 * step).all())


def test_rounding_a_kernel_commutes_with_a_folded_normalisation() -> None:
    """One scale per output channel: rounding, then scaling channels, is scaling, then rounding."""
    import torch

    from edgeft.stages.finetune import fake_quant

    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(8 * 36, 2))
    plain: Any = net[0]
    gains, x = torch.rand(8) + 0.5, torch.randn(4, 3, 8, 8)
    folded = torch.nn.Conv2d(3, 8, 3)
    folded.weight.data, folded.bias.data = plain.weight.data * gains[:, None, None, None], plain.bias.data * gains
    assert fake_quant.layers_to_round(net) == ("0",)
    fake_quant.insert(net, ("0",), fake_quant.Rounding("case"), None)
    holder = torch.nn.Sequential(folded)
    fake_quant.insert(holder, ("0",), fake_quant.Rounding("case"), None)
    rounded = net[0](x)
    assert 1e-4 < float((rounded - plain(x)).detach().abs().max()) < 0.1
    torch.testing.assert_close(rounded * gains[:, None, None], holder(x), rtol=1e-5, atol=1e-5)
    rounded.sum().backward()
    assert plain.weight.grad is not None and bool((plain.weight.grad != 0).all())
    fake_quant.remove(net)
    assert net[0] is plain


@pytest.mark.parametrize(
    "options", [{"activations": "static"}, pytest.param({"rank": 4}, marks=pytest.mark.slow)], ids=str
)
def test_killed_run_resumes_to_the_same_digest(hard: World, options: dict[str, Any]) -> None:
    """Moving ranges and low-rank updates are in the checkpoint."""
    chosen = {"method": "qat", "max_steps": 16, "batch_size": 8, "checkpoint_steps": 5, "eval_steps": 4, **options}
    name = f"killed-{next(iter(options))}"
    killed(hard, name, chosen, "step:12")
    resumed = hard.run(chosen, name)
    assert resumed.facts["training"]["resumed"] == 1
    assert resumed.digest == hard.run(chosen, f"{name}-whole").digest


def test_groups_that_do_not_divide_a_layer(hard: World) -> None:
    with pytest.raises(StepError, match="group_size: 48 does not divide the 64 inputs of bert"):
        hard.run({**QUICK, "group_size": 48}, "groups")


def test_a_model_without_a_head_is_no_start(world: World) -> None:
    with pytest.raises(StepError, match="no trained head for 3 labels"):
        world.run(QUICK, "headless")


@pytest.mark.parametrize(
    "options",
    [{"alpha": 8}, {"weight_bits": 9}, {"activations": "layer"}, {"teacher_weight": 2}, {"group_size": 1}],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Qat(**options)
