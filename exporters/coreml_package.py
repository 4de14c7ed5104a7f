"""A saved .mlpackage as canonical bytes: no date, no random identifiers, no debug tables."""

from __future__ import annotations

import json
import shutil
import uuid
from pathlib import Path

PACKAGE = "com.apple.CoreML"
MODEL, WEIGHTS = f"{PACKAGE}/model.mlmodel", f"{PACKAGE}/weights"
NAMESPACE = uuid.UUID("6f7a1f4e-6a55-5a0c-9d25-0f6b7c1d9e10")
"""Identifiers in a manifest only have to differ within it; ours are hashes of the item's path in this name space."""
PREFIXED = "com.github.apple.coremltools.source_dialect"
"""Left out: protobuf's deterministic order is none between keys of which one begins with the other (`...source`), and
the dialect is the same for every package made here."""
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
    """The same model without its date, maps in sorted order."""
    from coremltools.proto import Model_pb2

    model = Model_pb2.Model.FromString(raw)
    for key in (*DATED, PREFIXED):
        model.description.metadata.userDefined.pop(key, None)
    return bytes(model.SerializeToString(deterministic=True))


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
