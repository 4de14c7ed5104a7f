"""Records of steps: what a key led to, written once and checked whenever it is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from edgeft.canonical import Facts, canonical_json, digest_json
from edgeft.errors import StoreError
from edgeft.store.keys import step_key
from edgeft.store.layout import FORMAT, HEX

CHECK = "check"
"""Digest of the record's other entries."""
_TYPES: Mapping[str, type | tuple[type, ...]] = {
    "material": dict,
    "kind": str,
    "digest": str,
    "facts": dict,
    "seconds": (int, float),
    "bytes": int,
    "created": str,
    "warnings": list,
}


class CorruptObject(StoreError):
    """An object's bytes are no longer what was stored. key, digest: whose; file: the first one that differs."""

    def __init__(self, what: str, *, where: str, key: str, digest: str, file: str) -> None:
        hint = "build again: the damaged object is set aside in the store's folder 'broken' and the step runs anew"
        super().__init__(what, where=where, hint=hint)
        self.key, self.digest, self.file = key, digest, file


@dataclass(frozen=True)
class StepResult:
    """A finished step. seconds: how long it ran; bytes: size of its object; created: ISO 8601, UTC."""

    key: str
    material: Mapping[str, Any]
    kind: str
    digest: str
    facts: Facts
    seconds: float
    bytes: int
    created: str
    warnings: tuple[str, ...]

    def name(self) -> str:
        """What to call the step in a message: as its key material does, else its kind."""
        said = [
            self.material[part] for part in ("id", "step", "stage", "name") if isinstance(self.material.get(part), str)
        ]
        return f"{said[0] if said else self.kind} (key {self.key[:8]})"


def make_record(
    key: str, material: Mapping[str, Any], kind: str, facts: Facts, seconds: float, warnings: tuple[str, ...]
) -> StepResult:
    """A record without its object yet, as it will read back from JSON, so that fresh and cached results are equal.

    ValueError when `key` is not the key of `material`; StoreError when the facts are not JSON.
    """
    result = StepResult(key, material, kind, "0" * 64, facts, round(seconds, 3), 0, "", warnings)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    try:
        record = parse_record(json.loads(to_bytes(replace(result, created=now))), key)
    except (TypeError, ValueError) as error:
        if step_key(material) != key:
            raise ValueError(f"key {key[:16]} is not the step_key of its material") from error
        raise StoreError(f"the step's facts are not plain JSON: {error}", where=result.name()) from error
    return record


def to_bytes(result: StepResult) -> bytes:
    """The record file's content."""
    named = {name: getattr(result, name) for name in ("key", *_TYPES)}
    data = json.loads(canonical_json({**named, "format": FORMAT, "warnings": list(result.warnings)}))
    return canonical_json({**data, CHECK: digest_json(data)}, indent=1)


def parse_record(data: Any, key: str) -> StepResult:
    """A record from parsed JSON. ValueError, saying what, for anything that `to_bytes` would not have written."""
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ValueError(f"not a step record of format {FORMAT}")
    for name, kind in _TYPES.items():
        if not isinstance(data.get(name), kind) or isinstance(data[name], bool):
            raise ValueError(f"{name} is missing or of the wrong type")  # noqa: TRY004 - bad data, not a bad call
    if data.get("key") != key:
        raise ValueError("it names another key")
    if not HEX.match(data["digest"]):
        raise ValueError("digest is not 64 hex digits")
    if not all(isinstance(text, str) for text in data["warnings"]):
        raise ValueError("warnings are not texts")
    if step_key(data["material"]) != key:
        raise ValueError("its key is not the key of its material")
    # Records of earlier versions have none. The key proves the material alone, not the digest nor the facts.
    if CHECK in data and data[CHECK] != digest_json({name: data[name] for name in data if name != CHECK}):
        raise ValueError("its content is not what was written")
    fields = {name: data[name] for name in _TYPES}
    return StepResult(key=key, **{**fields, "warnings": tuple(data["warnings"]), "seconds": float(data["seconds"])})
