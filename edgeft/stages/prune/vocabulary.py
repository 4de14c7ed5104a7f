"""Vocabulary pruning: rows of the token embedding that the data never asks for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.models.surgery import Vocabulary, operate, spans
from edgeft.record import WidthRow
from edgeft.stage import Context
from edgeft.stages.prune.base import Cut, Prune, refuse
from edgeft.task import SelfSupervisedTask

if TYPE_CHECKING:
    import torch

    from edgeft.stages.prune.subject import Subject
    from edgeft.task import Task


class PruneVocabulary(Prune):
    """Drop the embedding rows of tokens that the training rows never use.

    The tokenizer stays as it is; a map in front of the table sends dropped ids to the unknown token's row. Why not a
    rewritten tokenizer: docs/decisions/0013-vocabulary.md.
    """

    gathers: ClassVar[tuple[str, ...]] = ("train",)

    method: Literal["vocabulary"] = Field("vocabulary", description="Drops token embeddings the data never uses.")
    min_count: int = Field(1, ge=1, description="Keep tokens that occur at least so often in the train split.")
    keep_first: int = Field(
        0, ge=0, description="Also keep the first so many ids: most vocabularies are sorted by frequency."
    )
    keep_tokens: tuple[str, ...] = Field((), description="Also keep these tokens, spelled as in the vocabulary.")

    def refusal(self, task: Task, gpus: Sequence[str]) -> tuple[str, str, str] | None:
        """A task that predicts tokens: what it could no longer say would be counted as never said."""
        if isinstance(task, SelfSupervisedTask):
            what = f"{task.name} predicts tokens: those that were dropped could never be the next one"
            return "method", what, "method: depth; vocabulary pruning takes encoders"
        return super().refusal(task, gpus)

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Drop rows; notes say how many validation rows hold a token that is unknown from now on."""
        import numpy as np

        from edgeft.stages.prune.subject import read_feeds

        name, table = token_table(subject.module, ctx)
        size = int(getattr(table, "of", table.num_embeddings))
        tokenizer = read_tokenizer(ctx)
        feeds, _ = read_feeds(ctx, "train")
        counts = np.bincount(feeds["input_ids"].ravel(), minlength=size)
        kept = set(np.flatnonzero(counts >= self.min_count).tolist()) | set(range(min(self.keep_first, size)))
        unknown = unknown_id(tokenizer, ctx)
        kept |= self._declared(tokenizer, ctx) | special_ids(tokenizer) | {unknown}
        if table.padding_idx is not None and not hasattr(table, "kept"):
            kept.add(int(table.padding_idx))
        kept = {id_ for id_ in kept if id_ < size} & set(getattr(table, "kept", range(size)))
        before = int(table.num_embeddings)
        basis = f"tokens seen at least {self.min_count} times in the train split"
        if len(kept) == before:
            ctx.warn("every row of the token embedding is in use: nothing was dropped")
            return Cut(basis, notes=["every row is in use"])
        operate(subject.module, [Vocabulary(module=name, of=size, keep=spans(kept), unknown=unknown)])
        rows = WidthRow(part=name, kind="rows", before=before, after=len(kept))
        return Cut(basis, [rows], [self._affected(subject, kept)])

    def _affected(self, subject: Subject, kept: set[int]) -> str:
        """In words: validation rows that hold a token which reads as unknown from now on."""
        import numpy as np

        ids = subject.feeds["input_ids"]
        used = np.asarray(subject.feeds.get("attention_mask", np.ones_like(ids))) != 0
        lost = used & ~np.isin(ids, sorted(kept))
        return (
            f"{int(lost.any(axis=1).sum())} of {len(ids)} validation rows hold a dropped token; "
            f"{int(lost.sum())} of {int(used.sum())} tokens now read as unknown"
        )

    def _declared(self, tokenizer: Any, ctx: Context) -> set[int]:
        from difflib import get_close_matches

        found = set()
        for token in self.keep_tokens:
            place = tokenizer.token_to_id(token)
            if place is None:
                near = get_close_matches(token, tokenizer.get_vocab(), n=1)
                raise refuse(f"keep_tokens: '{token}' is not in the vocabulary", ctx,
                             f"did you mean '{near[0]}'?" if near else "spell it as tokenizer.json does")  # fmt: skip
            found.add(int(place))
        return found


def token_table(module: torch.nn.Module, ctx: Context) -> tuple[str, Any]:
    """(name, embedding) that reads input_ids. Raises StepError for models that tie it to their output."""
    import torch

    inside: Any = module
    table = inside.get_input_embeddings() if hasattr(inside, "get_input_embeddings") else None
    if table is None:
        tables = [child for child in module.modules() if isinstance(child, torch.nn.Embedding)]
        table = max(tables, key=lambda item: item.num_embeddings, default=None)
    if not isinstance(table, torch.nn.Embedding):
        raise refuse("this model has no token embedding", ctx, "remove this step")
    output = inside.get_output_embeddings() if hasattr(inside, "get_output_embeddings") else None
    if output is not None:
        raise refuse("this model also predicts tokens: its output ids would no longer be the tokenizer's", ctx,
                     "vocabulary pruning takes encoders")  # fmt: skip
    return next(name for name, child in module.named_modules() if child is table), table


def read_tokenizer(ctx: Context) -> Any:
    """The frozen tokenizer. Raises StepError for a task without one."""
    from tokenizers import Tokenizer

    path = ctx.prepared / "tokenizer.json" if ctx.prepared else None
    if path is None or not path.is_file():
        raise refuse("vocabulary pruning takes text models: there is no tokenizer here", ctx, "remove this step")
    return Tokenizer.from_file(str(path))


def special_ids(tokenizer: Any) -> set[int]:
    """Ids of the special tokens: they are in no text and in every row."""
    return {int(id_) for id_, token in tokenizer.get_added_tokens_decoder().items() if token.special}


def unknown_id(tokenizer: Any, ctx: Context) -> int:
    """Id of the unknown token. Raises StepError for byte-level vocabularies, which have none."""
    import json

    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    if token is None and isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    place = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if place is None:
        place = next((id_ for name in ("<unk>", "[UNK]") if (id_ := tokenizer.token_to_id(name)) is not None), None)
    if place is None:
        raise refuse("this tokenizer has no unknown token that dropped ones could read as", ctx, "remove this step")
    return int(place)
