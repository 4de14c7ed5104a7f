"""A frozen model that a student learns from, beside its labels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.models.layers import unwrap
from edgeft.models.predict import forward_hidden, forward_logits
from edgeft.stages.distilling.losses import hidden_loss, logits_loss, relation_loss
from edgeft.stages.distilling.pairs import Pair, choose_heads, fit_projections, layer_pairs, positions
from edgeft.stages.distilling.projections import LastAttention

if TYPE_CHECKING:
    import torch

    from edgeft.artifact import Artifact
    from edgeft.stage import Context
    from edgeft.stages.distilling.teaching import Teaching

    Feeds = Mapping[str, torch.Tensor]

PROJECTIONS = "teacher_projections"
"""Name under which trainable projections hang on the student while it trains; `release` takes them off again."""
ROWS = 32
"""Rows on which both models are tried before training, and on which projections are fitted."""


class Teacher:
    """Runs the teacher beside the student and says how far apart they answer. One per training run.

    module: on the student's device; it is frozen and put in eval mode here. It is no part of the student: it is neither
    trained nor saved, and it is run once per batch, without gradients.
    """

    def __init__(self, module: torch.nn.Module, teaching: Teaching, where: str) -> None:
        self.module, self.teaching, self.where = module.requires_grad_(False).eval(), teaching, where
        self.pairs: tuple[Pair, ...] = ()
        self.heads: tuple[int, ...] = ()
        self.watched: tuple[LastAttention, LastAttention] | None = None
        self.projections: torch.nn.ModuleDict | None = None

    def meet(self, student: torch.nn.Module, feeds: Feeds) -> None:
        """Try both on a few rows: line up layers, hang projections on the student. Raises StepError where they differ.

        Before the optimiser is made, since projections train; the student's mode and random numbers stay as they were.
        """
        import torch

        training = student.training
        student.eval()
        if self.teaching.attention_weight:
            self.watched = (
                LastAttention(student, "student", self.where),
                LastAttention(self.module, "teacher", self.where),
            )
        with torch.no_grad():
            (ours, our_states), (theirs, their_states) = self._ask(student, feeds), self._ask(self.module, feeds)
        _check_logits(ours, theirs, self.where)
        if self.teaching.hidden_weight:
            self._line_up(student, our_states, their_states)
        if self.watched:
            self._choose_heads()
        student.train(training)

    def compare(self, student: torch.nn.Module, feeds: Feeds) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """The student's logits, and (n,) weighted distances from the teacher by name: logits, hidden, attention."""
        import torch

        with torch.no_grad():
            theirs, their_states = self._ask(self.module, feeds)
        ours, our_states = self._ask(student, feeds)
        teaching, mask, parts = self.teaching, feeds.get("attention_mask"), {}
        if teaching.logits_weight:
            distance = logits_loss(ours, _like(theirs, ours), teaching.temperature, mask)
            parts["logits"] = teaching.logits_weight * distance
        if teaching.hidden_weight:
            parts["hidden"] = teaching.hidden_weight * self._hidden(our_states, their_states, mask)
        if self.watched:
            parts["attention"] = teaching.attention_weight * self._attention(mask)
        return ours, parts

    def release(self, student: torch.nn.Module) -> None:
        """Take projections and hooks off the student: what is saved is the student alone."""
        if self.projections is not None:
            delattr(student, PROJECTIONS)
        for watched in self.watched or ():
            watched.remove()

    def describe(self) -> dict[str, Any]:
        """What was compared, as JSON, for facts and report."""
        teaching = self.teaching
        weights = {name: getattr(teaching, f"{name}_weight") for name in ("task", "logits", "hidden", "attention")}
        about: dict[str, Any] = {"temperature": teaching.temperature, "weights": weights}
        if self.pairs:
            about["hidden_loss"] = teaching.hidden_loss
            about["layer_map"] = [[pair.student, pair.teacher] for pair in self.pairs]
            about["projected"] = [pair.student for pair in self.pairs if pair.projected]
        if self.heads:
            about["relation_heads"] = list(self.heads)
        return about

    def _ask(self, module: torch.nn.Module, feeds: Feeds) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        return forward_hidden(module, feeds) if self.teaching.hidden_weight else (forward_logits(module, feeds), ())

    def _line_up(self, student: torch.nn.Module, ours: tuple[Any, ...], theirs: tuple[Any, ...]) -> None:
        for who, states in (("student", ours), ("teacher", theirs)):
            if not states:
                raise StepError(
                    f"hidden_weight: the {who} exposes no hidden states",
                    where=self.where,
                    hint="set hidden_weight: 0; or let its forward return {'logits': ..., 'hidden_states': (...)}",
                )
        self.pairs = layer_pairs(ours, theirs, self.teaching.layer_map, self.where)
        made = fit_projections(self.pairs, ours, theirs)
        if len(made):
            self.projections = made
            student.add_module(PROJECTIONS, made)

    def _choose_heads(self) -> None:
        ours, theirs = (watched.take() for watched in self.watched or ())
        counts = getattr(getattr(unwrap(self.module), "config", None), "num_attention_heads", None) or 1
        own = int(counts[-1] if isinstance(counts, list | tuple) else counts)  # SegFormer has a number per block
        stated = self.teaching.relation_heads
        self.heads = tuple(
            choose_heads(s.shape[-1], t.shape[-1], stated or own, stated=stated is not None, where=self.where)
            for s, t in zip(ours, theirs, strict=True)
        )

    def _hidden(self, ours: tuple[Any, ...], theirs: tuple[Any, ...], mask: Any) -> torch.Tensor:
        """Mean over the pairs, so that the weight means the same for 3 layers and for 12."""
        total: Any = 0
        for pair in self.pairs:
            states = positions(ours[pair.student])
            if pair.projected and self.projections is not None:
                states = self.projections[str(pair.student)](states)
            fits = mask if mask is not None and mask.shape == states.shape[:2] else None
            total = total + hidden_loss(states, positions(theirs[pair.teacher]), fits, self.teaching.hidden_loss)
        mean: torch.Tensor = total / len(self.pairs)
        return mean

    def _attention(self, mask: Any) -> torch.Tensor:
        """Mean over queries, keys and values."""
        ours, theirs = (watched.take() for watched in self.watched or ())
        total: Any = 0
        for states, other, heads in zip(ours, theirs, self.heads, strict=True):
            fits = mask if mask is not None and mask.shape == states.shape[:2] else None
            total = total + relation_loss(states, other, heads, fits)
        mean: torch.Tensor = total / len(ours)
        return mean


