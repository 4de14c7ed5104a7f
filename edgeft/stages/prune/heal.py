"""Healing: a short fine-tune of what is left, by the same loop as every training, zeros staying zero."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from edgeft.models.layers import unwrap
from edgeft.record import TrainingRow
from edgeft.stages.prune.base import Prune, refuse
from edgeft.stages.zeros import check_zeros, held_zeros

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context
    from edgeft.stages.distilling.teacher import Teacher
    from edgeft.stages.finetune.base import FineTune
    from edgeft.stages.prune.subject import Subject

RATES = {"full": 5e-5, "lora": 1e-3}


def heal(subject: Subject, options: Prune, ctx: Context, number: int, masks: Mapping[str, torch.Tensor]) -> TrainingRow:
    """Train subject.module; it ends on CPU in eval mode with the weights of the best evaluation. Raises StepError.

    number: the round, which has checkpoints of its own. masks: weight name -> bool, False places stay zero.
    """
    from edgeft.stages.finetune.train import train

    held = ctx.splits.get("train")
    if held is None or held.n == 0:
        raise refuse("healing trains on the train split, and there is none", ctx,
                     "raise data.fractions.train, or leave heal_epochs and heal_steps out")  # fmt: skip
    fine = fine_tune(options)
    device = fine.choose_device()
    scratch = ctx.scratch / f"round-{number}"
    scratch.mkdir(parents=True, exist_ok=True)
    module: Any = subject.module.to(device)
    if options.heal_method == "lora":
        from edgeft.stages.finetune.adapters import add_adapters

        module = add_adapters(module, fine, ctx.step)  # type: ignore[arg-type]
    fine.save_memory(module, ctx, device)
    with held_zeros(module, masks):
        row = train(module, fine, replace(ctx, scratch=scratch), device, unpruned(subject, options, ctx, device))
    if options.heal_method == "lora":
        module = unwrap(module.merge_and_unload(safe_merge=True))
    module.__dict__.pop("forward", None)  # accelerate's autocast wrapper on a GPU
    subject.module = module.to("cpu").eval().requires_grad_(True)  # the next round traces by gradients
    check_zeros(subject.module, masks, ctx.step)
    return row


def unpruned(subject: Subject, options: Prune, ctx: Context, device: str) -> Teacher | None:
    """The model this step began with as teacher, by distillation's own defaults: half labels, half KL of classes."""
    if not options.heal_distil:
        return None
    from edgeft.stages.distilling.teacher import load_teacher
    from edgeft.stages.distilling.teaching import Teaching

    return load_teacher(subject.model, None, Teaching(), ctx, device)


def fine_tune(options: Prune) -> FineTune:
    """The fine-tuning that heals: `full` or `lora` with what the prune step says."""
    from edgeft.stages.finetune.full import Full
    from edgeft.stages.finetune.lora import Lora

    rate = options.heal_learning_rate or RATES[options.heal_method]
    common: dict[str, Any] = {
        "epochs": options.heal_epochs or 1,
        "max_steps": options.heal_steps,
        "batch_size": options.heal_batch_size,
        "learning_rate": rate,
        "device": options.device,
        "augment": options.heal_augment,
        "dice": options.heal_dice,
        "group_by_length": True,
    }
    if options.heal_method == "lora":
        return Lora(rank=options.heal_rank, alpha=2 * options.heal_rank, dropout=0.0, **common)
    return Full(**common)
