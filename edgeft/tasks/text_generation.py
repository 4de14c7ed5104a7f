"""Causal language models: a text in, at each of its tokens how likely every next token is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError
from edgeft.task import NO_THRESHOLDS, TOKEN_ANSWERS, UNSCORED, Arrays, Score
from edgeft.tasks import tokenizer as tokens
from edgeft.tasks.prefix import Prefix
from edgeft.tasks.texts import TextTask

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray
    from tokenizers import Tokenizer

    from edgeft.tasks.tokenizer import Padding

    Floats = NDArray[np.floating[Any]]

LEAST_TOKENS = 2
NEW_TOKENS = 16
TOP = 5
SHOWN = 5
LARGEST_EXPONENT = 700.0
"""Above, exp overflows; no model is so wrong that its perplexity would mean anything there."""


class TextGeneration(TextTask):
    """Scored by the next token: every token of a text but the first is to be predicted from those before it.

    Texts are padded on the right and cut on the left, so that positions count from the first token and the last words
    are there. A case's token_accuracy is the share of its next tokens that are the likeliest, its nll the mean negative
    log-likelihood of them in nats; a case counts as right where its last token is. Every case counts alike, however
    long it is; perplexity is told over all tokens alike.
    """

    name = "text-generation"
    inputs = ("input_ids", "attention_mask")
    cut = "left"
    metrics: tuple[str, ...] = ("token_accuracy", "nll")
    gated: tuple[str, ...] = ()
    families: tuple[str, ...] = ()
    headline = "token_accuracy"

    def padding(self, tokenizer: Tokenizer, model: Path) -> Padding:
        """On the right, whatever side generation in batches would want."""
        return replace(super().padding(tokenizer, model), side="right")

    def check_counts(self, counts: Mapping[str, Sequence[int]], splits: Mapping[str, Path]) -> None:
        """A text of one token has no next one."""
        short = {split: [row for row, n in enumerate(found) if n < LEAST_TOKENS] for split, found in counts.items()}
        if not any(short.values()):
            return
        split = next(name for name, rows in short.items() if rows)
        ids = _row_ids(splits[split], short[split][:SHOWN])
        total = sum(map(len, short.values()))
        what = (
            f"{total} texts have fewer than {LEAST_TOKENS} tokens, so no next token: in {split} rows {', '.join(ids)}"
        )
        raise StepError(what, where="data.text", hint="remove them, or join them to the texts they belong to")

    def stated(self, tokenizer: Tokenizer, model: Path) -> Mapping[str, Any]:
        """vocabulary: how many ids there are. StepError where the model's table has fewer."""
        size = tokenizer.get_vocab_size(with_added_tokens=True)
        table = tokens.read_json(model / "config.json").get("vocab_size")
        if isinstance(table, int) and table < size:
            what = f"the tokenizer has {size} tokens, the model's vocabulary {table}"
            raise StepError(what, where=str(model), hint="give the tokenizer that the model was trained with")
        return {"vocabulary": table if isinstance(table, int) else size}

    def truth(self, feeds: Arrays) -> NDArray[np.int64]:
        """(n, length): the token after each one; UNSCORED at the last one of a text and in padding."""
        import numpy as np

        ids, real = np.asarray(feeds["input_ids"]), np.asarray(feeds["attention_mask"]) != 0
        found = np.full(ids.shape, UNSCORED, np.int64)
        both = real[:, 1:] & real[:, :-1]
        found[:, :-1][both] = ids[:, 1:][both]
        return found

    def reduce(self, outputs: Arrays, feeds: Arrays) -> Arrays:
        """TOKEN_ANSWERS of `logits` (n, length, vocabulary). StepError for other shapes or what is not finite."""
        import numpy as np

        truth = self.truth(feeds)
        logits = checked(outputs, truth.shape)
        logprobs, likeliest = np.zeros(truth.shape, np.float32), np.zeros(truth.shape, np.int32)
        for case, wanted in enumerate(truth):  # one at a time: a float copy of all would double the memory
            places = np.flatnonzero(wanted != UNSCORED)
            likeliest[case] = logits[case].argmax(axis=1)
            logprobs[case, places] = log_softmax(logits[case, places])[np.arange(len(places)), wanted[places]]
        return dict(zip(TOKEN_ANSWERS, (logprobs, likeliest, truth.astype(np.int32)), strict=True))

    def keep(self, outputs: Arrays) -> Arrays:
        """What `reduce` made, as it is. StepError for logits alone: their truth is in the feeds."""
        if set(outputs) != set(TOKEN_ANSWERS):
            raise StepError(f"{self.name}: logits are kept beside their feeds only", hint="please report this")
        return outputs

    def score(self, outputs: Arrays, rows: pa.Table, labels: Sequence[str]) -> Score:
        """token_accuracy and nll, means over cases, and perplexity, exp of the mean nll over tokens."""
        import numpy as np

        logprobs, likeliest, truth = (np.asarray(self.keep(outputs)[name]) for name in TOKEN_ANSWERS)
        if len(truth) != rows.num_rows or not rows.num_rows:
            raise StepError(f"{len(truth)} outputs for {rows.num_rows} rows")
        scored = truth >= 0
        counts = scored.sum(axis=1)
        if not counts.all():
            raise StepError(f"{int((counts == 0).sum())} cases have no token to score")
        if not np.isfinite(logprobs[scored]).all():
            raise StepError("a log-probability is NaN or infinite")
        hits = (likeliest == truth) & scored
        losses = -np.where(scored, logprobs, 0).astype(np.float64)
        cases = {"token_accuracy": hits.sum(axis=1) / counts, "nll": losses.sum(axis=1) / counts}
        last = scored.shape[1] - 1 - scored[:, ::-1].argmax(axis=1)
        every = np.arange(len(truth))
        return Score(
            metrics={
                **{name: float(values.mean()) for name, values in cases.items()},
                "perplexity": float(np.exp(min(losses.sum() / counts.sum(), LARGEST_EXPONENT))),
            },
            correct=hits[every, last],
            predictions=likeliest[every, last].astype(np.int64),
            confusion=np.zeros((0, 0), np.int64),
            cases=cases,
        )

    def decision(self) -> Mapping[str, Any]:
        """Softmax over the vocabulary at the last token, then the highest."""
        rule = "argmax over axis 2 at the last token that the mask has: the id of the next token"
        return {"output": "logits", "activation": "softmax", "axis": 2, "rule": rule}

    def continue_text(self, ask: Callable[[Arrays], Arrays], text: str, prepared: Path) -> dict[str, Any]:
        """continuation: the likeliest NEW_TOKENS tokens, each after those before it, up to a special one; next: the
        TOP likeliest first tokens, with their probability. Each token costs one whole call: nothing is cached."""
        import numpy as np

        prefix = Prefix.read(text, prepared)
        top: list[dict[str, Any]] = []
        new: list[int] = []
        while len(new) < NEW_TOKENS:
            feeds = prefix.feeds(new)
            last = int(feeds["attention_mask"].sum()) - 1
            logprobs = log_softmax(checked(ask(feeds), feeds["input_ids"].shape)[:, last])[0]
            order = np.argsort(-logprobs, kind="stable")[:TOP]
            if not top:
                chances = zip(order.tolist(), np.exp(logprobs[order]).tolist(), strict=True)
                top = [{"token": prefix.spell([id_]), "id": id_, "probability": chance} for id_, chance in chances]
            if prefix.ends(int(order[0])):
                break
            new.append(int(order[0]))
        return {"continuation": prefix.spell(new), "next": top}

    def answer(
        self, outputs: Arrays, labels: Sequence[str], thresholds: Mapping[str, float] = NO_THRESHOLDS
    ) -> list[dict[str, Any]]:
        """StepError: which token is the last one is known from the feeds; `edgeft run` asks for continuations."""
        raise StepError(f"{self.name} answers beside its feeds only", hint="please report this")


