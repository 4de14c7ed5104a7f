"""Bytes that depend on nothing but content: canonical JSON and the digests of files and folders."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

Json: TypeAlias = bool | int | float | str | Sequence["Json"] | Mapping[str, "Json"] | None
Facts: TypeAlias = Mapping[str, Any]

CHUNK = 1 << 20


def canonical_json(value: Any, *, indent: int | None = None) -> bytes:
    """Sorted, ASCII-free-of-surprises JSON in UTF-8; NaN and infinity are refused (ValueError)."""
    separators = (",", ":") if indent is None else (",", ": ")
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=indent, separators=separators)
    return (text + "\n" if indent is not None else text).encode("utf-8", "surrogatepass")


def digest_json(value: Any) -> str:
    """SHA-256 of the canonical JSON, 64 hex digits."""
    return hashlib.sha256(canonical_json(value)).hexdigest()


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, read in chunks."""
    hasher = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def walk_files(root: Path) -> Iterator[tuple[str, Path]]:
    """(posix path relative to root, path) of every file below root, sorted; a file root gives itself."""
    if root.is_file():
        yield root.name, root
        return
    # By name parts, not by Path: Windows compares paths without case, and digests must not differ there.
    for path in sorted(root.rglob("*"), key=lambda path: path.relative_to(root).parts):
        if path.is_file():
            yield path.relative_to(root).as_posix(), path


def digest_tree(root: Path, digest: Callable[[Path], str] = digest_file) -> str:
    """Digest of a file or folder: names, sizes and contents of its files, not times or modes."""
    return digest_json([[name, path.stat().st_size, digest(path)] for name, path in walk_files(root)])
