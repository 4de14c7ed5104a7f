"""The parts of a merge: the unmerged reference, a merged module on either base, and how far apart they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.models.adapter import adapter_about, attach_adapter
from edgeft.models.layers import body_linears, unwrap
from edgeft.models.load import load_model
from edgeft.models.predict import predict_logits
from edgeft.models.save import save_model
from edgeft.task import UNSCORED, SelfSupervisedTask, case_rows, keep_answers, logits_at_once

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    from edgeft.stage import Context
    from edgeft.task import Arrays, Task

    Logits = NDArray[np.float32]

Base = Literal["original", "quantised"]
NAMES: dict[Base, str] = {"original": "original + delta", "quantised": "dequantised NF4 + delta"}
EXACT_CASES = 32
LOGITS_BYTES = 256 << 20
"""Of one model's answers; three are held at a time."""
BATCH = 32


@dataclass(frozen=True)
class Reference:
    """The unmerged model on the validation split. exact: its logits on the first `few` rows when the 4-bit layers
    compute in float32; logits: of all rows, computing as in training (of a language model both of the tokens that are
    scored, (tokens, classes)); feeds and rows: what it was asked; plain makes of feeds what a module takes, whole
    brings a module's answers to full size."""

    feeds: dict[str, Any]
    rows: Any
    logits: Logits
    exact: Logits
    few: int
    metrics: dict[str, float]
    plain: Callable[[Arrays], Arrays]
    whole: Callable[[torch.nn.Module], torch.nn.Module]

    @property
    def n(self) -> int:
        """Cases."""
        return int(self.rows.num_rows)

    @property
    def answers(self) -> int:
        """Top classes: one per case, one per pixel, or one per token."""
        return int(self.logits.size // self.logits.shape[1])


@dataclass(frozen=True)
class Scored:
    """A merged module against the reference. exact_difference: largest logit difference in float32, relative to the
    largest logit (at least 1); kl: mean KL(unmerged || merged) in nats; agreement: share of equal top classes;
    correct: (n,) bool."""

    base: Base
    module: torch.nn.Module
    exact_difference: float
    kl: float
    agreement: float
    max_difference: float
    metrics: dict[str, float]
    correct: NDArray[np.bool_]


def measure_unmerged(base: Artifact, adapter: Artifact, ctx: Context) -> Reference:
    """Answers of the base with its adapter beside it, as it was trained. Raises StepError without validation rows.

    Of answers per pixel, no more cases are taken than fit into LOGITS_BYTES: first rows are a fair sample of a split.
    """
    import torch

    from edgeft.data.table import read_split
    from edgeft.models.served import plain_module

    split = ctx.splits.get("validation")
    if split is None or split.n == 0 or ctx.prepared is None:
        raise StepError(
            "a merge is measured on the validation split, and there is none",
            where=f"step {ctx.step}",
            hint="raise data.fractions.validation",
        )
    prepared = ctx.prepared
    rows = case_rows(ctx.task, read_split(split.path), prepared)
    few = logits_at_once(ctx.task, prepared, EXACT_CASES)
    feeds = dict(ctx.task.feeds(rows.slice(0, few), prepared))

    def plain(part: Arrays) -> Arrays:
        return ctx.task.plain(part, prepared)

    module = load_model(
        base, adapter=adapter, labels=ctx.labels, task=ctx.task.name, compute_dtype="float32", seed=ctx.seed
    )
    whole = plain_module(module, prepared)
    exact = predict_logits(whole, feeds, batch_size=BATCH, plain=plain)
    exact_feeds = feeds
    rows = rows.slice(0, max(few, LOGITS_BYTES * len(exact) // max(1, exact.nbytes)))
    feeds = dict(ctx.task.feeds(rows, prepared))
    about = adapter_about(adapter)
    if about["quantised"] and about["compute_dtype"]:
        from edgeft.models.nf4 import set_compute_dtype

        # Down from float32, never up: a layer rounds its bias to the compute dtype for good.
        set_compute_dtype(module, getattr(torch, about["compute_dtype"]))
    logits = predict_logits(whole, feeds, batch_size=BATCH, plain=plain)
    metrics = dict(ctx.task.score(scorable(ctx.task, logits, feeds), rows, ctx.labels).metrics)
    logits, exact = scored_logits(ctx.task, logits, feeds), scored_logits(ctx.task, exact, exact_feeds)
    return Reference(
        feeds, rows, logits, exact, few, metrics, plain, lambda merged: plain_module(merged, prepared)
    )  # fmt: skip


def merged_module(base: Artifact, adapter: Artifact, on: Base, ctx: Context) -> torch.nn.Module:
    """The base, fresh from disk in float32, with the adapter's delta added; `quantised` first rounds what NF4 rounded.

    peft's own merge of a 4-bit model quantises the sum again; here the sum stays as it is.
    """
    module = load_model(base, labels=ctx.labels, task=ctx.task.name, quantise=None, seed=ctx.seed, new_head=True)
    if on == "quantised":
        from edgeft.models.nf4 import round_trip_nf4

        double = bool(adapter_about(adapter)["double_quant"])
        for name in body_linears(module):
            layer: Any = module.get_submodule(name)
            layer.weight.data = round_trip_nf4(layer.weight.data, double_quant=double)
    wrapped: Any = attach_adapter(module, adapter.path)
    try:
        merged: torch.nn.Module = wrapped.merge_and_unload(safe_merge=True)
    except (ValueError, NotImplementedError, AttributeError, TypeError) as error:
        first = next(iter(str(error).splitlines()), type(error).__name__)
        raise StepError(
            f"this adapter cannot be merged: {first[:300]}", where=f"step {ctx.step}",
            hint="an adapter whose parts do not fold into the base's weights cannot ship as one model",
        ) from error  # fmt: skip
    inner: torch.nn.Module = unwrap(merged)
    return inner.eval()


def score_merged(on: Base, module: torch.nn.Module, dtype: torch.dtype, reference: Reference, ctx: Context) -> Scored:
    """Compare with the reference: exactly in float32, then as shipped, its weights rounded once to the base's dtype."""
    import numpy as np
    import torch

    plain = reference.plain
    first = {name: array[: reference.few] for name, array in reference.feeds.items()}
    exact = predict_logits(reference.whole(module), first, batch_size=BATCH, plain=plain)
    exact = scored_logits(ctx.task, exact, first)
    scale = max(1.0, float(np.abs(reference.exact).max()))
    if dtype != torch.float32:
        module = module.to(dtype).to(torch.float32)
    logits = predict_logits(reference.whole(module), reference.feeds, batch_size=BATCH, plain=plain)
    score = ctx.task.score(scorable(ctx.task, logits, reference.feeds), reference.rows, ctx.labels)
    logits = scored_logits(ctx.task, logits, reference.feeds)
    return Scored(
        base=on,
        module=module,
        exact_difference=float(np.abs(exact - reference.exact).max()) / scale,
        kl=mean_kl(reference.logits, logits),
        agreement=float((logits.argmax(axis=1) == reference.logits.argmax(axis=1)).mean()),
        max_difference=float(np.abs(logits - reference.logits).max()),
        metrics=dict(score.metrics),
        correct=score.correct,
    )


def mean_kl(logits: Logits, other: Logits) -> float:
    """Mean over cases (and pixels) of KL(softmax(logits) || softmax(other)), in nats. Both (n, classes, ...)."""
    import numpy as np
    from scipy.special import log_softmax, rel_entr, softmax

    total = 0.0
    for start in range(0, len(logits), BATCH):  # float64 copies of a batch, not of all answers
        part = slice(start, start + BATCH)
        ours = softmax(logits[part].astype("float64"), axis=1)
        theirs = np.exp(log_softmax(other[part].astype("float64"), axis=1))
        total += float(rel_entr(ours, theirs).sum())
    answers = max(1, int(logits.size) // int(logits.shape[1]))
    return max(0.0, total / answers)


def scored_logits(task: Task, logits: Logits, feeds: Arrays) -> Logits:
    """Logits of what is scored: as they are, or of a language model's tokens (tokens, classes)."""
    return logits[task.truth(feeds) != UNSCORED] if isinstance(task, SelfSupervisedTask) else logits


def scorable(task: Task, logits: Logits, feeds: Arrays) -> Arrays:
    """What the task scores of a model's logits."""
    return keep_answers(task, {"logits": logits}, feeds) if isinstance(task, SelfSupervisedTask) else {"logits": logits}


def stored_dtype(base: Artifact) -> torch.dtype:
    """Dtype of the base's floating-point weights on disk (of the first such tensor; models are stored in one)."""
    import torch
    from safetensors import safe_open

    names = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "F64": torch.float32}
    if base.facts.get("initialise"):
        return torch.float32
    files = sorted(base.path.glob("*.safetensors")) if base.path.is_dir() else [base.path]
    for path in files:
        with safe_open(str(path), "pt") as stream:
            for key in stream.keys():  # noqa: SIM118  safe_open is not a mapping
                kind = stream.get_slice(key).get_dtype()
                if kind in names:
                    return names[kind]
    return torch.float32


def write_merged(module: torch.nn.Module, dtype: torch.dtype, base: Artifact, out: Path) -> Facts:
    """The merged model in canonical form and in the base's dtype."""
    import torch

    return save_model(module if dtype == torch.float32 else module.to(dtype), base, out)
