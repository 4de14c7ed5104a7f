"""Names and shapes of the weights in safetensors files, read from their headers alone: no torch, no tensor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

HEADER_LIMIT = 32 << 20
"""Bytes of one header; a model of 70 billion parameters in one file has under 100 KB."""
LARGEST_HEADER = 100_000_000
"""What the format allows."""
POINTER = b"version "
"""How the small text begins that stands for a file in a clone without Git LFS."""
INDEX_LIMIT = 32 << 20
SHARD_LIMIT = 1000
INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"

Shapes = dict[str, tuple[int, ...]]


def weight_shapes(place: Path) -> Shapes | None:
    """Weight name -> shape of a model folder (one file, or shards with their index) or one safetensors file.

    None where anything is missing, damaged, too large or points elsewhere: the step that opens the weights says what.
    """
    files = _files(place)
    if not files:
        return None
    shapes: Shapes = {}
    for file in files:
        try:
            content = read_header(file)
        except OSError:
            return None
        if content is None:
            return None
        for name, about in content.items():
            shape = _shape(about)
            if shape is None:
                return None
            shapes[name] = shape
    return shapes or None


def damage(file: Path) -> str:
    """What shows, without reading the tensors, that a safetensors file is not whole; empty where nothing does.

    The format ends with its last tensor, so a file is exactly as long as its header says.
    """
    with file.open("rb") as stream:
        first = stream.read(8)
    if first == POINTER:
        return "it is a Git LFS pointer; `git lfs pull` fetches the weights"
    length = int.from_bytes(first, "little")
    if length > HEADER_LIMIT:
        return "" if length <= LARGEST_HEADER else "it does not begin with a safetensors header"
    content = read_header(file)
    if content is None:
        return "its header is cut short or no JSON"
    end = 0
    for about in content.values():
        place = about.get("data_offsets") if isinstance(about, dict) else None
        if not isinstance(place, list) or len(place) != 2 or type(place[1]) is not int:
            return "its header does not say where its tensors lie"
        end = max(end, place[1])
    wanted, size = 8 + length + end, file.stat().st_size
    return "" if wanted == size else f"it has {size:,} bytes, its header speaks of {wanted:,}"


def read_header(file: Path) -> dict[str, Any] | None:
    """Tensor name -> its description (dtype, shape, data_offsets): 8 bytes of length, then JSON.

    None where it is cut short, no JSON object or above HEADER_LIMIT.
    """
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(8), "little")
        content = _object(stream.read(length)) if length <= HEADER_LIMIT else None
    return None if content is None else {name: about for name, about in content.items() if name != "__metadata__"}


def _files(place: Path) -> list[Path]:
    """The weight files that transformers would open; none where they are not named plainly beside one another."""
    if place.is_file():
        return [place]
    if (place / SINGLE).is_file():
        return [place / SINGLE]
    index = place / INDEX
    if not index.is_file() or index.stat().st_size > INDEX_LIMIT:
        return []
    content = _object(index.read_bytes())
    named = content.get("weight_map") if content else None
    if not isinstance(named, Mapping):
        return []
    names = {str(name) for name in named.values()}
    if len(names) > SHARD_LIMIT or any(not _is_plain(name) or not (place / name).is_file() for name in names):
        return []
    return [place / name for name in sorted(names)]


def _is_plain(name: str) -> bool:
    """A name beside the index, never a path away from it."""
    return bool(name) and name not in (".", "..") and not any(sign in name for sign in "/\\\0")


def _shape(about: Any) -> tuple[int, ...] | None:
    sizes = about.get("shape") if isinstance(about, dict) else None
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        return None
    return tuple(sizes)


def _object(content: bytes) -> dict[str, Any] | None:
    try:
        value = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None
