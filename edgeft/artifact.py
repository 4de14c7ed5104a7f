"""What passes between steps: a folder or file of canonical bytes with its kind, digest and facts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from edgeft.canonical import Facts, canonical_json

Kind = Literal[
    "dataset", "prepared", "torch-model", "peft-adapter", "onnx", "ort", "litert", "executorch", "openvino", "ncnn",
    "coreml", "outputs", "statistics", "record",
]  # fmt: skip
"""dataset: one parquet file per split. prepared: tokenizer and preprocessing files.
torch-model: model.safetensors with config (transformers) or with `code` facts (plain torch).
peft-adapter: adapter_model.safetensors with adapter_config.json. onnx: model.onnx (+ model.onnx.data).
ort, litert, executorch, openvino, ncnn, coreml: model.ort, model.tflite, model.pte, model.xml + model.bin,
model.param + model.bin, model.mlpackage; each with signature.json, since these formats rename or drop tensor names.
outputs: outputs.npz, row-aligned with a split. statistics: of a float artefact's activations on the calibration split,
in its exporter's own form. record: JSON only."""


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


SIGNATURE = "signature.json"
NOT_THE_MODEL = (".data", ".json", ".bin", ".config", ".txt")
"""Suffixes of files that lie beside a model's entry file: outside weights, signature, required operators."""


def write_signature(folder: Path, signature: Signature) -> None:
    """signature.json beside a model whose format does not keep the canonical names."""
    (folder / SIGNATURE).write_bytes(canonical_json(asdict(signature), indent=1))


def read_signature(folder: Path) -> Signature:
    """What `write_signature` wrote. OSError, ValueError or KeyError where it is absent or not one."""
    data = json.loads((folder / SIGNATURE).read_bytes())

    def specs(rows: Mapping[str, Any]) -> dict[str, TensorSpec]:
        return {name: TensorSpec(row["name"], row["dtype"], tuple(row["shape"])) for name, row in rows.items()}

    return Signature(specs(data["inputs"]), specs(data["outputs"]))


def entry_file(path: Path) -> Path:
    """The file a runtime opens: `path` itself where it is a file, else its folder's one file or package named model.*

    ValueError where there is none or more than one.
    """
    if path.is_file():
        return path
    found = [item for item in sorted(path.glob("model.*")) if item.suffix not in NOT_THE_MODEL]
    if len(found) != 1:
        raise ValueError(f"expected one model file, found {len(found)}")
    return found[0]


@dataclass(frozen=True)
class Artifact:
    """An immutable result. `path` is read-only for every consumer; `facts` is JSON."""

    kind: str
    path: Path
    digest: str
    facts: Facts = field(default_factory=dict)
    signature: Signature | None = None
