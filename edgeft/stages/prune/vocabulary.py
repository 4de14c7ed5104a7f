"""Vocabulary pruning: rows of the token embedding, and of a language model's head, that the data never asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from edgeft.artifact import Artifact
from edgeft.canonical import Facts
from edgeft.models.surgery import Answers, AnyEdit, Vocabulary, operate, spans
from edgeft.record import WidthRow
from edgeft.stage import Context
from edgeft.stages.prune.base import Cut, Prune, refuse
from edgeft.stages.prune.token_rows import needed_ids, read_tokenizer, special_ids, token_rows, unknown_id

if TYPE_CHECKING:
    from edgeft.stages.prune.others import Others
    from edgeft.stages.prune.subject import Subject
    from edgeft.stages.prune.token_rows import TokenRows


class PruneVocabulary(Prune):
    """Drop the embedding rows of tokens that the training rows never use, and those of a language model's head.

    The tokenizer stays as it is; a map in front of the table sends dropped ids to the unknown token's row, and without
    one, as in language models, to a row of their own. Why not a rewritten tokenizer: docs/decisions/0013-vocabulary.md.
    """

    gathers: ClassVar[tuple[str, ...]] = ("train",)

    method: Literal["vocabulary"] = Field("vocabulary", description="Drops token embeddings the data never uses.")
    min_count: int = Field(1, ge=1, description="Keep tokens that occur at least so often in the train split.")
    keep_first: int = Field(
        0, ge=0, description="Also keep the first so many ids: most vocabularies are sorted by frequency."
    )
    keep_tokens: tuple[str, ...] = Field((), description="Also keep these tokens, spelled as in the vocabulary.")

    def foresee(self, model: Artifact, ctx: Context) -> Facts:
        """The rows there are; a table or a head that cannot lose any is told of before anything trains."""
        from edgeft.models.load import load_model

        options: dict[str, Any] = {"labels": ctx.labels, "task": ctx.task.name, "quantise": None, "seed": ctx.seed}
        rows = token_rows(load_model(model, **options, new_head=True), ctx)
        return {"table": rows.name, "head": rows.head, "rows": rows.rows, "megabytes": rows.megabytes(rows.rows)}

    def cut(self, subject: Subject, number: int, ctx: Context) -> Cut:
        """Drop rows; notes say how many validation tokens and rows that touches."""
        rows, tokenizer = token_rows(subject.module, ctx), read_tokenizer(ctx)
        unknown = unknown_id(tokenizer) if rows.head is None else None
        kept = self._kept(rows, tokenizer, unknown, ctx)
        basis = f"tokens seen at least {self.min_count} times in the train split"
        if len(kept) == len(rows.kept):
            ctx.warn("every row of the token embedding is in use: nothing was dropped")
            return Cut(basis, notes=["every row is in use"])
        left = len(kept) + (unknown is None)
        saved = (
            f"{len(kept):,} of {rows.size:,} tokens kept: {rows.megabytes(rows.rows - left):,.1f} MB of float32 less"
        )
        others = self._operate(subject, rows, kept, unknown, saved, ctx)
        notes = [_affected(subject, kept, rows, unknown is None)]
        if others is not None:
            notes = [saved, *notes, others.told]
        names = [rows.name, *([rows.head] if rows.head and rows.tables == 2 else [])]
        return Cut(basis, [WidthRow(part=name, kind="rows", before=rows.rows, after=left) for name in names], notes)

    def _kept(self, rows: TokenRows, tokenizer: Any, unknown: int | None, ctx: Context) -> set[int]:
        """Ids that keep their rows. Raises StepError without a train split, and for names that are no tokens."""
        import numpy as np

        from edgeft.stages.prune.subject import read_feeds

        feeds, _ = read_feeds(ctx, "train")
        counts = np.bincount(feeds["input_ids"].ravel(), minlength=rows.size)
        kept = set(np.flatnonzero(counts >= self.min_count).tolist()) | set(range(min(self.keep_first, rows.size)))
        kept |= self._declared(tokenizer, ctx) | special_ids(tokenizer)
        kept |= needed_ids(tokenizer) if unknown is None else {unknown}
        if rows.padding is not None:
            kept.add(int(rows.padding))
        return kept & rows.kept

    def _operate(
        self, subject: Subject, rows: TokenRows, kept: set[int], unknown: int | None, note: str, ctx: Context
    ) -> Others | None:
        """Cut the module; for a language model also say what stands for the dropped tokens. note: for the terminal."""
        edits: list[AnyEdit] = [Vocabulary(module=rows.name, of=rows.size, keep=spans(kept), unknown=unknown)]
        if rows.head is None:
            operate(subject.module, edits)
            return None
        from edgeft.stages.prune.others import find_others, write_row

        others = find_others(subject, rows.head, kept, note, ctx)
        edits.append(Answers(module=rows.head, of=rows.size, keep=spans(kept), shift=others.shift))
        names = (rows.name, rows.head)
        old = [subject.module.get_submodule(name) for name in names]
        operate(subject.module, edits)
        for name, layer in zip(names, old, strict=True):
            write_row(subject.module.get_submodule(name), layer, others.shares)
        return others

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


def _affected(subject: Subject, kept: set[int], rows: TokenRows, share: bool) -> str:
    """In words: validation rows that hold a dropped token. share: it reads as a row of all dropped ones."""
    import numpy as np

    ids = subject.feeds["input_ids"]
    used = np.asarray(subject.feeds.get("attention_mask", np.ones_like(ids))) != 0
    lost = used & ~np.isin(ids, sorted(kept))
    texts, gone, total = int(lost.any(axis=1).sum()), int(lost.sum()), int(used.sum())
    if rows.head is not None:
        return (
            f"{gone / max(1, total):.2%} of the validation tokens ({gone:,} of {total:,}, in {texts:,} of {len(ids):,} "
            "texts) are dropped ones: they read as one token, and are never the likeliest"
        )
    read = "one token, the mean of those dropped" if share else "unknown"
    return f"{texts} of {len(ids)} validation rows hold a dropped token; {gone} of {total} tokens now read as {read}"
