"""A model's tokenizer as one frozen file: cutting and padding to the serve length are part of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import RecipeError, StepError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

MAX_TOKENIZER_BYTES = 256 << 20
SLOW_FILES = ("vocab.txt", "vocab.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model", "merges.txt")
HINT = "name a folder that has tokenizer files: model.tokenizer"

WITH_SEGMENTS = frozenset(
    {"bert", "convbert", "deberta", "deberta-v2", "electra", "ernie", "megatron-bert", "mobilebert", "nezha"}
    | {"nomic_bert", "qdqbert", "squeezebert"}
)
"""Model types whose forward takes token_type_ids and whose tokenizer makes them."""
WITHOUT_SEGMENTS = frozenset(
    {"camembert", "data2vec-text", "distilbert", "esm", "gemma", "gemma2", "gemma3_text", "gpt2", "gpt_neo", "gpt_neox"}
    | {"ibert", "llama", "longformer", "luke", "mistral", "modernbert", "mpnet", "opt", "phi", "phi3", "qwen2", "qwen3"}
    | {"roberta", "roberta-prelayernorm", "xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Model types that take input_ids and attention_mask only (transformers 5 says otherwise of distilbert's tokenizer)."""
OFFSET_POSITIONS = frozenset(
    {"camembert", "data2vec-text", "esm", "ibert", "longformer", "luke", "mpnet", "roberta", "roberta-prelayernorm"}
    | {"xlm-roberta", "xlm-roberta-xl", "xmod"}
)
"""Model types that number positions from padding_idx + 1, so that many of max_position_embeddings are not usable."""


@dataclass(frozen=True)
class Padding:
    """id fills up to the length. substitute: the end-of-text token stands in, because there is no pad token."""

    token: str
    id: int
    side: str
    substitute: bool


def load_tokenizer(folder: Path) -> Tokenizer:
    """tokenizer.json of the folder, or its slow files converted by transformers; StepError with `model.tokenizer`."""
    file = folder / "tokenizer.json"
    if file.is_file():
        return read_tokenizer(file)
    if not any((folder / name).is_file() for name in SLOW_FILES):
        raise StepError("no tokenizer.json and no vocabulary file", where=str(folder), hint=HINT)
    return _converted(folder)


def read_tokenizer(file: Path) -> Tokenizer:
    """A tokenizer.json; StepError when it is too large or not one."""
    from tokenizers import Tokenizer

    if file.stat().st_size > MAX_TOKENIZER_BYTES:
        raise StepError(f"larger than {MAX_TOKENIZER_BYTES >> 20} MB", where=str(file), hint=HINT)
    try:
        return Tokenizer.from_file(str(file))
    except Exception as error:  # the Rust library raises bare Exception for anything it cannot read
        raise StepError(f"not a tokenizer: {str(error).splitlines()[0]}", where=str(file), hint=HINT) from error


def _converted(folder: Path) -> Tokenizer:
    from transformers import AutoTokenizer

    try:
        slow = AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, use_fast=True)
    except Exception as error:  # each tokenizer class fails in its own way
        what = f"the tokenizer cannot be loaded: {(str(error).splitlines() or [type(error).__name__])[0]}"
        raise StepError(what, where=str(folder), hint=HINT) from error
    if not getattr(slow, "is_fast", False):
        what = f"{type(slow).__name__} has no form that the Rust tokenizers library can run"
        raise StepError(what, where=str(folder), hint="give a model.tokenizer folder that has a tokenizer.json")
    backend: Tokenizer = slow.backend_tokenizer
    return backend


def find_padding(tokenizer: Tokenizer, folder: Path) -> Padding:
    """The pad token that tokenizer_config.json, special_tokens_map.json, tokenizer.json or config.json names.

    Without one the end-of-text token is taken: the attention mask hides it. StepError when there is neither.
    """
    own, config = token_config(folder), read_json(folder / "config.json")
    side = "left" if own.get("padding_side") == "left" else "right"
    stated = tokenizer.padding or {}
    named = [
        token_text(own.get("pad_token")),
        stated.get("pad_token"),
        _token_of(tokenizer, config.get("pad_token_id")),
    ]
    for token in named:
        if token and (place := tokenizer.token_to_id(token)) is not None:
            return Padding(token, place, side, substitute=False)
    ends = [token_text(own.get("eos_token")), _token_of(tokenizer, config.get("eos_token_id"))]
    for token in ends:
        if token and (place := tokenizer.token_to_id(token)) is not None:
            return Padding(token, place, side, substitute=True)
    raise StepError("the tokenizer has neither a pad token nor an end-of-text token", where=str(folder), hint=HINT)


