"""PEFT adapters: attach one safely to its base, and write one as canonical bytes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.artifact import Artifact
from edgeft.canonical import canonical_json
from edgeft.errors import StepError
from edgeft.models.code import mismatch
from edgeft.models.layers import is_transformers

if TYPE_CHECKING:
    import torch

CONFIG, WEIGHTS, ABOUT = "adapter_config.json", "adapter_model.safetensors", "edgeft.json"
MERGEABLE = ("LORA", "ADALORA", "IA3", "LOHA", "LOKR")
REBASING = ("pissa", "olora", "loftq", "corda")
"""Initialisations that change the base weights: such an adapter belongs to the changed base, not to the one on disk."""
FOREIGN = ("megatron_config", "layer_replication", "layer_offload")
"""Options that import a module named by the file or rebuild the base; nothing edgeft ships needs them."""
NOISE = ("base_model_name_or_path", "revision", "peft_version", "auto_mapping")


def adapter_about(adapter: Artifact) -> dict[str, Any]:
    """quantised, compute_dtype, double_quant, labels: the adapter's facts, else its edgeft.json, else None."""
    path = adapter.path / ABOUT
    stated = read_object(path) if path.is_file() else {}
    known = {key: value for key, value in adapter.facts.items() if value is not None}
    return {"quantised": None, "compute_dtype": None, "double_quant": True, **stated, **known}


def read_config(folder: Path) -> dict[str, Any]:
    """adapter_config.json, refused where it cannot be attached or merged faithfully. Raises StepError."""
    path = folder / CONFIG
    if not path.is_file():
        raise StepError(f"{folder} has no {CONFIG}", hint="give the folder that PEFT's save_pretrained wrote")
    if not (folder / WEIGHTS).is_file():
        raise StepError(
            f"{folder} has no {WEIGHTS}", hint="pickled adapters (.bin) are not opened: `edgeft convert` them first"
        )
    config = read_object(path)
    kind = str(config.get("peft_type"))
    if kind not in MERGEABLE:
        raise StepError(
            f"an adapter of type {kind} cannot be merged into its base",
            where=str(path),
            hint=f"mergeable: {', '.join(MERGEABLE)}",
        )
    start = config.get("init_lora_weights", True)
    if isinstance(start, str) and start.lower().startswith(REBASING):
        raise StepError(
            f"this adapter was initialised by {start}, which changes the base weights: the original base does not fit",
            where=str(path),
            hint="save it again with save_pretrained(..., path_initial_model_for_weight_conversion=...)",
        )
    foreign = [name for name in FOREIGN if config.get(name)]
    if foreign:
        raise StepError(
            f"adapter option '{foreign[0]}' is not supported", where=str(path), hint="train the adapter without it"
        )
    return config


def attach_adapter(module: torch.nn.Module, folder: Path, *, trainable: bool = False) -> torch.nn.Module:
    """`module` with the adapter of `folder`; every weight must find its place. Raises StepError."""
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    from edgeft.models.box import Box

    read_config(folder)
    inside = module if is_transformers(module) else Box(module)
    try:
        with warnings.catch_warnings():
            # Missing keys are checked below, by name; peft only warns.
            warnings.simplefilter("ignore", UserWarning)
            wrapped: Any = PeftModel.from_pretrained(inside, str(folder), is_trainable=trainable)
            own = set(get_peft_model_state_dict(wrapped, save_embedding_layers=False))
    except (ValueError, RuntimeError, KeyError, TypeError) as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        # torch's first line says only that there are errors; the next names the first weight and both shapes.
        first = next((line for line in lines if not line.startswith("Error(s) in loading")), "")
        raise StepError(
            f"the adapter does not fit this base model: {first[:300]}",
            where=str(folder),
            hint="is it the base it was trained on?",
        ) from error
    with safe_open(str(folder / WEIGHTS), "pt") as stream:
        given = set(stream.keys())
    missing, unexpected = sorted(own - given), sorted(name for name in given - own if "embed" not in name)
    if missing or unexpected:
        raise StepError(
            mismatch(missing, unexpected),
            where=str(folder / WEIGHTS),
            hint="is it the base this adapter was trained on?",
        )
    return wrapped


def whole_modules(folder: Path) -> tuple[str, ...]:
    """Names (suffixes) of the modules an adapter carries whole, its head among them."""
    config = read_config(folder)
    names = set(config.get("modules_to_save") or ())
    if config.get("task_type") in ("SEQ_CLS", "TOKEN_CLS"):
        names |= {"classifier", "score"}
    return tuple(sorted(names))


def save_adapter(module: torch.nn.Module, out: Path, about: Mapping[str, Any]) -> None:
    """adapter_model.safetensors, adapter_config.json (sorted, no paths, no versions) and edgeft.json in `out`.

    about: quantised, compute_dtype, double_quant, labels: what PEFT's own config cannot say of its base.
    """
    from peft import get_peft_model_state_dict
    from safetensors.torch import save_file

    peft_module: Any = module
    state = get_peft_model_state_dict(peft_module, save_embedding_layers=False)
    save_file(
        {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()},
        out / WEIGHTS,
        metadata={"format": "pt"},
    )
    config = peft_module.peft_config[peft_module.active_adapter].to_dict()
    plain = {key: _plain(value) for key, value in config.items()}
    if plain.get("modules_to_save"):
        plain["modules_to_save"] = sorted(set(plain["modules_to_save"]))
    plain |= {"inference_mode": True, **dict.fromkeys(NOISE)}
    (out / CONFIG).write_bytes(canonical_json(plain, indent=1))
    (out / ABOUT).write_bytes(canonical_json(dict(about), indent=1))


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is a StepError."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise StepError(f"cannot be read as JSON: {error}", where=str(path), hint="restore the file") from error
    if not isinstance(value, dict):
        raise StepError("is not a JSON object", where=str(path), hint="restore the file")
    return value


def _plain(value: Any) -> Any:
    """JSON types; sets become sorted lists, enumerations their values."""
    if isinstance(value, set | frozenset):
        return sorted(value)
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return getattr(value, "value", value)
