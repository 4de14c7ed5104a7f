"""Gradients of the training loss, for importance by Taylor expansion. Molchanov et al. 2019, arXiv 1906.10771."""

from __future__ import annotations

from typing import TYPE_CHECKING

from edgeft.models.predict import forward_logits, may_trim, trim_padding
from edgeft.stages.label_loss import label_loss

if TYPE_CHECKING:
    from edgeft.stage import Context
    from edgeft.stages.prune.subject import Subject

BATCH = 32


def sum_gradients(subject: Subject, batches: int, ctx: Context) -> None:
    """Leave the gradient of the summed cross-entropy over evenly spaced training rows in the module's parameters.

    Eval mode, so that dropout does not blur it. Raises StepError without training rows.
    """

    from edgeft.stages.finetune.data import read_examples
    from edgeft.stages.finetune.trainer import at_labels_size, feeds_of
    from edgeft.stages.prune.base import refuse

    module = subject.module
    held = ctx.splits.get("train")
    if held is None or not held.n:
        raise refuse("importance: taylor needs the train split, and there is none", ctx,
                     "raise data.fractions.train, or use importance: l2")  # fmt: skip
    examples = read_examples(ctx, "train", module)
    taken = min(len(examples), batches * BATCH)
    order = [index * len(examples) // taken for index in range(taken)]
    module.eval().zero_grad(set_to_none=True)
    for start in range(0, taken, BATCH):
        rows = order[start : start + BATCH]
        batch = examples.__getitems__(rows)
        feeds = feeds_of(batch)
        logits = forward_logits(module, trim_padding(feeds) if may_trim(module) else feeds)
        logits = at_labels_size(logits.float(), batch["labels"])
        loss = label_loss(logits, batch["labels"], reduction="sum")
        loss.backward()
        ctx.progress(start + len(rows), taken, "row", "gradients")
