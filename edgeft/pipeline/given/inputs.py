"""The user's model as artefacts: folders and files are used where they lie, hub ids are looked up or fetched."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_json
from edgeft.errors import RecipeError
from edgeft.models.foreign import is_foreign
from edgeft.models.foreign_net import bundle_weights
from edgeft.pipeline.given.adapted_layers import check_target_modules
from edgeft.pipeline.given.convert_hint import convert_line
from edgeft.pipeline.given.find_folder import find_folder
from edgeft.pipeline.given.foreign_inputs import bundle_artifact, foreign_digest, processor_files
from edgeft.pipeline.given.model_folder import check_folder, check_weights, read_config
from edgeft.pipeline.given.other_models import digest_folder, other_models, transformers_artifact
from edgeft.pipeline.given.quantised_onnx import refuse_quantised
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store
from edgeft.usercode import check_function, code_digest


@dataclass(frozen=True)
class Inputs:
    """What the build starts from. labels: the model's own label order, None when it has none of its own.

    others: further models that steps name, by (index of the step, name of its field).
    """

    model: Artifact
    tokenizer: Artifact
    adapter: Artifact | None = None
    labels: tuple[str, ...] | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[tuple[Any, str], Artifact] = field(default_factory=dict)


def resolve_inputs(loaded: LoadedRecipe, store: Store, *, offline: bool, download: bool = True) -> Inputs:
    """Artefacts of the recipe's `model:`; RecipeError with its place where it cannot be used.

    download False (a plan): a hub model that is not in the local hub cache raises NeedsDownload.
    """
    inputs = _own_inputs(loaded, store, offline=offline, download=download)
    return replace(inputs, others=other_models(loaded, inputs.tokenizer, store, offline=offline, download=download))


def _own_inputs(loaded: LoadedRecipe, store: Store, *, offline: bool, download: bool) -> Inputs:
    model = loaded.recipe.model
    if model.initialise and not trains(loaded):
        raise loaded.error(
            ("model", "initialise"),
            "random weights, and no step trains them",
            "add steps: [{finetune: {method: full}}]",
        )
    if model.onnx:
        return _onnx_inputs(loaded, store)
    if model.code:
        return _code_inputs(loaded, store)
    folder, about = find_folder(loaded, offline=offline, download=download)
    if is_foreign(folder):
        return _bundle_inputs(loaded, store, folder, about)
    artifact = transformers_artifact(loaded, store, folder, ("model", "path"))
    config = read_config(loaded, folder / "config.json")
    tokenizer = Path(model.tokenizer) if model.tokenizer else folder
    check_folder(loaded, config, tokenizer)
    if not model.initialise:
        check_weights(loaded, sorted(folder.glob("*.safetensors")), ("model", "path"))
    check_target_modules(loaded, folder, config)
    labels = own_labels(config)
    adapter = None
    if model.adapter:
        adapter = _adapter_artifact(loaded, store, artifact)
        labels = tuple(adapter.facts["labels"]) or labels
    about = {
        **about,
        "form": "transformers",
        "architecture": (config.get("architectures") or ["unknown"])[0],
        "bytes": _bytes(folder),
    }
    return Inputs(artifact, _tokenizer_artifact(store, tokenizer), adapter, labels, about)


def _bundle_inputs(loaded: LoadedRecipe, store: Store, folder: Path, about: Mapping[str, Any]) -> Inputs:
    model = loaded.recipe.model
    artifact, labels, found = bundle_artifact(loaded, store, folder)
    if model.adapter:
        raise loaded.error(("model", "adapter"), "an adapter goes with a transformers folder", "merge it beforehand")
    check_target_modules(loaded, bundle_weights(folder) if not model.initialise else folder, None)
    if not _image(loaded):
        raise loaded.error(("model", "task"), f"a network of images does no {model.task}", "task: segmentation")
    tokenizer = Path(model.tokenizer) if model.tokenizer else folder
    return Inputs(artifact, _tokenizer_artifact(store, tokenizer), None, labels, {**found, **about})


def trains(loaded: LoadedRecipe) -> bool:
    """Whether a step learns from the train split."""
    return any("train" in stage.reads for stage in loaded.recipe.steps)


def _image(loaded: LoadedRecipe) -> bool:
    from edgeft import plugins

    return "image" in plugins.load("tasks", loaded.recipe.model.task).columns


def _adapter_artifact(loaded: LoadedRecipe, store: Store, base: Artifact) -> Artifact:
    folder = Path(loaded.recipe.model.adapter or "")
    config_file = folder / "adapter_config.json"
    if not config_file.is_file():
        raise loaded.error(
            ("model", "adapter"),
            f"{folder} has no adapter_config.json",
            "give the folder that PEFT's save_pretrained wrote",
        )
    if not (folder / "adapter_model.safetensors").is_file():
        raise loaded.error(
            ("model", "adapter"),
            f"{folder} has no adapter_model.safetensors",
            f"if it has adapter_model.bin: {convert_line(folder / 'adapter_model.bin')}",
        )
    check_weights(loaded, [folder / "adapter_model.safetensors"], ("model", "adapter"))
    own = folder / "edgeft.json"
    stated = _json(own) if own.is_file() else {}
    facts = {
        "base": {"path": str(base.path), "digest": base.digest},
        "quantised": stated.get("quantised"),
        "compute_dtype": stated.get("compute_dtype"),
        "method": str(_json(config_file).get("peft_type", "unknown")).lower(),
        "labels": list(stated.get("labels", [])),
        "given": True,
    }
    files = ("adapter_config.json", "adapter_model.safetensors", "edgeft.json")
    return Artifact("peft-adapter", folder, digest_folder(store, folder, files), facts)


def _onnx_inputs(loaded: LoadedRecipe, store: Store) -> Inputs:
    model = loaded.recipe.model
    file = Path(model.onnx or "")
    sides = [
        path for path in (file.with_name(file.name + ".data"), file.with_name(file.name + "_data")) if path.is_file()
    ]
    digest = digest_json([store.file_digest(path) for path in [file, *sides]])
    folder = Path(model.tokenizer) if model.tokenizer else file.parent
    named = any((folder / name).is_file() for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json"))
    if not named and not _image(loaded):
        raise loaded.error(
            ("model", "onnx"),
            f"no tokenizer files beside {file.name}",
            "name their folder: model: {onnx: ..., tokenizer: FOLDER}",
        )
    refuse_quantised(loaded, file)
    config = folder / "config.json"
    labels = own_labels(_json(config)) if config.is_file() else None
    artifact = Artifact("onnx", file, digest, {"form": "onnx", "given": True})
    return Inputs(
        artifact,
        _tokenizer_artifact(store, folder),
        None,
        labels,
        {"name": file.name, "form": "onnx", "bytes": file.stat().st_size},
    )


def _code_inputs(loaded: LoadedRecipe, store: Store) -> Inputs:
    model = loaded.recipe.model
    file, _, function = (model.code or "").rpartition(":")
    image = _image(loaded)
    if not model.tokenizer and not image:
        raise loaded.error(
            ("model", "code"), "a model given as code needs a tokenizer", "add `tokenizer: FOLDER` to model"
        )
    try:
        check_function(model.code or "")
    except RecipeError as error:
        raise loaded.error(("model", "code"), error.what, error.hint) from error
    weights = Path(model.weights) if model.weights else None
    if weights is not None:
        check_weights(loaded, [weights], ("model", "weights"))
        check_target_modules(loaded, weights, None)
    parts = [code_digest(model.code or "", store.file_digest, "model.code")]
    if weights is not None:
        edits = weights.with_name("surgery.json")  # of a pruned network: the code builds it whole, these cut it
        parts += [store.file_digest(file) for file in (weights, edits) if file.is_file()]
    digest = digest_json(parts)
    facts: dict[str, Any] = {"form": "code", "code": f"{file}:{function}"}
    facts |= {"weights": str(weights)} if weights else {"initialise": True}
    about = {"name": f"{Path(file).name}:{function}", "form": "code", "bytes": weights.stat().st_size if weights else 0}
    return Inputs(
        Artifact("torch-model", weights or Path(file), digest, facts),
        _tokenizer_artifact(store, Path(model.tokenizer) if model.tokenizer else Path(file).parent),
        None,
        None,
        about,
    )


def _tokenizer_artifact(store: Store, folder: Path) -> Artifact:
    return Artifact("prepared", folder, foreign_digest(store, folder, processor_files(folder)))


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*.safetensors") if path.is_file())


def _json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def own_labels(config: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Labels a fine-tuned config names; the LABEL_0 placeholders and bare encoders have none."""
    names, architectures = config.get("id2label"), config.get("architectures")
    architecture = str(architectures[0]) if isinstance(architectures, list) and architectures else ""
    if not isinstance(names, dict) or not any(end in architecture for end in ("Classification", "Segmentation")):
        return None
    if not all(str(key).isdecimal() for key in names):
        return None  # of a file beside an ONNX model or weights; a model folder's config was checked
    ordered = tuple(str(names[key]) for key in sorted(names, key=lambda text: int(text)))
    return None if all(name.startswith("LABEL_") for name in ordered) else ordered
