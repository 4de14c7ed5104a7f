"""What happens beside the training step: progress, TensorBoard, best weights, sealed checkpoints, early stopping."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from edgeft.stage import Context
from edgeft.stages.finetune.checkpoint import BEST, PARTIAL, prune, seal
from edgeft.stages.finetune.curve import Metric, best_evaluation, out_of_patience
from edgeft.stages.finetune.guards import FiniteGuard

NAMES = {
    "loss": "train/loss",
    "learning_rate": "train/learning_rate",
    "memory_mb": "train/memory_mb",
    "examples_per_second": "train/examples_per_second",
}


class Teller(TrainerCallback):  # type: ignore[misc]
    """Progress to the terminal, figures to TensorBoard; on the main process only."""

    def __init__(self, ctx: Context, folder: Path) -> None:
        self.ctx, self.folder, self.note, self.writer = ctx, folder, "", None  # type: Context, Path, str, Any

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Open the log; what a killed run wrote beyond its last checkpoint is dropped from it."""
        from torch.utils.tensorboard import SummaryWriter

        if not state.global_step:
            shutil.rmtree(self.folder, ignore_errors=True)
        self.writer = SummaryWriter(str(self.folder), purge_step=state.global_step + 1 if state.global_step else None)

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Tell how far the run is, with the last logged loss."""
        self.ctx.progress(state.global_step, state.max_steps, "step", self.note)

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Write training and evaluation figures as scalars."""
        logs: Mapping[str, float] = rest.get("logs") or {}
        if "loss" in logs:
            self.note = f"loss {logs['loss']:.3g}"
        for name, value in logs.items():
            tag = NAMES.get(name) or (f"validation/{name[5:]}" if name.startswith("eval_") else None)
            tag = f"train/{name}" if name.startswith("loss_") else tag
            if tag:
                self.writer.add_scalar(tag, value, state.global_step)

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Flush."""
        self.writer.close()


class Keeper(TrainerCallback):  # type: ignore[misc]
    """Keeps the best weights, seals what the Trainer saves, stops when patience runs out or a gradient is not finite.

    It has no state of its own: best step and patience follow from the log, which checkpoints carry.
    """

    def __init__(
        self,
        root: Path,
        metric: Metric,
        patience: int | None,
        sampler: Mapping[str, Any],
        guard: FiniteGuard,
        *,
        whole: bool,
    ) -> None:
        self.root, self.metric, self.patience, self.sampler, self.guard = root, metric, patience, sampler, guard
        self.whole = whole
        self.trained: list[torch.nn.Parameter] | None = None

    @property
    def best_file(self) -> Path:
        """Where the best weights so far lie."""
        return self.root / BEST

    def on_pre_optimizer_step(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any
    ) -> None:
        """Stop before a gradient that is not finite reaches the weights."""
        if args.fp16:
            return  # the gradient scaler meets infinities in its ordinary work, and skips those steps itself
        if self.trained is None:
            self.trained = [parameter for parameter in rest["model"].parameters() if parameter.requires_grad]
        self.guard.check_gradients(self.trained, state.global_step + 1)

    def on_evaluate(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **rest: Any) -> None:
        """Keep the weights when this evaluation is the best; stop when too many have passed since."""
        best = best_evaluation(state.log_history, self.metric)
        if best and best[0] == state.global_step and state.is_world_process_zero:
            save_weights(rest["model"], self.best_file, whole=self.whole)
        if out_of_patience(state.log_history, self.metric, self.patience):
            control.should_training_stop = True
            control.should_save = True

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Every process has written its part when the main one seals the checkpoint."""
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.barrier()
        if state.is_world_process_zero:
            step = state.global_step
            best = self.best_file if self.best_file.is_file() else None
            seal(self.root / PARTIAL / f"checkpoint-{step}", self.root, step, self.sampler, best)
            prune(self.root)


def save_weights(module: torch.nn.Module, path: Path, *, whole: bool) -> None:
    """Trained parameters (or, `whole`, the full state dictionary) as safetensors, in place by one rename."""
    from safetensors.torch import save_file

    named = module.state_dict().items() if whole else ((n, p) for n, p in module.named_parameters() if p.requires_grad)
    fresh = path.with_name(path.name + ".new")
    save_file({name: tensor.detach().cpu().contiguous().clone() for name, tensor in named}, fresh)
    fresh.replace(path)


def load_weights(module: torch.nn.Module, path: Path) -> None:
    """Put kept weights back; every name must exist in the module."""
    from safetensors.torch import load_file

    outcome = module.load_state_dict(load_file(path), strict=False)
    if outcome.unexpected_keys:
        raise RuntimeError(f"kept weights do not fit the model: {outcome.unexpected_keys[:3]}")