def checked(outputs: Arrays, shape: tuple[int, ...]) -> Floats:
    """`logits` (n, length, vocabulary) of feeds of that shape; StepError for others or a value that is not finite."""
    import numpy as np

    if "logits" not in outputs:
        raise StepError(f"the outputs have no `logits`, only {', '.join(sorted(outputs)) or 'nothing'}")
    logits: Floats = np.asarray(outputs["logits"])
    if logits.ndim != 3 or logits.shape[:2] != shape:
        what = f"logits have shape {tuple(logits.shape)}, ({shape[0]}, {shape[1]}, vocabulary) is expected"
        raise StepError(what, hint="does the model answer at every token of the text?")
    broken = [case for case, rows in enumerate(logits) if not np.isfinite(rows).all()]
    if broken:
        raise StepError(f"logits of {len(broken)} of {len(logits)} cases are NaN or infinite")
    return logits


def log_softmax(logits: Floats) -> NDArray[np.float64]:
    """(positions, vocabulary) log-probabilities in float64."""
    import numpy as np

    wide = logits.astype(np.float64)
    wide -= wide.max(axis=1, keepdims=True)
    return np.asarray(wide - np.log(np.exp(wide).sum(axis=1, keepdims=True)), dtype=np.float64)


def _row_ids(path: Path, places: Sequence[int]) -> list[str]:
    from pyarrow import parquet

    ids = parquet.read_table(path, columns=["id"]).column("id")
    return [str(ids[place].as_py()) for place in places]
