"""What every fine-tuning method has in common: the options of the run and the order of its parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, model_validator

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.stage import Context, Stage
from edgeft.stages.finetune.augment import Augment
from edgeft.stages.finetune.curve import Metric
from edgeft.stages.finetune.only import Only

if TYPE_CHECKING:
    import torch

    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.task import Task

MEGABYTE = 1 << 20
OPTIMISER_BYTES = 12
"""Per trained float32 parameter: its gradient and AdamW's two moments."""


class FineTune(Stage):
    """Train on the train split, keep the weights of the best evaluation on the validation split."""

    name: ClassVar[str] = "finetune"
    reads: ClassVar[tuple[str, ...]] = ("train", "validation")
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "accelerate", "bitsandbytes")
    together: ClassVar[bool] = True

    method: str = Field(description="qlora, lora or full.")
    epochs: float = Field(3, gt=0, le=10000, description="Passes over the train split.")
    max_steps: int | None = Field(None, ge=1, description="Optimiser steps, instead of epochs.")
    batch_size: int = Field(
        32,
        ge=1,
        le=65536,
        description="Examples per micro-batch and process. Halved, gradient unchanged, if memory runs out.",
    )
    accumulation: int = Field(1, ge=1, le=65536, description="Micro-batches per optimiser step.")
    group_by_length: bool = Field(
        False, description="Batches of rows of like length: less padding, so faster; their order is still shuffled."
    )
    learning_rate: float = Field(3e-4, gt=0, description="Highest learning rate.")
    schedule: Literal["linear", "cosine", "step", "constant"] = Field(
        "cosine", description="How the learning rate falls after warm-up."
    )
    milestones: tuple[float, ...] = Field(
        (0.5, 0.75), description="schedule: step lowers the rate at these fractions of the run."
    )
    decay: float = Field(0.1, gt=0, lt=1, description="schedule: step multiplies the rate by this at each milestone.")
    warmup: float = Field(0.06, ge=0, lt=1, description="Fraction of the steps over which the rate rises from 0.")
    weight_decay: float = Field(
        0.01, ge=0, description="AdamW's decoupled weight decay; biases and norms are left out."
    )
    clip: float = Field(1.0, ge=0, description="Largest gradient norm; 0 switches clipping off.")
    eval_steps: int | None = Field(
        None, ge=1, description="Evaluate every so many steps; default once an epoch, and always at the end."
    )
    patience: int | None = Field(None, ge=1, description="Stop after this many evaluations without a better one.")
    metric: Metric | None = Field(
        None, description="Validation metric that decides which weights are kept; default the task's first."
    )
    label_smoothing: float = Field(
        0.0, ge=0, lt=1, description="Probability taken from the true label and spread over all."
    )
    windows: int = Field(
        4, ge=1, le=4096,
        description="Volumes: windows drawn of each volume in an epoch, each around a voxel of a class drawn first.",
    )  # fmt: skip
    only: Only = Field(
        default_factory=dict,
        description="Train and validate on the rows with these values alone, for instance {scanner: plain} or "
        "{site: [a, b]}; columns of the data. Default: all rows.",
    )
    augment: Augment | None = Field(None, description="Images: flips, shifts and brightness while training.")
    dice: float = Field(
        0.0, ge=0, description="Segmentation: weight of the Dice loss (Milletari et al. 2016) beside cross-entropy."
    )
    checkpoint_steps: int | None = Field(
        None, ge=1, description="Checkpoint every so many steps; default ten per run, at least 10 steps apart."
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto", description="Recompute activations to save memory; auto: only when they would not fit."
    )
    keep_zeros: bool | None = Field(
        None, description="Leave weights at zero that an earlier step zeroed; default: where there is such a step."
    )
    compile: bool = Field(False, description="torch.compile the model; pays after some hundred steps on a GPU.")
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto", description="Where to train; auto takes a CUDA GPU when there is one."
    )

    @model_validator(mode="after")
    def _milestones_rise(self) -> FineTune:
        if list(self.milestones) != sorted(set(self.milestones)) or any(not 0 < at < 1 for at in self.milestones):
            raise ValueError("milestones must rise, each between 0 and 1")
        return self

    @model_validator(mode="after")
    def _adapters_fill(self) -> FineTune:
        if self.keep_zeros and self.fills_zeros:
            raise ValueError("keep_zeros: low-rank updates change every weight; use method: full")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """Those of `only`."""
        return tuple(sorted(self.only))

    def refusal(self, task: Task, gpus: Sequence[str]) -> tuple[str, str, str] | None:
        """A GPU that is not there, and a metric that the task does not have."""
        if self.device == "cuda" and not gpus:
            hint = "leave device: auto to train on the CPU, or run `edgeft doctor` to see what was found"
            return "device", "device: cuda, but this machine has no NVIDIA GPU that its driver shows", hint
        known = (*task.metrics, "loss")
        if self.metric is not None and self.metric not in known:
            what = f"{task.name} has no {self.metric}, by which the best weights would be kept"
            return "metric", what, f"it has {', '.join(known)}"
        return None

    def run(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        """Train and write the adapter or model; facts carry the TrainingRow under `training`.

        Under `accelerate launch` every process trains and only the main one writes.
        """
        import torch

        from edgeft.stages.finetune.train import is_main_process, train
        from edgeft.stages.zeros import check_zeros, find_zeros, held_zeros

        device = self.choose_device()
        torch.set_num_threads(max(1, ctx.threads))
        torch.manual_seed(ctx.seed)
        module = self.build(inputs["model"], ctx, device)
        self.save_memory(module, ctx, device)
        masks = find_zeros(module) if self.keep_zeros else {}
        with held_zeros(module, masks):
            row = train(module, self, ctx, device, self.load_teacher(inputs, ctx, device))
        check_zeros(module, masks, ctx.step)
        facts = self.save(module, inputs["model"], out, ctx, device) if is_main_process() else {}
        return {**facts, "training": row.model_dump(mode="json")}

    def load_teacher(self, inputs: Mapping[str, Artifact], ctx: Context, device: str) -> Teacher | None:
        """The frozen model to learn from beside the labels; None: the labels alone."""
        return None

    def build(self, model: Artifact, ctx: Context, device: str) -> torch.nn.Module:
        """The module to train, on its device, with `requires_grad` only where the method trains."""
        raise NotImplementedError(type(self).__name__)

    def save(self, module: torch.nn.Module, model: Artifact, out: Path, ctx: Context, device: str) -> Facts:
        """Write the trained part as canonical bytes."""
        raise NotImplementedError(type(self).__name__)

    def optimiser(self, device: str) -> str:
        """Name of the AdamW form: fused, the same arithmetic in one kernel."""
        return "adamw_torch" if self.device == "cpu" and self.compile else "adamw_torch_fused"

    def mixed_precision(self, device: str) -> str:
        """Autocast dtype on a GPU; float32 on CPU, where autocast costs more than it gives."""
        from edgeft.models.nf4 import fast_compute_dtype

        return fast_compute_dtype(device) if device.startswith("cuda") else "float32"

    def choose_device(self) -> str:
        """`cpu`, or `cuda:N` of this process. Raises StepError when cuda is asked for and absent."""
        import os

        import torch

        if self.device == "cuda" and not torch.cuda.is_available():
            raise StepError(
                "device: cuda is asked for, but torch sees no CUDA GPU",
                hint="use device: auto, or install a CUDA build of torch",
            )
        if self.device == "cpu" or not torch.cuda.is_available():
            return "cpu"
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"

    def save_memory(self, module: torch.nn.Module, ctx: Context, device: str) -> None:
        """Switch on gradient checkpointing where it is asked for, or (auto) where activations would not fit the GPU."""
        from edgeft.stages.finetune.memory import enable_checkpointing, needs_checkpointing

        wanted = self.gradient_checkpointing
        if wanted == "auto":
            wanted = needs_checkpointing(module, self.batch_size, ctx, device)
        if wanted:
            enable_checkpointing(module)

    def trained_fraction(self) -> float:
        """Rough share of the parameters that this method trains, for estimates."""
        return 1.0

    def estimate(self, rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
        """seconds, memory_mb, disk_mb before running: three passes over the weights per token, at CPU speed."""
        parameters = model_bytes / 4
        examples = rows.get("train", 0) * self.epochs
        if self.max_steps:
            examples = float(self.max_steps * self.batch_size * self.accumulation)
        trained = parameters * self.trained_fraction()
        return {
            "seconds": round(examples * parameters * ESTIMATE_SECONDS, 1),
            "memory_mb": round((2 * model_bytes + trained * OPTIMISER_BYTES) / MEGABYTE + 900),
            "disk_mb": round(3 * trained * 12 / MEGABYTE, 1),
            "basis": "estimated: 0.45 s per step of 32 x 64 tokens and 22 million parameters on 2 CPU cores, "
            "scaled by size; a GPU is far faster",
        }


ESTIMATE_SECONDS = 0.45 / 32 / 22.7e6
"""Seconds per example and parameter: MiniLM (22.7 million), 32 examples of 64 tokens, 0.45 s on two cores with bf16."""
