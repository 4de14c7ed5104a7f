"""A saved .mlpackage as canonical bytes: no date, no random identifiers, no debug tables."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path
from typing import Any

PACKAGE = "com.apple.CoreML"
MODEL, WEIGHTS = f"{PACKAGE}/model.mlmodel", f"{PACKAGE}/weights"
NAMESPACE = uuid.UUID("6f7a1f4e-6a55-5a0c-9d25-0f6b7c1d9e10")
"""Identifiers in a manifest only have to differ within it; ours are hashes of the item's path in this name space."""
DATED = ("com.github.apple.coremltools.conversion_date",)


def write_package(saved: Path, out: Path) -> None:
    """Write `out` (*.mlpackage) from what coremltools saved: model.mlmodel, weights and Manifest.json, nothing else."""
    data = out / "Data"
    (data / PACKAGE).mkdir(parents=True)
    (data / MODEL).write_bytes(canonicalise_model((saved / "Data" / MODEL).read_bytes()))
    weights = saved / "Data" / WEIGHTS
    if weights.is_dir():
        shutil.copytree(weights, data / WEIGHTS, copy_function=shutil.copyfile)
    (out / "Manifest.json").write_text(json.dumps(manifest(weights.is_dir()), indent=4, sort_keys=True) + "\n")


def canonicalise_model(raw: bytes) -> bytes:
    """The same model without its date, every map in the order of its keys."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model.FromString(raw)
    for key in DATED:
        model.description.metadata.userDefined.pop(key, None)
    return encode(model)


def encode(message: Any) -> bytes:
    """A protobuf message on the wire: fields by number, map entries sorted by key.

    Written by hand because protobuf's deterministic mode is not the same in its implementations: upb puts `begin_mask`
    before `begin`, the Python one after it, and importing onnxruntime-extensions chooses the Python one for every
    process started later.
    """
    parts: list[bytes] = []
    for field, value in sorted(message.ListFields(), key=lambda pair: pair[0].number):
        kind = field.message_type
        if kind is None:
            parts.append(_alone(message, field.name, value))
        elif not kind.GetOptions().map_entry:
            items = value if field.is_repeated else [value]
            parts += [_nest(field.number, encode(item)) for item in items]
        elif kind.fields_by_name["value"].message_type is None:
            parts += [_alone(message, field.name, {key: value[key]}) for key in sorted(value)]
        else:  # of those, Core ML has string keys only
            entries = [_nest(1, key.encode()) + _nest(2, encode(value[key])) for key in sorted(value)]
            parts += [_nest(field.number, entry) for entry in entries]
    return b"".join(parts)


def _alone(message: Any, name: str, value: Any) -> bytes:
    """One field of `message`, by protobuf itself."""
    return bytes(type(message)(**{name: value}).SerializeToString())


def _nest(number: int, body: bytes) -> bytes:
    """A message as field `number` of another: its tag (wire type 2), its length, its bytes."""
    return _varint(number << 3 | 2) + _varint(len(body)) + body


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def manifest(weights: bool) -> dict[str, object]:
    """Manifest.json as Core ML reads it (file format 1.0.0)."""
    items = [("model.mlmodel", MODEL, "CoreML Model Specification")]
    if weights:
        items.append(("weights", WEIGHTS, "CoreML Model Weights"))
    entries = {
        str(uuid.uuid5(NAMESPACE, path)): {"author": PACKAGE, "description": about, "name": name, "path": path}
        for name, path, about in items
    }
    return {
        "fileFormatVersion": "1.0.0",
        "itemInfoEntries": entries,
        "rootModelIdentifier": str(uuid.uuid5(NAMESPACE, MODEL)),
    }
