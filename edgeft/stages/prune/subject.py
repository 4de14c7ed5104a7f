"""The model under the knife: loaded once, scored on validation, measured, and proven to come back from its file."""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.models.broken_layer import refuse_broken_logits
from edgeft.models.load import load_model
from edgeft.models.predict import chosen_feeds, forward_logits, predict_logits
from edgeft.record import ScoreRow
from edgeft.stages.merging import scorable, scored_logits
from edgeft.task import case_rows, logits_at_once

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.stage import Context
    from edgeft.task import Arrays

EXAMPLES = 2
"""Rows that tracing and the reload check use."""
COMPRESSION = 6
BATCH = 32


@dataclass
class Subject:
    """module: float32 on CPU. feeds, rows: of the validation split, else of train, as the task makes them; scored:
    whether its answers mean something (a fresh head answers at random)."""

    module: torch.nn.Module
    model: Artifact
    ctx: Context
    feeds: dict[str, Any]
    rows: Any
    scored: bool

    @classmethod
    def load(cls, model: Artifact, ctx: Context) -> Subject:
        """The float model; a missing head is made by seed, to be trained by what follows. Raises StepError."""
        options: dict[str, Any] = {"labels": ctx.labels, "task": ctx.task.name, "quantise": None, "seed": ctx.seed}
        try:
            module, headless = load_model(model, **options), False
        except StepError:
            module, headless = load_model(model, **options, new_head=True), True
        name = next((name for name in ("validation", "train", "calibration") if _rows(ctx, name)), None)
        if name is None or ctx.prepared is None:
            raise StepError("pruning is measured on the validation split, and there is none", where=f"step {ctx.step}",
                            hint="raise data.fractions.validation")  # fmt: skip
        if name != "validation":
            ctx.warn("there is no validation split: what pruning costs is not measured")
        feeds, rows = read_feeds(ctx, name)
        return cls(module, model, ctx, feeds, rows, name == "validation" and not headless)

    @property
    def cases(self) -> int:
        """Validation rows."""
        return int(self.rows.num_rows)

    @property
    def examples(self) -> dict[str, torch.Tensor]:
        """A few real feeds as the module takes them."""
        return self.tensors(self.feeds, slice(EXAMPLES))

    def tensors(self, feeds: Mapping[str, Any], rows: slice) -> dict[str, torch.Tensor]:
        """Some rows of canonical feeds as the module takes them."""
        import numpy as np
        import torch

        made = self.plain({name: array[rows] for name, array in feeds.items()})
        return {name: torch.from_numpy(np.ascontiguousarray(made[name])) for name in chosen_feeds(self.module, made)}

    def plain(self, feeds: Arrays) -> Arrays:
        """Canonical feeds as a torch model takes them."""
        return self.ctx.task.plain(feeds, self.ctx.prepared) if self.ctx.prepared else feeds

    def logits(self, feeds: Mapping[str, Any], module: torch.nn.Module | None = None) -> NDArray[np.float32]:
        """Answers of the module, or of another, as the task scores them: masks at full size."""
        from edgeft.models.served import plain_module

        asked = module if module is not None else self.module
        whole = plain_module(asked, self.ctx.prepared) if self.ctx.prepared else asked
        return predict_logits(whole, feeds, batch_size=BATCH, plain=self.plain)

    def scored_logits(self, feeds: Mapping[str, Any]) -> NDArray[np.float32]:
        """Answers of the module to what is scored: (n, classes, ...), of a language model (tokens, classes)."""
        return scored_logits(self.ctx.task, self.logits(feeds), feeds)

    def score(self, at: str) -> list[ScoreRow]:
        """The headline metric now, or nothing where there is none to be had; a fresh head counts once trained."""
        if at.startswith("healed") and _rows(self.ctx, "validation"):
            self.scored = True
        if not self.scored:
            return []
        whose = "the model before pruning" if at == "before" else f"the {at} model"
        metrics = self.ctx.task.score(self._answers(whose), self.rows, self.ctx.labels).metrics
        return [ScoreRow(at=at, value=float(metrics[self.ctx.task.headline]))]

    def _answers(self, whose: str) -> Arrays:
        """What the task scores of the module's answers to all feeds. StepError for answers that are not finite."""
        import numpy as np

        size, parts = logits_at_once(self.ctx.task, self.ctx.prepared, self.cases), []
        for start in range(0, self.cases, size):
            part = {name: array[start : start + size] for name, array in self.feeds.items()}
            logits = self.logits(part)
            refuse_broken_logits(self.module, part, logits, self.plain, whose, f"step {self.ctx.step}")
            parts.append(scorable(self.ctx.task, logits, part))
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def size(self, *, squeezed: bool) -> tuple[int, int, int]:
        """(parameters, multiply-accumulates of one case, bytes of the weights under zlib or 0 where not asked for)."""
        parameters = sum(parameter.numel() for parameter in self.module.parameters())
        return parameters, self.macs(), compressed(self.module) if squeezed else 0

    def macs(self) -> int:
        """Multiply-accumulates of matrix products and convolutions for one case, by torch's own counter (two
        floating-point operations each). Attention is counted as its matrix products."""
        import torch
        from torch.nn.attention import SDPBackend, sdpa_kernel
        from torch.utils.flop_counter import FlopCounterMode

        counter = FlopCounterMode(display=False)
        with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), counter:
            forward_logits(self.module, self.tensors(self.feeds, slice(1)))
        return int(counter.get_total_flops()) // 2


def read_feeds(ctx: Context, split: str, most: int | None = None) -> tuple[dict[str, Any], Any]:
    """(canonical feeds, rows) of a split, of at most `most` rows evenly spaced. Raises StepError without it."""
    from edgeft.data.table import read_split

    if not _rows(ctx, split) or ctx.prepared is None:
        raise StepError(f"the {split} split is empty", where=f"step {ctx.step}", hint=f"raise data.fractions.{split}")
    rows = read_split(ctx.splits[split].path)
    if most is not None and rows.num_rows > most:
        rows = rows.take([index * rows.num_rows // most for index in range(most)])
    rows = case_rows(ctx.task, rows, ctx.prepared)
    return dict(ctx.task.feeds(rows, ctx.prepared)), rows


def compressed(module: torch.nn.Module) -> int:
    """Bytes of all weights under zlib level 6, one stream in the order of the state dictionary."""
    squeeze, total = zlib.compressobj(COMPRESSION), 0
    for tensor in module.state_dict().values():
        total += len(squeeze.compress(tensor.detach().contiguous().cpu().numpy().tobytes()))
    return total + len(squeeze.flush())


def check_reload(subject: Subject, out: Path, facts: Facts, ctx: Context) -> None:
    """The written folder must answer bit by bit as the module in memory. Raises StepError."""
    import numpy as np

    again = load_model(
        Artifact("torch-model", out, "", facts), labels=ctx.labels, task=ctx.task.name, quantise=None, seed=ctx.seed
    )
    feeds = {name: array[:EXAMPLES] for name, array in subject.feeds.items()}
    ours, theirs = subject.logits(feeds), subject.logits(feeds, again)
    if not np.array_equal(ours, theirs):
        raise StepError("the pruned model does not come back equal from its file", where=f"step {ctx.step}",
                        hint="it keeps state that surgery.json does not describe; please report it")  # fmt: skip


def _rows(ctx: Context, split: str) -> int:
    held = ctx.splits.get(split)
    return held.n if held is not None else 0
