"""Merge an adapter into its base, after measuring which base serves it better."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.artifact import Artifact, Kind
from edgeft.canonical import Facts
from edgeft.errors import StepError
from edgeft.record import MergeCandidate, MergeRow
from edgeft.stage import Context, Stage

if TYPE_CHECKING:
    from edgeft.stages.merging import Base, Reference, Scored

EXACT_TOLERANCE = 1e-3
"""Largest logit difference, relative to the largest logit (at least 1), between the unmerged model computing in float32
and the merge on the very weights it computes with. Both do the same float32 sums in another order: 1e-7 to 1e-5 for
encoders of 6 to 24 layers. A delta that is lost, doubled or of the wrong sign shows at 1e-2 and above."""
ALLOWED_FLIPS = 1
"""Top classes that may change whatever min_agreement says: with few cases, one near-tie must not decide."""
BETTER_P = 0.1
"""A merge on other weights than those trained on flips answers that the source model gave. One more right case of seven
hundred is noise and not worth that; this much evidence is."""


class Merge(Stage):
    """Merge an adapter into its base: on the original weights or on the dequantised ones it was trained on."""

    name: ClassVar[str] = "merge"
    version: ClassVar[int] = 3
    takes: ClassVar[Mapping[str, tuple[Kind, ...]]] = {"base": ("torch-model",), "model": ("peft-adapter",)}
    makes: ClassVar[Kind] = "torch-model"
    reads: ClassVar[tuple[str, ...]] = ("validation",)
    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "bitsandbytes")

    base: Literal["measure", "original", "quantised"] = Field(
        "measure",
        description="Weights to add the delta to; measure: score both on validation, take the one closer to the "
        "unmerged model unless the other is shown to be better.",
    )
    max_kl: float = Field(
        0.01, gt=0, description="Largest mean KL(unmerged || merged), in nats, of the merge on the weights trained on."
    )
    min_agreement: float = Field(
        0.98, gt=0, le=1, description="Least share of top classes kept by the merge on the weights trained on."
    )

    def run(self, inputs: Mapping[str, Artifact], out: Path, ctx: Context) -> Facts:
        """Write the merged model; facts carry the MergeRow under `merge`. Raises StepError for an unfaithful merge."""
        import torch

        from edgeft.models.adapter import adapter_about
        from edgeft.stages.merging import (
            NAMES,
            measure_unmerged,
            merged_module,
            score_merged,
            stored_dtype,
            write_merged,
        )

        torch.set_num_threads(max(1, ctx.threads))
        base, adapter = inputs["base"], inputs["model"]
        _check_base(base, adapter, ctx)
        quantised = adapter_about(adapter)["quantised"] == "nf4"
        if self.base == "quantised" and not quantised:
            raise StepError(
                "base: quantised, but this adapter is not known to have been trained on a 4-bit base",
                where=f"step {ctx.step}",
                hint="use base: original (or measure)",
            )
        reference = measure_unmerged(base, adapter, ctx)
        dtype = stored_dtype(base)
        bases: tuple[Base, ...] = ("original", "quantised") if quantised else ("original",)
        scored: list[Scored] = []
        for on in bases:
            ctx.progress(len(scored) + 1, len(bases) + 1, "model", NAMES[on])
            scored.append(score_merged(on, merged_module(base, adapter, on, ctx), dtype, reference, ctx))
        self.check(scored[-1], reference.answers, ctx)
        row, taken = self.choose(scored, reference, ctx)
        facts = write_merged(taken.module, dtype, base, out)
        return {**facts, "merge": row.model_dump(mode="json")}

    def estimate(self, rows: Mapping[str, int], model_bytes: int) -> dict[str, Any]:
        """The merged model on disk; base, 4-bit base and both merges in memory."""
        megabytes = model_bytes / 1e6
        basis = "estimated: float weights on disk, four copies in memory"
        return {"memory_mb": round(4 * megabytes + 900), "disk_mb": round(megabytes, 1), "basis": basis}

    def check(self, candidate: Scored, n: int, ctx: Context) -> None:
        """The merge on the weights trained on must answer as the unmerged model does. Raises StepError."""
        flips = round((1 - candidate.agreement) * n)
        reasons = []
        if not candidate.exact_difference <= EXACT_TOLERANCE:
            reasons.append(f"logits differ by {candidate.exact_difference:.2g} (limit {EXACT_TOLERANCE:g})")
        if not candidate.kl <= self.max_kl:
            reasons.append(f"KL is {candidate.kl:.3g} nats (limit {self.max_kl:g})")
        if flips > max(ALLOWED_FLIPS, (1 - self.min_agreement) * n):
            reasons.append(f"{flips} of {n} top classes change (limit {1 - self.min_agreement:.0%})")
        if reasons:
            raise StepError(
                f"the merged model does not answer as the unmerged one: {'; '.join(reasons)}",
                where=f"step {ctx.step}",
                hint="the adapter belongs to another base, or its files are damaged; train again or give its own base",
            )

    def choose(self, scored: list[Scored], reference: Reference, ctx: Context) -> tuple[MergeRow, Scored]:
        """The candidate asked for, or the more faithful one unless the other is shown to score better; and its row."""
        from edgeft.stages.merging import NAMES

        metric = ctx.task.headline
        allowed = [item for item in scored if self.base in ("measure", item.base)]
        taken = min(allowed, key=lambda item: item.kl)
        other = next((item for item in allowed if item is not taken), None)
        if other is not None and _shown_better(other, taken, metric):
            taken, other = other, taken
        rows = [
            MergeCandidate(
                name=NAMES[item.base],
                base=item.base,
                kl=item.kl,
                top1_agreement=item.agreement,
                max_logit_difference=item.max_difference,
                metric_value=item.metrics[metric],
                taken=item is taken,
            )
            for item in scored
        ]
        return MergeRow(
            step=ctx.step,
            metric=metric,
            n=reference.n,
            unmerged_value=reference.metrics[metric],
            why=_why(taken, other, metric, asked=self.base != "measure"),
            candidates=rows,
        ), taken


def _check_base(base: Artifact, adapter: Artifact, ctx: Context) -> None:
    """An adapter knows the digest of the base it was trained on. Raises StepError for another one."""
    known = adapter.facts.get("base") or {}
    if known.get("digest") and known["digest"] != base.digest:
        raise StepError(
            f"this adapter was trained on the base {known['digest'][:12]}, not on {base.digest[:12]}",
            where=f"step {ctx.step}",
            hint="give the base it was trained on",
        )


def _why(taken: Scored, other: Scored | None, metric: str, *, asked: bool) -> str:
    """One sentence on the choice."""
    ours = taken.metrics[metric]
    if asked:
        return f"the recipe asks for base: {taken.base}"
    if other is None:
        return "the adapter was not trained on a 4-bit base, so there is one way to merge it"
    theirs = other.metrics[metric]
    scores = f"{metric} on validation {ours:.4f} against {theirs:.4f} on the {other.base} weights"
    if taken.kl > other.kl:
        return f"shown to score better: {scores}, exact McNemar p below {BETTER_P:g}"
    closer = f"closer to the unmerged model, KL {taken.kl:.2g} against {other.kl:.2g}"
    return f"{closer}; {scores}, which shows no gain that would be worth leaving it for"


def _shown_better(item: Scored, faithful: Scored, metric: str) -> bool:
    """True when `item` scores higher and its gained cases outnumber its lost ones by more than chance."""
    from edgeft.evaluate.statistics import mcnemar_exact

    gained = int((item.correct & ~faithful.correct).sum())
    lost = int((faithful.correct & ~item.correct).sum())
    return item.metrics[metric] > faithful.metrics[metric] and gained > lost and mcnemar_exact(lost, gained) < BETTER_P
