"""What passes between steps: a folder or file of canonical bytes with its kind, digest and facts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from edgeft.canonical import Facts

Kind = Literal["dataset", "prepared", "torch-model", "peft-adapter", "onnx", "outputs", "record"]
"""dataset: one parquet file per split. prepared: tokenizer and preprocessing files.
torch-model: model.safetensors with config (transformers) or with `code` facts (plain torch).
peft-adapter: adapter_model.safetensors with adapter_config.json. onnx: model.onnx (+ model.onnx.data).
outputs: outputs.npz, row-aligned with a split. record: JSON only."""


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of an artefact as its runtime knows it; a dimension is a size or a symbol."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Signature:
    """Canonical name -> the runtime's tensor."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]


@dataclass(frozen=True)
class Artifact:
    """An immutable result. `path` is read-only for every consumer; `facts` is JSON."""

    kind: str
    path: Path
    digest: str
    facts: Facts = field(default_factory=dict)
    signature: Signature | None = None
