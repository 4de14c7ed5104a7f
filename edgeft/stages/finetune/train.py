"""One training run: resume or start, train, and leave the best weights in the module."""

from __future__ import annotations

import json
import math
import os
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.predict import may_trim
from edgeft.record import TrainingRow
from edgeft.stages.finetune.arguments import Length, arguments, loop_rules
from edgeft.stages.finetune.checkpoint import BEST, link, newest
from edgeft.stages.finetune.curve import Metric, best_evaluation, curve_points, out_of_patience
from edgeft.stages.finetune.data import GPU_MULTIPLE, Examples, collate, read_examples
from edgeft.stages.finetune.guards import FiniteGuard

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context
    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.stages.finetune.base import FineTune
    from edgeft.stages.finetune.trainer import EdgeftTrainer


def train(
    module: torch.nn.Module, options: FineTune, ctx: Context, device: str, teacher: Teacher | None = None
) -> TrainingRow:
    """Train `module` in place; it ends with the weights of the best evaluation. Raises StepError.

    teacher: a frozen model on the same device that it learns from beside its labels; evaluations see the labels only.
    """
    if options.metric is None:
        options = options.model_copy(update={"metric": ctx.task.headline})
    modules = (module, teacher.module) if teacher else (module,)
    examples = read_examples(ctx, "train", *modules, windows=options.windows, only=options.only)
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
    validation = read_examples(ctx, "validation", module, only=options.only) if held is not None and held.n else None
    if validation is None:
        ctx.warn("there is no validation split: the last weights are kept, not the best")
    if teacher is not None:
        teacher.meet(module, first_rows(examples, device))
    guard = FiniteGuard(examples, ctx.scratch, ctx.step)
    keeper = Keeper(root, metric_of(options), options.patience, sampler, guard, whole=options.makes != "peft-adapter")
    trainer = EdgeftTrainer(
        rules=loop_rules(options, length, ctx),
        guard=guard,
        teacher=teacher,
        model=module,
        data_collator=collate(
            may_trim(module) and (teacher is None or may_trim(teacher.module)),
            GPU_MULTIPLE if device.startswith("cuda") else 1,
        ),
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
