"""Bundles in the form that builds write, made in a moment."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from edgeft.ship import verify

TENSOR = {"name": "x", "dtype": "float32", "shape": ["batch", 3]}


def make_bundle(
    folder: Path,
    seed: int = 1,
    *,
    accuracy: float = 0.9,
    gate: str = "PASS",
    gate_set: str = "a" * 64,
    evidence: bytes | None = None,
    **changes: Any,
) -> Path:
    """An unsigned bundle. seed: makes its model another; gate: what its one blocking gate said; evidence: another
    gates.json; changes: of the manifest."""
    verdict = {
        "gate": "accuracy at least 0.8", "metric": "accuracy", "target": "local-cpu", "status": gate, "why": "so",
        "severity": "block", "value": accuracy, "interval": [accuracy - 0.02, accuracy + 0.02], "n": 400,
        "quantity": "accuracy", "limit": 0.8,
    }  # fmt: skip
    slow = {**verdict, "gate": "latency_p90_ms at most 6", "metric": "latency_p90_ms", "status": "PASS", "value": 4.25}
    gates = {"verdicts": [verdict, slow], "gate_set": {"n": 400, "artefact": {"accuracy": accuracy}}}
    files = {
        "model.onnx": bytes(range(256)) * seed,
        "gates.json": json.dumps(gates).encode() if evidence is None else evidence,
        "provenance.json": json.dumps(
            {"content": "c" * 64, "splits": {"gate": {"digest": gate_set, "n": 400}, "train": {"digest": "b" * 64}}}
        ).encode(),
        "recipe.resolved.yaml": f"name: tiny\nseed: {seed}\n".encode(),
        "golden/inputs/x.npy": bytes(64),
    }
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    rows = {
        name: {"sha256": hashlib.sha256(content).hexdigest(), "bytes": len(content)} for name, content in files.items()
    }
    manifest = {
        "format": 2, "name": "tiny", "device": "local-cpu", "task": "text-classification", "runtime": "onnxruntime",
        "candidate": "onnx-int8", "edgeft": "0.1.0", "threads": 1, "labels": ["a", "b"], "inputs": {"x": TENSOR},
        "outputs": {"y": TENSOR}, "model": "model.onnx", "status": "passed" if gate == "PASS" else "failed",
        "files": rows, **changes,
    }  # fmt: skip
    (folder / verify.MANIFEST).write_bytes(verify.canonical(manifest))
    return folder
