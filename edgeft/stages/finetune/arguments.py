"""What a recipe says of a run, as the Trainer and our training step take it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.stages.finetune.checkpoint import PARTIAL

if TYPE_CHECKING:
    from edgeft.stage import Context
    from edgeft.stages.finetune.base import FineTune
    from edgeft.stages.finetune.trainer import Rules

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


def loop_rules(options: FineTune, length: Length, ctx: Context) -> Rules:
    """What of the recipe the training step needs."""
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
    if stated.get("kind") == "volume":
        return (stated["volume"]["mean"],), (stated["volume"]["std"],)
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
