"""One training run: resume or start, train, and leave the best weights in the module."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.predict import may_trim
from edgeft.record import TrainingRow
from edgeft.stages.finetune.checkpoint import BEST, PARTIAL, link, newest
from edgeft.stages.finetune.curve import Metric, best_evaluation, curve_points, out_of_patience
from edgeft.stages.finetune.data import Examples, collate, read_examples
from edgeft.stages.finetune.guards import FiniteGuard

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context
    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.stages.finetune.base import FineTune
    from edgeft.stages.finetune.trainer import EdgeftTrainer, Rules

LOG_LINES = 200
"""A run logs at most about this many training points."""
CHECKPOINTS = 10
LEAST_STEPS_BETWEEN = 10

FIXED: Mapping[str, Any] = {
    "report_to": "none",
    "disable_tqdm": True,
    "push_to_hub": False,
    "logging_strategy": "steps",
    "logging_nan_inf_filter": False,
    "save_strategy": "steps",
    "save_total_limit": None,
    "remove_unused_columns": False,
    "label_names": ["labels"],
    "ddp_find_unused_parameters": False,
}
"""What a recipe never changes: no reports, no hub, no bars; saving and rotation are the checkpoint module's."""


@dataclass(frozen=True)
class Length:
    """total: optimiser steps. per_epoch: optimiser steps of one pass over the data, all processes together."""

    total: int
    per_epoch: int


def train(
    module: torch.nn.Module, options: FineTune, ctx: Context, device: str, teacher: Teacher | None = None
) -> TrainingRow:
    """Train `module` in place; it ends with the weights of the best evaluation. Raises StepError.

    teacher: a frozen model on the same device that it learns from beside its labels; evaluations see the labels only.
    """
    if options.metric is None:
        options = options.model_copy(update={"metric": ctx.task.headline})
    examples = read_examples(ctx, "train", module, *([teacher.module] if teacher else []))
    if not len(examples):
        raise StepError("the train split is empty", where=f"step {ctx.step}", hint="raise data.fractions.train")
    length = run_length(options, len(examples))
    root = ctx.scratch / "checkpoints"
    root.mkdir(parents=True, exist_ok=True)
    sampler = {"seed": ctx.seed, "rows": len(examples), "batch_size": options.batch_size, "processes": world_size()}
    sampler["group_by_length"] = options.group_by_length
    trainer = build_trainer(module, options, ctx, device, examples, length, root, sampler, teacher)
    with trainer.args.main_process_first(local=False):
        resumed = newest(root, sampler, ctx.warn)
    started = time.monotonic()
    count = _begin(root, resumed) if trainer.is_world_process_zero() else 0
    trainer.accelerator.wait_for_everyone()
    if resumed is not None and _ended(resumed, options, length):
        trainer.state = _state(resumed)
        _load_checkpoint_weights(trainer, resumed)
    else:
        trainer.train(resume_from_checkpoint=str(resumed) if resumed else None)
    _take_best(trainer, root, options)
    if teacher is not None:
        teacher.release(module)
    return _row(trainer, options, ctx, module, length, count, time.monotonic() - started)


def run_length(options: FineTune, rows: int) -> Length:
    """Optimiser steps: `max_steps`, or `epochs` passes over the rows."""
    batches = math.ceil(rows / (options.batch_size * world_size()))
    per_epoch = math.ceil(batches / options.accumulation)
    total = options.max_steps or max(1, math.ceil(options.epochs * per_epoch))
    return Length(total, per_epoch)


def metric_of(options: FineTune) -> Metric:
    """The metric that decides; set by `train` where the recipe leaves it to the task."""
    return options.metric or "accuracy"


