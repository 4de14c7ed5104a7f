"""Fine-tuning: options, what is trained and kept, what a person is told when it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from edgeft import plugins
from edgeft.artifact import Artifact
from edgeft.errors import StepError
from edgeft.models.load import load_model
from edgeft.models.predict import predict_logits
from edgeft.plugins import PluginError
from edgeft.stages.finetune import stage_for
from edgeft.stages.finetune.curve import best_evaluation, out_of_patience
from edgeft.stages.finetune.full import Full
from edgeft.stages.finetune.qlora import QLora
from edgeft.stages.finetune.schedule import rate_factor
from tests.stages.world import LABELS, World

pytestmark = pytest.mark.ml

QUICK: dict[str, Any] = {"max_steps": 4, "batch_size": 8}


def validation_accuracy(world: World, model: Artifact, adapter: Artifact | None = None) -> float:
    import pyarrow.parquet as pq

    ctx = world.context("check")
    rows = pq.read_table(ctx.splits["validation"].path)
    logits = predict_logits(load_model(model, adapter=adapter, labels=LABELS), ctx.task.feeds(rows, ctx.prepared))
    return float(ctx.task.score({"logits": logits}, rows, LABELS).metrics["accuracy"])


def test_method_decides_the_class() -> None:
    assert stage_for({}) is QLora
    assert stage_for({"method": "full"}) is Full
    with pytest.raises(PluginError) as caught:
        stage_for({"method": "qlor"})
    assert "qlora" in caught.value.hint


@pytest.mark.parametrize("method", ["qlora", "lora", "full"])
def test_best_weights_are_what_is_saved(learned: World, method: str) -> None:
    """Trained far too hot, so that the last weights are not the best ones."""
    rate = 2e-3 if method == "full" else 2e-2
    options = {
        "method": method,
        "epochs": 6,
        "batch_size": 16,
        "learning_rate": rate,
        "schedule": "constant",
        "eval_steps": 5,
    }
    made = learned.run(options, f"best-{method}")
    training = made.facts["training"]
    values = {point["step"]: point["eval_metric"] for point in training["curve"] if point["eval_metric"] is not None}
    assert training["best_metric"] == max(values.values()) == values[training["best_step"]]
    assert training["best_step"] == min(step for step, value in values.items() if value == max(values.values()))
    kept = validation_accuracy(learned, made) if method == "full" else validation_accuracy(learned, learned.base, made)
    assert kept == pytest.approx(training["best_metric"], abs=1e-9)


def test_training_learns(learned: World) -> None:
    made = learned.run({"method": "qlora", "epochs": 8, "batch_size": 16, "learning_rate": 5e-3}, "learns")
    training = made.facts["training"]
    assert training["best_metric"] > 0.9, "three labels: chance is 0.33"
    assert training["curve"][-1]["loss"] < training["curve"][0]["loss"] / 2
    assert training["steps"] == 8 * 19 and training["epochs"] == 8
    assert 0 < training["trainable_parameters"] < training["total_parameters"]


def test_same_seed_same_bytes_other_seed_other_bytes(world: World) -> None:
    one, two = (world.run({"method": "qlora", **QUICK}, name).digest for name in ("one", "two"))
    other = world.run({"method": "qlora", **QUICK}, "other", ctx=world.context("other", seed=8)).digest
    assert one == two != other


def test_adapter_folder_is_canonical(world: World) -> None:
    made = world.run({"method": "qlora", **QUICK}, "canonical")
    assert sorted(path.name for path in made.path.iterdir()) == [
        "adapter_config.json",
        "adapter_model.safetensors",
        "edgeft.json",
    ]
    text = (made.path / "adapter_config.json").read_text()
    config = json.loads(text)
    assert str(world.root) not in text and list(config) == sorted(config)
    assert config["target_modules"] == sorted(config["target_modules"])
    assert config["modules_to_save"] == ["bert.pooler", "classifier", "score"]
    stated = json.loads((made.path / "edgeft.json").read_text())
    assert stated["quantised"] == "nf4" and stated["labels"] == list(LABELS)
    assert {name: made.facts[name] for name in stated} == stated
    assert made.facts["base"]["digest"] == world.base.digest


def test_head_is_trained_whole_and_never_quantised(world: World) -> None:
    stage = stage_for({})(method="qlora")
    module: Any = stage.build(world.base, world.context("head"), "cpu")  # type: ignore[attr-defined]
    kinds = {name: type(child).__name__ for name, child in module.named_modules()}
    assert sum(kind == "Linear4bit" and name.endswith("base_layer") for name, kind in kinds.items()) == 12
    assert not [
        name for name, kind in kinds.items() if kind == "Linear4bit" and ("classifier" in name or "pooler" in name)
    ]
    trained = [name for name, parameter in module.named_parameters() if parameter.requires_grad]
    assert any("classifier.modules_to_save" in name for name in trained)
    assert any("pooler.modules_to_save" in name for name in trained)
    assert all("lora_" in name or "modules_to_save" in name for name in trained)


def test_misspelt_target_module(world: World) -> None:
    with pytest.raises(StepError, match="no layer of this model is called 'qeury'") as caught:
        world.run({"method": "lora", "target_modules": ["qeury", "value"], **QUICK}, "misspelt")
    assert "query" in caught.value.hint


def test_target_module_that_is_the_head(world: World) -> None:
    with pytest.raises(StepError, match="trains whole already"):
        world.run({"method": "lora", "target_modules": ["classifier"], **QUICK}, "head-target")


def test_frozen_weights_in_16_bits(learned: World) -> None:
    """What trains stays float32: a step of 1e-4 would round to nothing on a bfloat16 weight."""
    import torch

    stage = stage_for({"method": "lora"})(method="lora", base_dtype="bfloat16", max_steps=2)
    module = stage.build(learned.base, learned.context("half"), "cpu")
    kinds = {(parameter.requires_grad, parameter.dtype) for parameter in module.parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}
    plain = stage_for({"method": "lora"})(method="lora")
    assert plain.frozen_dtype("cpu") == "float32"  # type: ignore[attr-defined]
    assert QLora(method="qlora").load_base(learned.base, learned.context("four"), "cpu").dtype == torch.float32


def test_16_bits_where_nothing_computes_in_them(world: World) -> None:
    with pytest.raises(StepError, match="is for a GPU, and this step trains on the CPU"):
        world.run({"method": "lora", "base_dtype": "bfloat16", "device": "cpu", **QUICK}, "half-cpu")
    with pytest.raises(ValueError, match="base_dtype"):  # what QLoRA would not heed
        QLora.model_validate({"method": "qlora", "base_dtype": "bfloat16"})


def test_a_metric_that_the_task_does_not_have() -> None:
    """It would never be found in the log: the last weights would pass for the best, and patience never run out."""
    task = plugins.load("tasks", "text-classification")()
    refusal = stage_for({"method": "lora"})(method="lora", metric="mean_dice").refusal(task, ())
    assert refusal is not None and refusal[0] == "metric" and refusal[2].startswith("it has accuracy")
    assert stage_for({"method": "lora"})(method="lora", metric="loss").refusal(task, ()) is None


def test_named_targets_only(world: World) -> None:
    made = world.run({"method": "lora", "target_modules": ["query", "layer.1.output.dense"], **QUICK}, "named")
    config = json.loads((made.path / "adapter_config.json").read_text())
    assert config["target_modules"] == [
        "bert.encoder.layer.0.attention.self.query",
        "bert.encoder.layer.1.attention.self.query",
        "bert.encoder.layer.1.output.dense",
    ]


@pytest.mark.parametrize(("trainable", "open_parts"), [("head", ()), ("last_n", ("bert.encoder.layer.1.",))])
def test_partly_frozen(world: World, trainable: str, open_parts: tuple[str, ...]) -> None:
    from safetensors.torch import load_file

    last = {"last_n": 1} if trainable == "last_n" else {}
    made = world.run({"method": "full", "trainable": trainable, "learning_rate": 1e-2, **last, **QUICK}, trainable)
    before, after = load_file(world.base.path / "model.safetensors"), load_file(made.path / "model.safetensors")
    moved = {
        name
        for name in after
        if f"bert.{name.removeprefix('bert.')}" == name and (before[name.removeprefix("bert.")] != after[name]).any()
    }
    assert moved and all(name.startswith((*open_parts, "bert.pooler.")) for name in moved)


def test_too_many_last_layers(world: World) -> None:
    with pytest.raises(StepError, match="asks for 5 layers, this model has 2"):
        world.run({"method": "full", "trainable": "last_n", "last_n": 5, **QUICK}, "too-many")


@pytest.mark.parametrize(
    "options",
    [
        {"method": "full", "trainable": "last_n"},
        {"method": "full", "last_n": 2},
        {"method": "lora", "rank": 0},
        {"method": "lora", "learning_rate": float("nan")},
        {"method": "lora", "milestones": [0.9, 0.1]},
        {"method": "lora", "init": "pissa"},
        {"method": "lora", "double_quant": True},
        {"method": "qlora", "batchsize": 8},
        {"method": "qlora", "warmup": 1.0},
    ],
    ids=str,
)
def test_wrong_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        stage_for(options)(**options)


def test_every_field_is_documented() -> None:
    for method in ("qlora", "lora", "full"):
        for name, about in stage_for({"method": method}).model_fields.items():
            assert about.description, f"{method}.{name}"


def test_early_stopping_and_the_metric(world: World) -> None:
    options = {
        "method": "full",
        "epochs": 50,
        "batch_size": 8,
        "eval_steps": 3,
        "patience": 2,
        "metric": "loss",
        "learning_rate": 0.05,
    }
    training = world.run(options, "early").facts["training"]
    evaluated = [point["step"] for point in training["curve"] if point["eval_metric"] is not None]
    assert training["stopped_early"] and training["steps"] == evaluated[-1]
    assert evaluated.index(training["best_step"]) == len(evaluated) - 3
    assert training["metric"] == "loss" and training["best_metric"] > 0


def test_tensorboard_and_progress(world: World) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    world.run({"method": "lora", "max_steps": 6, "batch_size": 8, "eval_steps": 3}, "board")
    events = EventAccumulator(str(world.root / "scratch" / "board" / "tensorboard"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert tags >= {
        "train/loss",
        "train/learning_rate",
        "train/memory_mb",
        "train/examples_per_second",
        "validation/accuracy",
    }
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("validation/accuracy")] == [3, 6]
    told = [event for event in world.progress if event.step == "board"]
    assert [event.done for event in told] == [1, 2, 3, 4, 5, 6]
    assert told[-1].total == 6 and told[-1].note.startswith("loss ")


def test_nothing_is_printed(world: World, capfd: pytest.CaptureFixture[str]) -> None:
    world.run({"method": "lora", **QUICK}, "silent")
    printed = capfd.readouterr()
    assert "it/s" not in printed.err and "{'loss'" not in printed.out


def test_without_validation_the_last_weights_are_kept(world: World) -> None:
    ctx = world.context("alone")
    ctx.splits = {"train": ctx.splits["train"]}
    training = world.run({"method": "lora", **QUICK}, "alone", ctx=ctx).facts["training"]
    assert training["best_step"] == 4 and training["metric"] == "train_loss"
    assert any("no validation split" in text for text in world.warnings)


@pytest.mark.parametrize("schedule", ["linear", "cosine", "step", "constant"])
def test_schedules_through_the_trainer(world: World, schedule: str) -> None:
    options = {
        "method": "lora",
        "max_steps": 8,
        "batch_size": 8,
        "schedule": schedule,
        "warmup": 0.25,
        "learning_rate": 0.01,
    }
    curve = world.run(options, schedule).facts["training"]["curve"]
    factor = rate_factor(schedule, 8, 2)  # type: ignore[arg-type]
    # The Trainer logs the rate that a step used.
    assert [point["learning_rate"] / 0.01 for point in curve] == pytest.approx([factor(step) for step in range(8)])


def test_schedule_values() -> None:
    linear, cosine = rate_factor("linear", 10, 0), rate_factor("cosine", 10, 0)
    assert [linear(0), linear(5), linear(10)] == pytest.approx([1, 0.5, 0])
    assert [cosine(0), cosine(5), cosine(10)] == pytest.approx([1, 0.5, 0])
    step = rate_factor("step", 100, 0, milestones=(0.5, 0.75), decay=0.1)
    assert [step(0), step(49), step(50), step(75)] == pytest.approx([1, 1, 0.1, 0.01])
    warm = rate_factor("constant", 10, 4)
    assert [warm(0), warm(3), warm(4), warm(9)] == pytest.approx([0.2, 0.8, 1, 1])


def test_label_smoothing_raises_the_floor_of_the_loss(learned: World) -> None:
    common = {"method": "full", "epochs": 6, "batch_size": 16, "learning_rate": 2e-3}
    plain, smooth = (
        learned.run({**common, "label_smoothing": value}, f"smooth-{value}").facts["training"]["curve"][-1]
        for value in (0.0, 0.3)
    )
    # The least smoothed cross entropy with 0.3 over 3 classes is the entropy of (0.8, 0.1, 0.1): 0.64 nats.
    assert smooth["loss"] > 0.6 > plain["loss"]
    assert plain["eval_loss"] < 0.6


def test_label_out_of_range_is_named(world: World) -> None:
    ctx = world.context("labels")
    ctx.labels = ("cold", "hot")
    with pytest.raises(StepError, match=r"labels outside 0\.\.1"):
        world.run({"method": "lora", **QUICK}, "labels", ctx=ctx)


def test_cuda_asked_for_and_absent(world: World) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a CUDA GPU here")
    with pytest.raises(StepError, match="torch sees no CUDA GPU"):
        world.run({"method": "qlora", "device": "cuda", **QUICK}, "cuda")


def test_estimate_says_how_it_was_made() -> None:
    estimate = stage_for({})(method="qlora").estimate({"train": 1000}, 90_000_000)
    assert estimate["seconds"] > 0 and estimate["memory_mb"] > 0 and "estimated" in estimate["basis"]


def test_best_and_patience_follow_from_the_log() -> None:
    log = [{"step": step, "eval_accuracy": value} for step, value in ((1, 0.5), (2, 0.7), (3, 0.7), (4, 0.6))]
    assert best_evaluation(log, "accuracy") == (2, 0.7)
    assert out_of_patience(log, "accuracy", 2) and not out_of_patience(log, "accuracy", 3)
    assert not out_of_patience(log, "accuracy", None)
    assert best_evaluation([], "loss") is None


def test_batches_do_not_depend_on_how_they_are_padded(learned: World) -> None:
    """Trimmed and untrimmed batches give the same logits: padding is masked."""
    import pyarrow.parquet as pq

    ctx = learned.context("padding")
    rows = pq.read_table(ctx.splits["validation"].path)
    feeds = ctx.task.feeds(rows, ctx.prepared)
    module = load_model(learned.base, labels=LABELS, new_head=True)
    one_by_one, together = (predict_logits(module, feeds, batch_size=size) for size in (1, 48))
    assert np.abs(one_by_one - together).max() < 1e-5


def test_out_folder_gets_nothing_else(world: World) -> None:
    made = world.run({"method": "full", **QUICK}, "clean")
    assert sorted(path.name for path in made.path.iterdir()) == ["config.json", "model.safetensors"]
    assert not list(Path(world.root).glob("**/runs"))