def freeze(tokenizer: Tokenizer, length: int, padding: Padding, folder: Path, *, cut: str | None = None) -> None:
    """Set cutting and padding to `length` tokens; RecipeError when model or special tokens do not allow it.

    cut: the side on which long texts are cut; None: as the tokenizer's config says, else right.
    """
    special = tokenizer.num_special_tokens_to_add(is_pair=False)
    if length <= special:
        what = f"{length} tokens leave no room for text: {special} are special"
        raise RecipeError(what, where="serve.length", hint=f"at least {special + 1}")
    longest = longest_input(read_json(folder / "config.json"))
    if longest is not None and length > longest:
        what = f"{length} tokens, the model takes at most {longest}"
        raise RecipeError(what, where="serve.length", hint=f"serve: {{length: {longest}}}, or a model for longer texts")
    cut = cut or ("left" if token_config(folder).get("truncation_side") == "left" else "right")
    tokenizer.enable_truncation(max_length=length, direction=cut)
    tokenizer.enable_padding(direction=padding.side, pad_id=padding.id, pad_token=padding.token, length=length)


def longest_input(config: Mapping[str, Any]) -> int | None:
    """Most tokens a model of this config takes; None when its positions are not a table of fixed length."""
    positions = config.get("max_position_embeddings")
    if not isinstance(positions, int) or positions <= 0:
        return None
    if config.get("model_type") in OFFSET_POSITIONS:
        pad = config.get("pad_token_id")
        return positions - (pad if isinstance(pad, int) else 1) - 1
    return positions


def input_names(folder: Path) -> tuple[str, ...]:
    """Canonical feeds that the model takes: by its model type, else by its tokenizer's own list."""
    kind = read_json(folder / "config.json").get("model_type")
    if kind in WITHOUT_SEGMENTS:
        return ("input_ids", "attention_mask")
    if kind in WITH_SEGMENTS:
        return ("input_ids", "attention_mask", "token_type_ids")
    names = token_config(folder).get("model_input_names") or _class_input_names(folder)
    known = tuple(name for name in ("input_ids", "attention_mask", "token_type_ids") if name in names)
    return known if "input_ids" in known else ("input_ids", "attention_mask")


def _class_input_names(folder: Path) -> list[str]:
    """model_input_names of the tokenizer class that the folder names; nothing in the folder is run."""
    import transformers

    name = str(token_config(folder).get("tokenizer_class") or "")
    for candidate in (name, name.removesuffix("Fast")):
        found = getattr(transformers, candidate, None) if candidate.isidentifier() else None
        if isinstance(found, type) and hasattr(found, "model_input_names"):
            return list(found.model_input_names)
    return []


def token_config(folder: Path) -> dict[str, Any]:
    """special_tokens_map.json overlaid by tokenizer_config.json; {} for what is missing."""
    return {**read_json(folder / "special_tokens_map.json"), **read_json(folder / "tokenizer_config.json")}


def token_text(value: Any) -> str | None:
    """A token as the configs spell it: text, or an object with `content`."""
    text = value.get("content") if isinstance(value, dict) else value
    return text if isinstance(text, str) else None


def _token_of(tokenizer: Tokenizer, place: Any) -> str | None:
    if isinstance(place, list) and place:
        place = place[0]
    if not isinstance(place, int) or isinstance(place, bool) or place < 0:
        return None
    token: str | None = tokenizer.id_to_token(place)
    return token


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; {} when the file is missing, StepError when it is no object."""
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StepError(f"not readable as JSON: {error}", where=str(path)) from error
    if not isinstance(value, dict):
        raise StepError("a JSON object is expected", where=str(path))
    return value