def load_teacher(model: Artifact, adapter: Artifact | None, teaching: Teaching, ctx: Context, device: str) -> Teacher:
    """The teacher of a step: a whole model, or a base with the adapter it was trained with, in 4 bits if it was so."""
    from edgeft.models.load import load_model

    module = load_model(model, adapter=adapter, labels=ctx.labels, task=ctx.task.name, device=device, seed=ctx.seed)
    return Teacher(module, teaching, f"step {ctx.step}")


def _like(theirs: torch.Tensor, ours: torch.Tensor) -> torch.Tensor:
    """The teacher's logits at the student's resolution: pixel maps may come out of the two at different strides."""
    import torch

    if theirs.shape == ours.shape:
        return theirs
    resized: torch.Tensor = torch.nn.functional.interpolate(
        theirs.float(), size=ours.shape[2:], mode="bilinear" if ours.ndim == 4 else "trilinear", align_corners=False
    )
    return resized


def _check_logits(ours: torch.Tensor, theirs: torch.Tensor, where: str) -> None:
    same_form = ours.shape[:2] == theirs.shape[:2] and ours.ndim == theirs.ndim
    if not same_form or (ours.shape != theirs.shape and ours.ndim < 4):
        raise StepError(
            f"the student answers with logits {tuple(ours.shape[1:])}, the teacher with {tuple(theirs.shape[1:])}",
            where=where,
            hint="both need the same classes, and the same form of output",
        )
