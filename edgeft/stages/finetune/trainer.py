"""transformers' Trainer with our training step; imported only when a run begins (it imports torch and transformers)."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import EvalPrediction, Trainer, TrainingArguments

from edgeft.models.predict import forward_logits
from edgeft.models.served import full_size
from edgeft.stage import Context
from edgeft.stages.distilling.teacher import Teacher
from edgeft.stages.finetune.augment import MASK_FILL, Augment, augment_batch
from edgeft.stages.finetune.callbacks import load_weights, save_weights
from edgeft.stages.finetune.checkpoint import PROJECTIONS
from edgeft.stages.finetune.data import ROW, Examples
from edgeft.stages.finetune.guards import FiniteGuard
from edgeft.stages.finetune.oom import MicroBatches
from edgeft.stages.finetune.order import LengthOrder, row_lengths
from edgeft.stages.finetune.schedule import Schedule, rate_factor
from edgeft.stages.label_loss import label_loss
from edgeft.task import TOKEN_ANSWERS, SelfSupervisedTask, class_axis

MEGABYTE = 1 << 20
IGNORED = MASK_FILL


@dataclass(frozen=True)
class Rules:
    """What of the recipe the loop itself needs. warmup: steps."""

    schedule: Schedule
    warmup: int
    milestones: tuple[float, ...]
    decay: float
    label_smoothing: float
    frozen_body: bool
    group_by_length: bool = False
    augment: Augment | None = None
    levels: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    dice: float = 0.0


class EdgeftTrainer(Trainer):  # type: ignore[misc]
    """One loss for every model form, micro-batches that fit, a stop at the first NaN, and figures in every log line."""

    def __init__(self, *, rules: Rules, guard: FiniteGuard, teacher: Teacher | None = None, **rest: Any) -> None:
        super().__init__(**rest)
        self.rules, self.guard, self.teacher = rules, guard, teacher
        # Our loss is a sum over the items of the whole optimiser step: the Trainer must count them for every model.
        self.model_accepts_loss_kwargs = True
        # Labels of tokens are the next tokens already: without this the Trainer leaves each text's first one out.
        self._loss_shifts_labels = False
        self.trained = [parameter for parameter in self.model.parameters() if parameter.requires_grad]
        alone = self.args.world_size == 1 and not self.is_fsdp_enabled and not self.is_deepspeed_enabled
        self.micro = MicroBatches(self.trained, splittable=alone)
        self.seen, self.seen_at, self.peak_mb = 0, time.monotonic(), 0.0
        self.total_seen = 0
        self.parts: Counter[str] = Counter()
        # Statistics of frozen normalisation layers stay as they are: an adapter could not carry their drift.
        kinds = (torch.nn.modules.batchnorm._BatchNorm,)
        self.still = [child for child in self.model.modules() if rules.frozen_body and isinstance(child, kinds)]

    def training_step(self, model: Any, inputs: Mapping[str, Any], num_items_in_batch: Any = None) -> torch.Tensor:
        """Forward and backward of one micro-batch, in parts where memory demands it; the loss is detached."""
        model.train()
        for child in self.still:
            child.eval()
        drawn = self.train_dataset.draw(inputs, self.args.seed, self.state.global_step)
        batch = self._prepare_inputs(dict(drawn))
        items = num_items_in_batch if num_items_in_batch is not None else len(batch["labels"])
        self.seen += len(batch["labels"])
        self.total_seen += len(batch["labels"])
        if self.rules.augment is not None and self.rules.levels is not None:
            levels = tuple(torch.tensor(level) for level in self.rules.levels)
            augment_batch(batch, self.rules.augment, levels, batch[ROW], self.args.seed, self.state.global_step)
        return self.micro.run(batch, lambda part: self._forward_backward(model, part, items))

    def _forward_backward(self, model: Any, batch: Mapping[str, torch.Tensor], items: Any) -> torch.Tensor:
        with self.compute_loss_context_manager():
            parts = self.summed_losses(model, batch)
            loss = torch.stack(list(parts.values())).sum()
        # Data parallelism averages gradients over processes, while `items` counts those of all of them.
        loss = loss * (self.accelerator.num_processes / items)
        self.guard.check_loss(loss, batch, self.state.global_step + 1)
        self.accelerator.backward(loss)
        if self.teacher is not None:
            self.parts.update({name: float(part.detach()) for name, part in parts.items()})
        return loss.detach()

    def summed_losses(self, model: Any, batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        """Weighted losses by name, each summed over the labels of the batch: the task's, and the teacher's if any."""
        labels = batch["labels"]
        if self.teacher is None:
            return {"task": self.task_loss(answer(model, batch), labels)}
        logits, distances = self.teacher.compare(model, feeds_of(batch))
        logits = at_labels_size(logits.float(), labels)
        found = {"task": self.teacher.teaching.task_weight * self.task_loss(logits, labels)}
        # A distance is per example; the step divides by labels, of which an example may have one per pixel or token.
        if logits.ndim == 3:
            each = (labels != IGNORED).sum(dim=1)
            return found | {name: (distance * each).sum() for name, distance in distances.items()}
        per_case = labels.numel() // len(labels)
        return found | {name: distance.sum() * per_case for name, distance in distances.items()}

    def task_loss(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The labels' loss summed over them, and of segmentation the Dice loss where it has a weight. logits: as
        `at_labels_size` gives them."""
        loss = label_loss(logits, labels, reduction="sum", smoothing=self.rules.label_smoothing)
        if self.rules.dice and logits.ndim >= 4:
            # Weighted like the cross-entropy, by the pixels of the part, so that parts of a batch add up.
            loss = loss + self.rules.dice * (labels != IGNORED).sum() * dice_loss(logits, labels)
        return loss

    def prediction_step(
        self, model: Any, inputs: Mapping[str, Any], prediction_loss_only: bool, ignore_keys: Any = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """(mean loss, logits, labels) of one evaluation batch; the loss without label smoothing."""
        batch = self._prepare_inputs(dict(inputs))
        with torch.no_grad(), self.compute_loss_context_manager():
            logits = answer(model, batch)
            loss = label_loss(logits, batch["labels"])
        if logits.ndim >= 4:  # a class per pixel: float logits of a whole split would not fit
            return loss, logits.argmax(1).to(torch.uint8), batch["labels"].flatten(1)[:, :1]
        if logits.ndim == 3:
            return loss, token_answers(logits, batch["labels"]), batch["labels"][:, :1]
        return loss, logits, batch["labels"]

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """A checkpoint also holds the projections to the teacher's widths: an adapter's file would leave them out.

        A network in plain torch may hold one module under two names (MONAI's DynUNet does): each is written for itself,
        because safetensors refuses tensors that share memory.
        """
        if state_dict is None and not hasattr(self.model, "save_pretrained"):
            state_dict = {name: tensor.detach().clone() for name, tensor in self.model.state_dict().items()}
        super()._save(output_dir, state_dict)
        if self.args.should_save and output_dir and self.teacher is not None and self.teacher.projections is not None:
            save_weights(self.teacher.projections, Path(output_dir) / PROJECTIONS, whole=True)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """With the projections, where the checkpoint has some."""
        super()._load_from_checkpoint(resume_from_checkpoint, model)
        kept = Path(resume_from_checkpoint) / PROJECTIONS
        if kept.is_file() and self.teacher is not None and self.teacher.projections is not None:
            load_weights(self.teacher.projections, kept)

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        """Rows of like length together where asked; else the Trainer's own shuffle."""
        rows = train_dataset if train_dataset is not None else self.train_dataset
        lengths = row_lengths(rows.feeds) if self.rules.group_by_length else None
        if lengths is None:
            return super()._get_train_sampler(train_dataset)
        return LengthOrder(lengths, self.args.train_batch_size, self.args.data_seed)

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        """Our own schedules, as a LambdaLR whose state is its step count."""
        self.lr_scheduler: Any
        if self.lr_scheduler is None:
            rules = self.rules
            factor = rate_factor(
                rules.schedule, num_training_steps, rules.warmup, milestones=rules.milestones, decay=rules.decay
            )
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, factor)
            self._created_lr_scheduler = True
        return self.lr_scheduler

    def floating_point_ops(self, inputs: Any) -> int:
        """Not counted: it walks all parameters at every step."""
        return 0

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add memory and examples per second to training entries."""
        if "loss" in logs:
            now = time.monotonic()
            memory = self.memory_mb()
            self.peak_mb = max(self.peak_mb, memory)
            speed = self.seen * self.args.world_size / max(now - self.seen_at, 1e-9)
            logs |= {"memory_mb": round(memory, 1), "examples_per_second": round(speed, 2)}
            logs |= {f"loss_{name}": total / max(1, self.seen) for name, total in self.parts.items()}
            self.parts.clear()
            self.seen, self.seen_at = 0, now
        super().log(logs, start_time)

    def memory_mb(self) -> float:
        """Peak memory of the GPU so far, or the resident memory of this process now."""
        if self.args.device.type == "cuda":
            return float(torch.cuda.max_memory_allocated(self.args.device)) / MEGABYTE
        import psutil

        return float(psutil.Process().memory_info().rss) / MEGABYTE


def answer(model: Any, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """float32 logits; of a class per pixel at the labels' size."""
    return at_labels_size(forward_logits(model, feeds_of(batch)).float(), batch["labels"])


