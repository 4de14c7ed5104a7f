"""What a frozen WordPiece tokenizer does, read from its tokenizer.json; any other tokenizer is refused by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeft.exporter import Unsupported

MARK = "\x1f"
"""The unit separator: a control character, which the normalizer of every tokenizer taken here removes from a text."""
LAST_PLANE = 0x20000
"""Code points above are ideographs, which stay as they are, and private use."""
LONGEST_WORD = 100


@dataclass(frozen=True)
class WordPiece:
    """letters: (character, what the normalizer makes of it) where that is another; sorted. vocabulary: by token id."""

    vocabulary: tuple[str, ...]
    letters: tuple[tuple[str, str], ...]
    length: int
    chinese: bool
    prefix: str
    unknown: str
    first: str
    last: str
    pad: str
    pad_id: int


def read_wordpiece(prepared: Path) -> WordPiece:
    """The tokenizer that `prepare` froze. Unsupported, with what it is, where the graph could not do the same."""
    about = json.loads((prepared / "preprocess.json").read_text(encoding="utf-8"))
    stated = json.loads((prepared / "tokenizer.json").read_text(encoding="utf-8"))
    model, normalizer = stated.get("model") or {}, stated.get("normalizer") or {}
    kinds = [part.get("type", "none") for part in (model, normalizer, stated.get("pre_tokenizer") or {})]
    if kinds != ["WordPiece", "BertNormalizer", "BertPreTokenizer"]:
        raise _refuse(f"this one is {kinds[0]} after {kinds[1]} and {kinds[2]}")
    if not normalizer.get("clean_text", True):
        raise _refuse("this one leaves control characters in the text")
    if int(model.get("max_input_chars_per_word", LONGEST_WORD)) != LONGEST_WORD:
        raise _refuse(f"this one cuts words at {model['max_input_chars_per_word']} characters, not {LONGEST_WORD}")
    for part, side in ((stated.get("truncation") or {}, "truncation"), (stated.get("padding") or {}, "padding")):
        if part.get("direction") != "Right":
            raise _refuse(f"the {side} of this one is on the left")
    vocabulary = tuple(sorted(model["vocab"], key=model["vocab"].__getitem__))
    if [model["vocab"][word] for word in vocabulary] != list(range(len(vocabulary))):
        raise _refuse("the token ids of this one have gaps")
    if extra := [item["content"] for item in stated.get("added_tokens") or () if item["content"] not in model["vocab"]]:
        raise _refuse(f"'{extra[0]}' of this one was added outside the vocabulary")
    first, last = _frame(stated.get("post_processor") or {})
    return WordPiece(
        vocabulary=vocabulary,
        letters=_letters(prepared / "tokenizer.json"),
        length=int(about["length"]),
        chinese=bool(normalizer.get("handle_chinese_chars", True)),
        prefix=str(model.get("continuing_subword_prefix", "##")),
        unknown=str(model["unk_token"]),
        first=first,
        last=last,
        pad=str(about["pad_token"]),
        pad_id=int(about["pad_id"]),
    )


def _refuse(why: str) -> Unsupported:
    return Unsupported(f"the graph can hold BERT's WordPiece tokenizer only: {why}; serve: embed_preprocessing: none")


def _frame(processor: Mapping[str, Any]) -> tuple[str, str]:
    """The special tokens before and after a single text."""
    if processor.get("type") == "BertProcessing":
        return str(processor["cls"][0]), str(processor["sep"][0])
    parts: list[Any] = list(processor.get("single") or ())
    names = [part["SpecialToken"]["id"] for part in parts if "SpecialToken" in part]
    if (
        processor.get("type") != "TemplateProcessing"
        or len(parts) != 3
        or len(names) != 2
        or "Sequence" not in parts[1]
    ):
        raise _refuse("this one does not put one special token before the text and one after it")
    return str(names[0]), str(names[1])


def _letters(file: Path) -> tuple[tuple[str, str], ...]:
    """By asking the normalizer itself, a character at a time: it looks at no neighbours."""
    from tokenizers import Tokenizer

    normalizer = Tokenizer.from_file(str(file)).normalizer
    found = []
    for code in range(1, LAST_PLANE):
        letter = chr(code)
        if 0xD800 <= code < 0xE000 or letter in "\t\n\r":  # surrogates; white space that the operator knows
            continue
        clean = normalizer.normalize_str(letter)
        if clean != letter and clean.strip() != letter:  # an ideograph only gets spaces, which the operator adds
            found.append((letter, clean))
    return tuple(found)