def world_size() -> int:
    """Processes of this run, as torchrun and `accelerate launch` announce them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def is_main_process() -> bool:
    """True for the one process that writes."""
    return os.environ.get("RANK", "0") == "0"


def build_trainer(
    module: torch.nn.Module,
    options: FineTune,
    ctx: Context,
    device: str,
    examples: Examples,
    length: Length,
    root: Path,
    sampler: dict[str, Any],
    teacher: Teacher | None = None,
) -> EdgeftTrainer:
    """A Trainer with nothing of its own left to decide: no hub, no reports, no bars, no silent files."""
    from transformers import PrinterCallback

    from edgeft.stages.finetune.callbacks import Keeper, Teller
    from edgeft.stages.finetune.trainer import EdgeftTrainer, scorer

    held = ctx.splits.get("validation")
    validation = read_examples(ctx, "validation", module) if held is not None and held.n else None
    if validation is None:
        ctx.warn("there is no validation split: the last weights are kept, not the best")
    if teacher is not None:
        teacher.meet(module, first_rows(examples, device))
    guard = FiniteGuard(examples, ctx.scratch, ctx.step)
    keeper = Keeper(root, metric_of(options), options.patience, sampler, guard, whole=options.makes != "peft-adapter")
    trainer = EdgeftTrainer(
        rules=_rules(options, length, ctx),
        guard=guard,
        teacher=teacher,
        model=module,
        data_collator=collate(may_trim(module) and (teacher is None or may_trim(teacher.module))),
        train_dataset=examples,
        args=arguments(options, ctx, device, length, root, evaluate=validation is not None),
        eval_dataset=validation,
        compute_metrics=scorer(ctx, validation) if validation is not None else None,
        callbacks=[keeper],
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.is_world_process_zero():
        trainer.add_callback(Teller(ctx, ctx.scratch / "tensorboard"))
    return trainer


def first_rows(examples: Examples, device: str) -> dict[str, torch.Tensor]:
    """Feeds of a few rows, on the device: what student and teacher are tried on before training."""
    from edgeft.stages.distilling.teacher import ROWS
    from edgeft.stages.finetune.trainer import feeds_of

    batch = examples.__getitems__(range(min(ROWS, len(examples))))
    return {name: tensor.to(device) for name, tensor in feeds_of(batch).items()}


def _rules(options: FineTune, length: Length, ctx: Context) -> Rules:
    from edgeft.stages.finetune.trainer import Rules

    return Rules(
        schedule=options.schedule,
        warmup=round(options.warmup * length.total),
        milestones=options.milestones,
        decay=options.decay,
        label_smoothing=options.label_smoothing,
        frozen_body=options.makes == "peft-adapter",
        group_by_length=options.group_by_length,
        augment=options.augment if options.augment is not None and options.augment.active else None,
        levels=_levels(options, ctx),
        dice=options.dice,
    )


def _levels(options: FineTune, ctx: Context) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std of an image task's normalisation, where training augments. StepError for a text."""
    if options.augment is None or not options.augment.active or ctx.prepared is None:
        return None
    stated = json.loads((ctx.prepared / "preprocess.json").read_text(encoding="utf-8"))
    if stated.get("kind") != "image":
        raise StepError("augment is for images", where=f"step {ctx.step}", hint="leave augment out")
    return tuple(stated["image"]["mean"]), tuple(stated["image"]["std"])


