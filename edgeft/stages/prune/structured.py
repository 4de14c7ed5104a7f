"""Structured pruning: whole heads, neurons and channels go, so that every runtime multiplies smaller matrices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field, PrivateAttr, model_validator

from edgeft.artifact import Artifact
from edgeft.models.surgery import operate
from edgeft.record import WidthRow
from edgeft.stage import Context
from edgeft.stages.prune.base import Cut, Prune, refuse
from edgeft.stages.prune.choose_units import Emptied, choose_units

if TYPE_CHECKING:
    from edgeft.stages.prune.coupling import Coupled, Coupling, Part
    from edgeft.stages.prune.subject import Subject

BASES = {"l1": "group L1 magnitude", "l2": "group L2 magnitude", "taylor": "first-order Taylor of the training loss"}

FAR = 0.1
"""By how much the fraction that went may miss the ratio without a word."""


class Structured(Prune):
    """Remove whole attention heads, feed-forward neurons and convolution channels, the least important first.

    Coupled layers are found by Torch-Pruning's dependency graph (Fang et al. 2023, DepGraph, arXiv 2301.12900). The
    width of a transformer's residual stream stays.
    """

    tools: ClassVar[tuple[str, ...]] = ("torch", "transformers", "peft", "accelerate", "torch-pruning")
    packages: ClassVar[Mapping[str, str]] = {"torch_pruning": "prune"}

    method: Literal["structured"] = Field("structured", description="Removes whole heads, neurons and channels.")
    ratio: float | None = Field(
        None, gt=0, lt=1, description="Fraction of heads, neurons and channels to remove, by importance."
    )
    target_latency_ms: float | None = Field(
        None, gt=0, description="Instead of ratio: the smallest ratio whose export meets this p50 on latency_device."
    )
    latency_device: str | None = Field(
        None, description="One of the recipe's targets, not an emulated one; default: the first."
    )
    latency_candidate: str | None = Field(
        None,
        description="Exporter and variant of that target, timed for target_latency_ms, such as onnx/int8-static; "
        "default: the first of its candidates, compressed ones first, that the network can be exported as.",
    )
    head_ratio: float | None = Field(None, ge=0, lt=1, description="Another fraction for attention heads; 0 keeps all.")
    importance: Literal["l1", "l2", "taylor"] = Field(
        "l2", description="Magnitude of a group's weights, or weight times gradient on training batches (taylor)."
    )
    taylor_batches: int = Field(16, ge=1, le=10_000, description="Training batches of 32 whose gradients taylor sums.")
    spread: Literal["layer", "global"] = Field(
        "layer",
        description="layer: the same fraction of every layer; global: of all together, wherever scores are lowest.",
    )
    parts: tuple[Literal["heads", "neurons", "channels"], ...] = Field(
        ("heads", "neurons", "channels"), min_length=1, description="What may be removed."
    )
    round_to: int = Field(1, ge=1, le=256, description="Keep multiples of this many neurons or channels.")
    skip: tuple[str, ...] = Field((), description="Modules that stay whole, by name or end of name.")
    iterations: int = Field(1, ge=1, le=50, description="Reach the ratio in so many rounds of cutting and healing.")

    _whole: dict[str, int] = PrivateAttr(default_factory=dict)

    @model_validator(mode="after")
    def _one_size(self) -> Structured:
        if (self.ratio is None) == (self.target_latency_ms is None):
            raise ValueError("give ratio, or target_latency_ms to have it found")
        if self.latency_device and self.target_latency_ms is None:
            raise ValueError("latency_device goes with target_latency_ms")
        if self.iterations > 1 and not self.heals:
            raise ValueError("iterations above 1 cut and heal in turn: give heal_epochs or heal_steps")
        return self

    @property
    def rounds(self) -> int:
        """Rounds of cutting and healing."""
        return self.iterations

    @property
    def reads(self) -> tuple[str, ...]:  # type: ignore[override]
        """Train too, for gradients."""
        wanted = [*super().reads, *(["train"] if self.importance == "taylor" else [])]
        return tuple(name for name in ("train", "validation") if name in wanted)

    def at(self, ratio: float) -> Structured:
        """The same step with the ratio that a latency search found."""
        return self.model_copy(update={"ratio": ratio, "target_latency_ms": None, "latency_device": None})

    def unhealed(self, ratio: float) -> Structured:
        """The cut alone at a ratio: as fast as the healed model, whose weights differ only in value."""
        return self.at(ratio).model_copy(update={"heal_epochs": None, "heal_steps": None, "iterations": 1})

    def most(self, model: Artifact, ctx: Context) -> float:
        """The largest ratio that leaves something of every part it is applied to."""
        from edgeft.stages.prune.choose_units import largest_ratio
        from edgeft.stages.prune.coupling import each, importance_of, unit_scores
        from edgeft.stages.prune.subject import Subject

        subject = Subject.load(model, ctx)
        groups = self.pick(trace(subject, ctx), ctx)
        self._gradients(subject, ctx)
        measure, found = importance_of(self.importance), []
        for part in self.at(0.5)._ratios():
            scores = {item.name: unit_scores(item, measure) for item in each(groups, part)}
            if scores and not (part == "heads" and self.head_ratio is not None):
                found.append(largest_ratio(scores, {name: len(units) for name, units in scores.items()}, self.spread))
        return min(found, default=0.0)

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Remove this round's share. Raises StepError for a ratio that empties a layer, and for unknown names."""
        if self.ratio is None:
            raise refuse("target_latency_ms has not been turned into a ratio", ctx, "give ratio")
        coupling = trace(subject, ctx)
        groups = self.pick(coupling, ctx)
        self._gradients(subject, ctx)
        if number == 0:
            self._whole.clear()
            self._whole.update({item.name: item.units for item in groups})
        share = (number + 1) / self.iterations
        removed = self._choose(groups, share, ctx)
        edits = coupling.edits(removed)
        subject.module.zero_grad(set_to_none=True)
        if edits:
            operate(subject.module, edits)
        widths = [
            WidthRow(part=item.name, kind=item.part, before=self._whole[item.name], after=item.units - len(units))
            for item, units in removed
        ]
        notes = [] if self.ratio else ["nothing was removed: the unpruned model meets the latency budget"]
        notes += coupling.untold_heads(groups) if "heads" in self.parts else []
        if number + 1 == self.iterations:
            for said in self._far_from_asked(widths):
                ctx.warn(said)
        shared = "each layer by itself" if self.spread == "layer" else "all layers together"
        return Cut(f"{BASES[self.importance]} (Torch-Pruning), {shared}", widths, notes)

    def pick(self, coupling: Coupling, ctx: Context) -> list[Coupled]:
        """The groups this step may cut. Raises StepError where there is none, and for a name that matches nothing."""
        groups = coupling.groups()
        names = list(coupling.names.values())
        for entry in self.skip:
            if not any(_ends(name, entry) for name in names):
                near = get_close_matches(entry, [*names, *(name.rpartition(".")[2] for name in names)], n=1)
                hint = f"did you mean '{near[0]}'?" if near else f"what can be cut: {', '.join(g.name for g in groups)}"
                raise refuse(f"skip: no module of this model is called '{entry}'", ctx, hint)
        kept = [
            item
            for item in groups
            if item.part in self.parts
            and not any(_within(name, entry) for entry in self.skip for name in [item.name, *coupling.makers(item)])
        ]
        if not kept:
            parts = sorted({item.part for item in groups})
            raise refuse(f"this model has no {' or '.join(self.parts)} that could be removed", ctx,
                         f"it has {' and '.join(parts)}" if parts else "use method: depth or magnitude")  # fmt: skip
        return kept

    def _gradients(self, subject: Subject, ctx: Context) -> None:
        """Gradients of the mean loss on training batches, left in the parameters, where importance wants them."""
        if self.importance != "taylor":
            return
        from edgeft.stages.prune.gradients import sum_gradients

        sum_gradients(subject, self.taylor_batches, ctx)

    def _choose(self, groups: list[Coupled], share: float, ctx: Context) -> list[tuple[Coupled, list[int]]]:
        from edgeft.stages.prune.coupling import each, importance_of, unit_scores

        measure, removed = importance_of(self.importance), []
        for part, ratio in self._ratios().items():
            found = list(each(groups, part))
            scores = {item.name: unit_scores(item, measure) for item in found}
            step = self.round_to if part != "heads" else 1
            try:
                units = choose_units(scores, self._whole, ratio * share, self.spread, step)
            except Emptied as error:
                key = "head_ratio" if part == "heads" and self.head_ratio is not None else "ratio"
                raise refuse(
                    f"{key}: {ratio:g} leaves no {part} in {error.name}", ctx,
                    f"the largest that works here is {error.most:g}; or name that module in `skip`",
                ) from error  # fmt: skip
            removed += [(item, units[item.name]) for item in found]
        return removed

    def _far_from_asked(self, widths: list[WidthRow]) -> Iterator[str]:
        """What went of each kind of part, where that is nothing or far from the ratio."""
        for part, ratio in self._ratios().items():
            rows = [row for row in widths if row.kind == part]
            whole, left = sum(row.before for row in rows), sum(row.after for row in rows)
            share = 1 - left / whole if whole else ratio
            if not share or abs(share - ratio) > FAR:
                rounded = self.round_to > 1 and part != "heads"
                why = f"round_to: {self.round_to} keeps multiples" if rounded else "so few cannot be divided closer"
                key = "head_ratio" if part == "heads" and self.head_ratio is not None else "ratio"
                yield (
                    f"{key} asks for {ratio:g} of the {part}, and {share:.2g} went "
                    f"({whole - left:,} of {whole:,} in {len(rows)} layers): {why}"
                )

    def _ratios(self) -> dict[Part, float]:
        ratio = self.ratio or 0.0
        heads = ratio if self.head_ratio is None else self.head_ratio
        found: dict[Part, float] = {"heads": heads, "neurons": ratio, "channels": ratio}
        return {part: value for part, value in found.items() if value and part in self.parts}


def trace(subject: Subject, ctx: Context) -> Any:
    """The module's coupling. Raises StepError without the extra, and for networks that cannot be traced."""
    try:
        from edgeft.stages.prune.coupling import Coupling

        return Coupling(subject.module, subject.examples)
    except ImportError as error:
        raise refuse(f"structured pruning needs torch-pruning: {error}", ctx, "pip install 'edgeft[prune]'") from error
    except (RuntimeError, TypeError, ValueError, KeyError, AttributeError, IndexError, AssertionError) as error:
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise refuse(f"Torch-Pruning cannot trace this network: {first[:300]}", ctx,
                     "use method: depth, or prune the network in its own code") from error  # fmt: skip


def _ends(name: str, entry: str) -> bool:
    return name == entry or name.endswith("." + entry)


def _within(name: str, entry: str) -> bool:
    """True where a module is called `entry`, or lies inside one that is."""
    parts = name.split(".")
    return any(_ends(".".join(parts[: end + 1]), entry) for end in range(len(parts)))
