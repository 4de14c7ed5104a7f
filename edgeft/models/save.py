"""Models as canonical bytes: the same weights give the same files, whatever machine and path they came from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import Facts, canonical_json
from edgeft.errors import StepError
from edgeft.models.code import WEIGHTS, code_file
from edgeft.models.foreign_net import FORM, save_bundle
from edgeft.models.layers import is_transformers, unwrap
from edgeft.models.quiet import quiet_transformers
from edgeft.models.surgery import surgery_of, write_surgery

if TYPE_CHECKING:
    import torch

SHARD = "4GB"
"""Limit of one weights file; larger models get model-0000x-of-0000y.safetensors and an index."""
NOISE = ("_name_or_path", "transformers_version", "use_cache", "quantization_config", "_attn_implementation_autoset")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "added_tokens.json",
    "tokenizer.model",
    "spiece.model",
    "sentencepiece.bpe.model",
    "preprocessor_config.json",
)


def save_model(module: torch.nn.Module, source: Artifact, out: Path, *, shard: str = SHARD) -> Facts:
    """Write a trained or merged module of either form into `out`; returns its facts. source: the model it came from."""
    write_surgery(surgery_of(module), out)
    if is_transformers(module):
        save_transformers(module, out, shard=shard)
        copy_tokenizer(source.path, out)
        return {"form": "transformers"}
    if source.facts.get("form") == FORM:
        return save_bundle(module, source, out)
    return save_code(module, source, out)


def save_transformers(module: torch.nn.Module, out: Path, *, shard: str = SHARD) -> None:
    """model.safetensors (or shards with a sorted index) and config.json: sorted, no paths, versions or run settings."""
    whole: Any = unwrap(module)
    with quiet_transformers():
        whole.save_pretrained(str(out), max_shard_size=shard)
    config = json.loads((out / "config.json").read_text(encoding="utf-8"))
    for name in NOISE:
        config.pop(name, None)
    (out / "config.json").write_bytes(canonical_json(config, indent=1))
    index = out / "model.safetensors.index.json"
    if index.is_file():
        index.write_bytes(canonical_json(json.loads(index.read_text(encoding="utf-8")), indent=1))
    generation = out / "generation_config.json"
    if generation.is_file():
        stated = json.loads(generation.read_text(encoding="utf-8"))
        stated = {name: value for name, value in stated.items() if name not in NOISE}
        generation.write_bytes(canonical_json(stated, indent=1))


def save_code(module: torch.nn.Module, source: Artifact, out: Path) -> Facts:
    """model.safetensors and the one code file that builds the module, so that the folder stands alone."""
    from safetensors.torch import save_file

    path, function = code_file(source)
    # Tensors that share memory are written each for itself: the strict load finds every name.
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in module.state_dict().items()}
    save_file(state, out / WEIGHTS, metadata={"format": "pt"})
    shutil.copyfile(path, out / path.name)
    return {"form": "code", "code": f"{path.name}:{function}"}


def copy_tokenizer(source: Path, out: Path) -> None:
    """Tokenizer and preprocessing files that lie beside a transformers model, byte for byte."""
    folder = source if source.is_dir() else source.parent
    for name in TOKENIZER_FILES:
        path = folder / name
        if path.is_file() and not (out / name).exists():
            try:
                shutil.copyfile(path, out / name)
            except OSError as error:
                raise StepError(
                    f"{path} cannot be copied: {error.strerror}", hint="check permissions and disk space"
                ) from error
