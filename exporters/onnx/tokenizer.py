"""A WordPiece tokenizer in front of an ONNX graph: one text in, its tokens as the plain tokenizer makes them.

The operators are onnxruntime-extensions' (domain ai.onnx.contrib). Its BertTokenizer strips and lowers Latin-1 only, so
every character goes through a table of what the plain normalizer makes of it first. Everything added is named
`tokenizer/...`, so that it can be taken off before quantising and put back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.exporter import Unsupported

from .front import PACKAGING, Parts, front_session, put_back
from .graph import ALIASES, opset_of
from .tokenizer_spec import MARK, WordPiece, read_wordpiece

if TYPE_CHECKING:
    import onnx

    from edgeft.stage import Context

PREFIX, TEXT = "tokenizer/", "text"
OUTPUTS = {"input_ids": "ids", "token_type_ids": "types", "attention_mask": "mask"}
"""Canonical feed -> the tokenizer node's output."""
LEAST_OPSET = 13
"""Pad and Unsqueeze take their numbers as inputs from here on."""


def embed(model: onnx.ModelProto, ctx: Context) -> dict[str, Any]:
    """Put the tokenizer in front, in place, where preprocessing says so, once it makes exactly the plain one's tokens
    of every calibration text. Facts: notes, tokenizer_texts. Raises Unsupported."""
    import pyarrow.parquet as pq

    about = json.loads((ctx.prepared / "preprocess.json").read_text(encoding="utf-8")) if ctx.prepared else {}
    if ctx.prepared is None or about.get("embed") != "string":
        return {}
    attach(model, read_wordpiece(ctx.prepared))
    rows = pq.read_table(ctx.splits["calibration"].path, columns=["text"])
    feeds = ctx.task.feeds(rows, ctx.prepared)
    if wrong := other_tokens(model, feeds):
        raise Unsupported(
            f"the tokenizer in the graph makes other tokens of {len(wrong)} of {rows.num_rows} calibration "
            f"texts, first: "
            f"{str(feeds[TEXT][wrong[0]])[:80]!r}"
        )
    return {"notes": [PACKAGING[PREFIX]], "tokenizer_texts": rows.num_rows}


def attach(model: onnx.ModelProto, tokenizer: WordPiece) -> None:
    """Put the tokenizer in front, in place: the inputs become one, `text`, a string tensor of one element.

    Raises Unsupported where the graph takes something that a text does not give.
    """
    from onnx import TensorProto, helper

    canonical = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    weights = {tensor.name for tensor in model.graph.initializer}
    taken = {item.name: item for item in model.graph.input if item.name not in weights}
    if other := sorted(name for name in taken if name not in canonical):
        raise Unsupported(f"the graph's input '{other[0]}' comes from no tokenizer")
    if opset_of(model) < LEAST_OPSET:
        raise Unsupported(f"a tokenizer in the graph needs opset {LEAST_OPSET}, this one has {opset_of(model)}")
    parts = Parts(PREFIX)
    _clean(parts, tokenizer)
    _tokenize(parts, tokenizer)
    for name, item in taken.items():
        _pad(parts, tokenizer, canonical[name], name, item.type.tensor_type.elem_type)
    put_back(model, parts.front(helper.make_tensor_value_info(TEXT, TensorProto.STRING, [1])))


def other_tokens(model: onnx.ModelProto, feeds: Mapping[str, Any]) -> list[int]:
    """Rows whose tokens in the graph are not exactly those of the plain tokenizer. feeds: canonical ones and `text`.

    Raises Unsupported without onnxruntime-extensions, whose operators are run here.
    """
    import numpy as np

    session, seams = front_session(model, PREFIX)
    canonical = {alias: name for name, aliases in ALIASES.items() for alias in aliases}
    wrong = []
    for row, text in enumerate(feeds[TEXT]):
        found = session.run(seams, {TEXT: np.array([text])})
        plain = [feeds[canonical[name]][row : row + 1] for name in seams]
        if not all(np.array_equal(ours, theirs) for ours, theirs in zip(found, plain, strict=True)):
            wrong.append(row)
    return wrong


def _clean(parts: Parts, tokenizer: WordPiece) -> None:
    """text -> `clean`: each character replaced by what the plain normalizer makes of it."""
    mark, empty = parts.constant("mark", MARK), parts.constant("empty", "")
    pattern, marked = parts.constant("each", "(?s)(.)"), parts.constant("marked", "\\1" + MARK)
    names = {name: PREFIX + name for name in ("apart", "at", "letters", "shape", "mapped", "row", "joined", "clean")}
    # Splitting by nothing would split bytes, so a mark is put behind every character first.
    parts.node("StringRegexReplace", [TEXT, pattern, marked], [names["apart"]], global_replace=1)
    split = [names["apart"], mark, parts.constant("skip_empty", True)]
    parts.node("StringSplit", split, [names["at"], names["letters"], names["shape"]])
    table = "\n".join(f"{letter}\t{clean or MARK}" for letter, clean in tokenizer.letters)
    parts.node("StringMapping", [names["letters"]], [names["mapped"]], map=table)
    parts.node("Unsqueeze", [names["mapped"], parts.constant("first", 0)], [names["row"]], domain="")
    parts.node("StringJoin", [names["row"], empty, parts.constant("second", 1)], [names["joined"]])
    parts.node("StringRegexReplace", [names["joined"], mark, empty], [names["clean"]], global_replace=1)


def _tokenize(parts: Parts, tokenizer: WordPiece) -> None:
    """`clean` -> ids, types and mask (n,), special tokens included, at most the length."""
    outputs = [PREFIX + name for name in ("ids", "types", "mask", "offsets")]
    parts.node(
        "BertTokenizer", [PREFIX + "clean"], outputs,
        vocab_file="\n".join(tokenizer.vocabulary), do_lower_case=0, strip_accents=0, do_basic_tokenize=1,
        tokenize_chinese_chars=int(tokenizer.chinese), suffix_indicator=tokenizer.prefix,
        unk_token=tokenizer.unknown, cls_token=tokenizer.first, sep_token=tokenizer.last, pad_token=tokenizer.pad,
        max_length=tokenizer.length, truncation_strategy_name="longest_first",
    )  # fmt: skip


def _pad(parts: Parts, tokenizer: WordPiece, feed: str, name: str, kind: int) -> None:
    """One of them, filled up to (1, length) as the graph's own input `name` of tensor type `kind`."""
    from onnx import TensorProto

    source = PREFIX + OUTPUTS[feed]
    at = f"{PREFIX}{OUTPUTS[feed]}_"
    value = tokenizer.pad_id if feed == "input_ids" else 0
    parts.node("Shape", [source], [f"{at}size"], domain="")
    length = parts.constant(f"{OUTPUTS[feed]}_length", tokenizer.length)
    parts.node("Sub", [length, f"{at}size"], [f"{at}missing"], domain="")
    none = parts.constant(f"{OUTPUTS[feed]}_none", 0)
    parts.node("Concat", [none, f"{at}missing"], [f"{at}pads"], axis=0, domain="")
    filler = parts.constant(f"{OUTPUTS[feed]}_filler", value)
    parts.node("Squeeze", [filler], [f"{at}value"], domain="")
    parts.node("Pad", [source, f"{at}pads", f"{at}value"], [f"{at}filled"], domain="")
    wide = name if kind == TensorProto.INT64 else f"{at}wide"
    parts.node("Unsqueeze", [f"{at}filled", none], [wide], domain="")
    if kind != TensorProto.INT64:
        parts.node("Cast", [wide], [name], to=kind, domain="")