def arguments(options: FineTune, ctx: Context, device: str, length: Length, root: Path, *, evaluate: bool) -> Any:
    """TrainingArguments. Evaluation and saving go by steps alone: by epochs, the Trainer saves the last step of an
    epoch before it evaluates it, and a run resumed from there would miss that evaluation."""
    from transformers import TrainingArguments

    from edgeft.stages.finetune.trainer import single_gpu

    cuda = device.startswith("cuda")
    every = options.checkpoint_steps or max(LEAST_STEPS_BETWEEN, math.ceil(length.total / CHECKPOINTS))
    return single_gpu(
        TrainingArguments(
            **FIXED,
            output_dir=str(root / PARTIAL),
            use_cpu=not cuda,
            max_steps=length.total,
            per_device_train_batch_size=options.batch_size,
            per_device_eval_batch_size=options.batch_size,
            gradient_accumulation_steps=options.accumulation,
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            max_grad_norm=options.clip,
            optim=options.optimiser(device),
            bf16=cuda and options.mixed_precision(device) == "bfloat16",
            fp16=cuda and options.mixed_precision(device) == "float16",
            torch_compile=options.compile,
            logging_steps=max(1, length.total // LOG_LINES),
            eval_strategy="steps" if evaluate else "no",
            eval_steps=options.eval_steps or length.per_epoch,
            save_steps=every,
            seed=ctx.seed,
            data_seed=ctx.seed,
            dataloader_pin_memory=cuda,
        )
    )


def _begin(root: Path, resumed: Path | None) -> int:
    """Number of resumptions of this run so far; a run that starts anew leaves nothing of an older one behind."""
    counter = root / "resumptions.json"
    if resumed is None:
        shutil.rmtree(root, ignore_errors=True)
        root.mkdir(parents=True)
        return 0
    best, count = resumed / BEST, 1
    (root / BEST).unlink(missing_ok=True)
    if best.is_file():
        link(best, root / BEST)
    if counter.is_file():
        count += int(json.loads(counter.read_text(encoding="utf-8")))
    counter.write_text(str(count), encoding="utf-8")
    return count


def _state(checkpoint: Path) -> Any:
    from transformers import TrainerState

    return TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))


def _ended(checkpoint: Path, options: FineTune, length: Length) -> bool:
    """True when nothing is left to train: the Trainer, asked to resume there, would take one step too many."""
    state = _state(checkpoint)
    return state.global_step >= length.total or out_of_patience(state.log_history, metric_of(options), options.patience)


def _load_checkpoint_weights(trainer: EdgeftTrainer, checkpoint: Path) -> None:
    if not (checkpoint / BEST).is_file():
        trainer._load_from_checkpoint(str(checkpoint))


def _take_best(trainer: EdgeftTrainer, root: Path, options: FineTune) -> None:
    from edgeft.stages.finetune.callbacks import load_weights

    trainer.accelerator.wait_for_everyone()
    if (root / BEST).is_file():
        load_weights(trainer.accelerator.unwrap_model(trainer.model), root / BEST)


def _row(
    trainer: EdgeftTrainer,
    options: FineTune,
    ctx: Context,
    module: torch.nn.Module,
    length: Length,
    resumed: int,
    seconds: float,
) -> TrainingRow:
    state, log = trainer.state, trainer.state.log_history
    best = best_evaluation(log, metric_of(options))
    losses = [float(entry["loss"]) for entry in log if "loss" in entry]
    trained = sum(parameter.numel() for parameter in module.parameters() if parameter.requires_grad)
    return TrainingRow(
        step=ctx.step,
        method=options.method,
        metric=metric_of(options) if best else "train_loss",
        trainable_parameters=trained,
        total_parameters=sum(_elements(parameter) for parameter in module.parameters()),
        steps=state.global_step,
        epochs=float(state.epoch or 0.0),
        best_step=best[0] if best else state.global_step,
        best_metric=best[1] if best else losses[-1],
        stopped_early=state.global_step < length.total,
        resumed=resumed,
        seconds=seconds,
        examples_per_second=trainer.total_seen * trainer.args.world_size / max(seconds, 1e-9),
        peak_memory_mb=trainer.peak_mb or None,
        device=str(trainer.args.device),
        curve=curve_points(log, metric_of(options)),
        teacher=trainer.teacher.describe() if trainer.teacher else {},
        micro_batch=trainer.micro.limit or options.batch_size,
    )


def _elements(parameter: torch.nn.Parameter) -> int:
    """Weights behind a parameter: a 4-bit one stores two to the byte."""
    state = getattr(parameter, "quant_state", None)
    return math.prod(state.shape) if state is not None else parameter.numel()
