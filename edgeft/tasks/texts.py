"""What tasks on texts have in common: feeds by one frozen tokenizer.json, the same in training and on the device."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.canonical import Facts, canonical_json
from edgeft.errors import StepError
from edgeft.task import TEXT_INPUTS, Arrays
from edgeft.tasks import tokenizer as tokens

if TYPE_CHECKING:
    import pyarrow as pa
    from tokenizers import Tokenizer

    from edgeft.tasks.tokenizer import Padding

PREPROCESS = "preprocess.json"
VERSION = 1
CHUNK = 1024
STRING = "string"
UNSAFE_KEYS = frozenset({"auto_map", "name_or_path", "tokenizer_file", "special_tokens_map_file", "local_files_only"})
"""Left out of the tokenizer_config.json that ships: pointers to code and to files of another machine."""


class TextTask:
    """Feeds by the Rust tokenizers library from one frozen tokenizer.json."""

    columns: tuple[str, ...] = ("text",)
    inputs: tuple[str, ...] = TEXT_INPUTS
    """Feeds that models of the task may take."""
    cut: str | None = None
    """The side on which long texts are cut; None: as the tokenizer says."""

    def prepare(
        self, model: Path, splits: Mapping[str, Path], labels: Sequence[str], serve: Mapping[str, Any], out: Path
    ) -> Facts:
        """Write preprocess.json, tokenizer.json and what else of the tokenizer `model` (a folder) has.

        Facts: truncated and tokens (p50, p95, p99, max, before cutting) per split, length, inputs, pad, warnings.
        """
        tokenizer = tokens.load_tokenizer(model)
        tokenizer.no_truncation()
        tokenizer.no_padding()
        length = int(serve["length"])
        counts = {name: _token_counts(tokenizer, path) for name, path in splits.items()}
        padding = self.padding(tokenizer, model)
        self.check_counts(counts, splits)
        tokens.freeze(tokenizer, length, padding, model, cut=self.cut)
        inputs = [name for name in tokens.input_names(model) if name in self.inputs]
        preprocess = {
            "kind": "text", "version": VERSION, "tokenizer": "tokenizer.json", "length": length, "inputs": inputs,
            "pad_id": padding.id, "pad_token": padding.token, "labels": list(labels),
            **self.stated(tokenizer, model),
        }  # fmt: skip
        if serve.get("embed_preprocessing") == STRING:
            preprocess["embed"] = STRING
        tokenizer.save(str(out / "tokenizer.json"), pretty=True)
        (out / PREPROCESS).write_bytes(canonical_json(preprocess, indent=1))
        _copy_configs(model, out)
        warnings = []
        if padding.substitute:
            warnings.append(f"the model has no pad token: '{padding.token}' fills up, hidden by the attention mask")
        return {
            "truncated": {name: sum(n > length for n in found) for name, found in counts.items()},
            "tokens": {name: _spread(found) for name, found in counts.items()},
            "length": length,
            "inputs": inputs,
            "pad": {"token": padding.token, "id": padding.id, "side": padding.side, "substitute": padding.substitute},
            "warnings": warnings,
        }

    def padding(self, tokenizer: Tokenizer, model: Path) -> Padding:
        """With what, and on which side, texts are filled up."""
        return tokens.find_padding(tokenizer, model)

    def check_counts(self, counts: Mapping[str, Sequence[int]], splits: Mapping[str, Path]) -> None:
        """StepError for texts that the task cannot use. counts: tokens of each text of a split."""

    def stated(self, tokenizer: Tokenizer, model: Path) -> Mapping[str, Any]:
        """What the task says besides in preprocess.json."""
        return {}

    def feeds(self, rows: pa.Table, prepared: Path) -> Arrays:
        """input_ids, attention_mask and, where the model takes it, token_type_ids: int64, (n, length).

        `text` too, (n,) str, where the tokenizer goes into the artefact, which then takes that alone.
        """
        import numpy as np

        if "text" not in rows.column_names:
            raise StepError("the rows have no column `text`", hint=f"they have: {', '.join(rows.column_names)}")
        tokenizer, names, length, embeds = _load(str(prepared), _stamp(prepared))
        found: dict[str, Any] = {name: np.zeros((rows.num_rows, length), np.int64) for name in names}
        start = 0
        for texts in _chunks(rows.column("text")):
            encodings = tokenizer.encode_batch(texts)
            part = slice(start, start + len(texts))
            for name, read in _FIELDS.items():
                if name in found:
                    found[name][part] = [read(encoding) for encoding in encodings]
            start += len(texts)
        if embeds:
            found["text"] = np.array(rows.column("text").to_pylist(), dtype=np.str_)
        return found

    def plain(self, feeds: Arrays, prepared: Path) -> Arrays:
        """The token feeds: a torch model takes them as they are, and never a text."""
        return {name: array for name, array in feeds.items() if name != "text"}


_FIELDS: Mapping[str, Callable[[Any], list[int]]] = {
    "input_ids": lambda encoding: encoding.ids,
    "attention_mask": lambda encoding: encoding.attention_mask,
    "token_type_ids": lambda encoding: encoding.type_ids,
}


def _stamp(prepared: Path) -> tuple[int, ...]:
    """Changes when a prepared folder is rewritten in place."""
    try:
        found = [(prepared / name).stat() for name in (PREPROCESS, "tokenizer.json")]
    except OSError as error:
        hint = "give the folder of a bundle, or build again"
        raise StepError(f"no preprocessing here: {error.strerror}", where=str(error.filename), hint=hint) from error
    return tuple(number for stat in found for number in (stat.st_mtime_ns, stat.st_size, stat.st_ino))


@lru_cache(maxsize=4)
def _load(folder: str, stamp: tuple[int, ...]) -> tuple[Tokenizer, tuple[str, ...], int, bool]:
    """The frozen tokenizer, its inputs, length, and whether the artefact holds it. A bundle can come from anywhere:
    everything is checked."""
    path = Path(folder)
    stated = tokens.read_json(path / PREPROCESS)
    where = str(path / PREPROCESS)
    if stated.get("kind") != "text" or stated.get("version") != VERSION or stated.get("tokenizer") != "tokenizer.json":
        raise StepError(f"this edgeft reads text preprocessing of version {VERSION} only", where=where)
    names, length = stated.get("inputs"), stated.get("length")
    if not isinstance(names, list) or not names or not all(name in _FIELDS for name in names):
        raise StepError(f"inputs must be among {', '.join(_FIELDS)}", where=where)
    tokenizer = tokens.read_tokenizer(path / "tokenizer.json")
    truncation, padding = tokenizer.truncation or {}, tokenizer.padding or {}
    if not length or truncation.get("max_length") != length or padding.get("length") != length:
        raise StepError(f"tokenizer.json does not cut and pad to {length} tokens as stated", where=where)
    return tokenizer, tuple(names), int(length), stated.get("embed") == STRING


def _chunks(column: pa.ChunkedArray) -> Iterator[list[str]]:
    for start in range(0, len(column), CHUNK):
        texts = column.slice(start, CHUNK).to_pylist()
        for place, text in enumerate(texts, start + 1):
            if not isinstance(text, str) or not _is_unicode(text):
                raise StepError("the column `text` holds a value that is no valid text", where=f"row {place}")
        yield texts


def _is_unicode(text: str) -> bool:
    """False for lone surrogates, which come from undecodable bytes on a command line and which Rust refuses."""
    return text.isascii() or not any("\ud800" <= letter <= "\udfff" for letter in text)


def _token_counts(tokenizer: Tokenizer, path: Path) -> list[int]:
    """Tokens of each text of a split, special ones included, before any cutting."""
    from pyarrow import parquet

    column = parquet.read_table(path, columns=["text"]).column("text")
    return [len(encoding.ids) for texts in _chunks(column) for encoding in tokenizer.encode_batch(texts)]


def _spread(counts: list[int]) -> dict[str, int]:
    """Nearest-rank percentiles."""
    ordered = sorted(counts)
    last = len(ordered) - 1
    if last < 0:
        return {}
    return {f"p{share}": ordered[min(last, share * len(ordered) // 100)] for share in (50, 95, 99)} | {
        "max": ordered[-1]
    }


def _copy_configs(model: Path, out: Path) -> None:
    """The tokenizer's own configs in canonical form, so that transformers can load the folder too."""
    for name in ("tokenizer_config.json", "special_tokens_map.json"):
        content = tokens.read_json(model / name)
        kept = {key: value for key, value in content.items() if key not in UNSAFE_KEYS}
        if kept:
            (out / name).write_bytes(canonical_json(kept, indent=1))
