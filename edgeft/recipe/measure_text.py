"""How long texts are in tokens, to propose `serve.length`."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LENGTHS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512)
SAMPLE = 2000
TOKENS_PER_WORD = 1.4
"""Rule of thumb for English WordPiece vocabularies, used only without a tokenizer at hand."""
COVERED = 0.95
DEFAULT_LIMIT = 512


@dataclass(frozen=True)
class Length:
    """The proposed length; p95 and longest are tokens per text; how: by which means they were counted."""

    proposed: int
    p95: int
    longest: int
    how: str


def propose_length(texts: Sequence[str], tokenizer: Path | None, config: dict[str, Any]) -> Length:
    """The smallest usual length that holds 95% of the texts whole, within what the model takes.

    tokenizer: folder with tokenizer.json, None to estimate from words.
    """
    step = max(1, len(texts) // SAMPLE)
    counts, how = _count(texts[::step], tokenizer)
    ordered = sorted(counts)
    p95 = ordered[min(len(ordered) - 1, int(len(ordered) * COVERED))]
    limit = config.get("max_position_embeddings")
    limit = limit if isinstance(limit, int) and limit > 0 else DEFAULT_LIMIT
    fitting = [length for length in LENGTHS if length >= p95] or [LENGTHS[-1]]
    return Length(min(fitting[0], limit), p95, ordered[-1], how)


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder; empty where there is none that can be read."""
    try:
        value = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _count(texts: Sequence[str], tokenizer: Path | None) -> tuple[list[int], str]:
    file = tokenizer / "tokenizer.json" if tokenizer else None
    if file is not None and file.is_file():
        from tokenizers import Tokenizer

        try:
            reader = Tokenizer.from_file(str(file))
        except Exception:  # noqa: BLE001 - the library raises bare Exception for a malformed file; the estimate remains
            reader = None
        if reader is not None:
            reader.no_truncation()
            reader.no_padding()
            return [len(found.ids) for found in reader.encode_batch(list(texts))], "counted with the model's tokenizer"
    return [round(len(text.split()) * TOKENS_PER_WORD) + 2 for text in texts], "estimated as 1.4 tokens a word"