def at_labels_size(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """(n, classes, ...): logits per pixel or voxel brought to the size of the masks, those of tokens with their classes
    moved there."""
    logits = logits.movedim(class_axis(logits.ndim), 1)
    return full_size(logits, tuple(labels.shape[1:])) if logits.ndim >= 4 else logits


def token_answers(logits: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """TOKEN_ANSWERS of logits (n, classes, length) and the next tokens (n, length)."""
    rows = logits.movedim(1, 2)
    losses = label_loss(logits, labels, reduction="none").reshape(labels.shape)
    return -losses, rows.argmax(2).int(), labels.int()


def dice_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """1 - mean soft Dice over classes, of the pixels that count, all cases together. Milletari et al. 2016 (V-Net)."""
    counted = (labels != IGNORED)[:, None]
    shares = torch.softmax(logits, dim=1) * counted
    truth = torch.nn.functional.one_hot(labels.clamp(min=0), logits.shape[1]).movedim(-1, 1) * counted
    axes = [axis for axis in range(logits.ndim) if axis != 1]
    hits, total = (shares * truth).sum(axes), (shares + truth).sum(axes)
    return 1 - ((2 * hits + 1) / (total + 1)).mean()


def feeds_of(batch: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """What the model sees of a batch."""
    return {name: tensor for name, tensor in batch.items() if name not in ("labels", ROW)}


def scorer(ctx: Context, examples: Examples) -> Any:
    """The Trainer's compute_metrics, answered by the task itself."""

    def compute(prediction: EvalPrediction) -> dict[str, float]:
        import numpy as np

        if isinstance(ctx.task, SelfSupervisedTask):
            outputs = dict(zip(TOKEN_ANSWERS, prediction.predictions, strict=True))
        else:
            given = np.asarray(prediction.predictions)
            outputs = {"classes": given} if given.dtype == np.uint8 else {"logits": given.astype(np.float32)}
        metrics = ctx.task.score(outputs, examples.rows, ctx.labels).metrics
        return {name: float(metrics[name]) for name in ctx.task.metrics if name in metrics}

    return compute


def single_gpu(arguments: TrainingArguments) -> TrainingArguments:
    """Without a launcher, use one GPU even where several are visible: DataParallel copies 4-bit weights wrongly."""
    if arguments.device.type == "cuda" and arguments.world_size == 1:
        arguments._n_gpu = 1
    return arguments
