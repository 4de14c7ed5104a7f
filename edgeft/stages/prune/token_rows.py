"""Where a model keeps a row per token, and which tokens its tokenizer cannot do without."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgeft.stages.prune.base import refuse

if TYPE_CHECKING:
    import torch

    from edgeft.stage import Context


@dataclass(frozen=True)
class TokenRows:
    """name: of the embedding that reads input_ids. head: name of the layer that answers tokens, None for an encoder.
    size: ids there are; kept: those that have rows of their own; rows: of the table; width: of a row; tables: of as
    many values each (2 where the head has its own)."""

    name: str
    head: str | None
    size: int
    kept: frozenset[int]
    rows: int
    width: int
    tables: int
    padding: int | None

    def megabytes(self, rows: int) -> float:
        """Of so many rows in float32."""
        return 4e-6 * rows * self.width * self.tables


def token_rows(module: torch.nn.Module, ctx: Context) -> TokenRows:
    """The embedding, and the head of a language model. Raises StepError for what rows cannot be taken from."""
    inside: Any = module
    table = _embedding(inside, ctx)
    whole = not hasattr(table, "kept")
    size = int(table.num_embeddings if whole else table.of)
    output = inside.get_output_embeddings() if hasattr(inside, "get_output_embeddings") else None
    names = {child: name for name, child in inside.named_modules()}
    found = TokenRows(
        name=names[table],
        head=None if output is None else names[output],
        size=size,
        kept=frozenset(range(size) if whole else table.kept),
        rows=int(table.num_embeddings),
        width=int(table.embedding_dim),
        tables=1 if output is None or output.weight is table.weight else 2,
        padding=table.padding_idx if whole else None,
    )
    if output is not None:
        _check_head(inside, output, found, ctx)
    return found


def _embedding(module: Any, ctx: Context) -> Any:
    import torch

    from edgeft.models.vocabulary import KeptEmbedding

    table = module.get_input_embeddings() if hasattr(module, "get_input_embeddings") else None
    if table is None:
        tables = [child for child in module.modules() if isinstance(child, torch.nn.Embedding)]
        table = max(tables, key=lambda item: item.num_embeddings, default=None)
    if not isinstance(table, torch.nn.Embedding):
        raise refuse("this model has no token embedding", ctx, "remove this step")
    if type(table) not in (torch.nn.Embedding, KeptEmbedding):
        what = f"this model's token embedding is a {type(table).__name__}, which does more than look rows up"
        raise refuse(what, ctx, "remove this step; prune: {method: depth} or structured cuts elsewhere")
    return table


def _check_head(module: Any, head: Any, rows: TokenRows, ctx: Context) -> None:
    """StepError for a head that is no linear layer of a row per token, or whose bias another module holds as well."""
    import torch

    from edgeft.models.vocabulary import KeptHead

    hint = "remove this step; prune: {method: depth} or structured cuts elsewhere"
    if type(head) not in (torch.nn.Linear, KeptHead):
        what = f"this model answers tokens by a {type(head).__name__}; rows can be taken from a linear layer alone"
        raise refuse(what, ctx, hint)
    answers = int(head.of if isinstance(head, KeptHead) else head.out_features)
    if answers != rows.size:
        what = f"this model reads {rows.size} tokens and answers {answers}: they are not the same vocabulary"
        raise refuse(what, ctx, hint)
    shared = [
        name
        for name, child in module.named_modules()
        if child is not head and any(held is head.bias for held in child._parameters.values() if held is not None)
    ]
    if shared:
        raise refuse(f"the bias of this model's head is also that of '{shared[0] or 'the model'}'", ctx, hint)


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


def needed_ids(tokenizer: Any) -> set[int]:
    """Where no unknown token stands for the dropped ones: every added token (a chat's turns are some), and the tokens
    of single bytes, from which any text can be spelt."""
    from tokenizers.pre_tokenizers import ByteLevel

    names = [*ByteLevel.alphabet(), *(f"<0x{byte:02X}>" for byte in range(256))]
    if not _spells_bytes(tokenizer):
        names = []
    spelt = {id_ for name in names if (id_ := tokenizer.token_to_id(name)) is not None}
    return spelt | {int(id_) for id_ in tokenizer.get_added_tokens_decoder()}


def _spells_bytes(tokenizer: Any) -> bool:
    """A byte-level tokenizer, or one that falls back to bytes."""
    import json

    stated = json.loads(tokenizer.to_str())
    return '"ByteLevel"' in json.dumps([stated["pre_tokenizer"], stated["decoder"]]) or bool(
        stated["model"].get("byte_fallback")
    )


def unknown_id(tokenizer: Any) -> int | None:
    """Id of the unknown token; None for byte-level vocabularies, which have none."""
    import json

    model = json.loads(tokenizer.to_str())["model"]
    token = model.get("unk_token")
    if token is None and isinstance(model.get("unk_id"), int):
        return int(model["unk_id"])
    place = tokenizer.token_to_id(token) if isinstance(token, str) else None
    if place is None:
        place = next((id_ for name in ("<unk>", "[UNK]") if (id_ := tokenizer.token_to_id(name)) is not None), None)
    return None if place is None else int(place)
