"""Transformers folders as artefacts: the recipe's own model, and further ones that steps name, such as a student."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_json
from edgeft.errors import EdgeftError
from edgeft.pipeline.given.convert_hint import convert_line
from edgeft.pipeline.given.find_folder import MODEL_FILES, find_folder
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.tree import RecipePath
from edgeft.store import Store

PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def other_models(
    loaded: LoadedRecipe, tokenizer: Artifact, store: Store, *, offline: bool, download: bool
) -> dict[tuple[Any, str], Artifact]:
    """(index of the step, field) -> the model it names. RecipeError for one that cannot be used with this tokenizer."""
    found: dict[tuple[Any, str], Artifact] = {}
    for index, stage in enumerate(loaded.recipe.steps):
        for field in stage.models:
            name = getattr(stage, field)
            if name:
                at = ("steps", index, field)
                revision = getattr(stage, f"{field}_revision", None)
                folder, _ = find_folder(loaded, offline=offline, download=download, name=name, revision=revision, at=at)
                found[index, field] = transformers_artifact(loaded, store, folder, at)
                check_tokenizer(loaded, folder, tokenizer.path, at)
    return found


def check_tokenizer(loaded: LoadedRecipe, folder: Path, own: Path, at: RecipePath) -> None:
    """Feeds are made once, by the recipe's tokenizer: a text model must read the very same token numbers."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if not isinstance(config.get("vocab_size"), int):
        return  # no text model
    length, most = loaded.recipe.serve.length, config.get("max_position_embeddings")
    if isinstance(most, int) and most < length:
        raise loaded.error(at, f"it takes {most} tokens, serve.length is {length}", f"lower serve.length to {most}")
    from edgeft.tasks.tokenizer import SLOW_FILES, load_tokenizer

    try:
        ours = load_tokenizer(own)
        theirs = (
            load_tokenizer(folder)
            if any((folder / name).is_file() for name in ("tokenizer.json", *SLOW_FILES))
            else None
        )
    except EdgeftError as error:
        raise loaded.error(at, error.what, error.hint) from error
    largest = max(ours.get_vocab(with_added_tokens=True).values(), default=0)
    if theirs is not None and _essence(theirs) != _essence(ours):
        raise loaded.error(
            at,
            f"its tokenizer is another one than the recipe's model has ({_difference(theirs, ours)})",
            "teacher and student read the same token numbers: give a checkpoint of that tokenizer, or student_layers",
        )
    if config["vocab_size"] <= largest:
        raise loaded.error(
            at,
            f"it knows {config['vocab_size']} tokens, the recipe's tokenizer makes numbers up to {largest}",
            "take a checkpoint of the same tokenizer",
        )


def _essence(tokenizer: Any) -> dict[str, Any]:
    """What decides the token numbers of a text; cutting and padding are set by the recipe."""
    content: dict[str, Any] = json.loads(tokenizer.to_str())
    parts = ("normalizer", "pre_tokenizer", "post_processor", "model", "added_tokens")
    return {name: content.get(name) for name in parts}


def _difference(theirs: Any, ours: Any) -> str:
    """In which part they part ways."""
    first, second = theirs.get_vocab(with_added_tokens=True), ours.get_vocab(with_added_tokens=True)
    if len(first) != len(second):
        return f"{len(first)} tokens, not {len(second)}"
    if first != second:
        moved = min(token for token in second if first.get(token) != second[token])
        return f"token {moved!r} has another number"
    a, b = _essence(theirs), _essence(ours)
    return f"another {next(name for name in a if a[name] != b[name])}"


def transformers_artifact(loaded: LoadedRecipe, store: Store, folder: Path, at: RecipePath) -> Artifact:
    """The folder as an artefact, where it lies. RecipeError at `at` where it is no model in safetensors."""
    if not (folder / "config.json").is_file():
        raise loaded.error(at, f"{folder} has no config.json", "give the folder that save_pretrained wrote")
    given = any(path.is_file() for path in folder.glob("*.safetensors"))  # a dangling link is none
    if loaded.recipe.model.initialise and at == ("model", "path"):
        if given:
            raise loaded.error(
                ("model", "initialise"), f"{folder} has weights", "leave initialise out to begin from them"
            )
        facts = {"form": "transformers", "initialise": True}
        return Artifact("torch-model", folder, digest_folder(store, folder, ("config.json",)), facts)
    if not given:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        if pickles:
            raise loaded.error(
                at,
                f"{folder} holds its weights as a pickle ({pickles[0]}), which can run code when opened",
                f"convert it first: {convert_line(folder / pickles[0], folder / 'model.safetensors')}",
            )
        hint = "the folder needs model.safetensors; to train its architecture from scratch: model: {initialise: true}"
        raise loaded.error(at, f"{folder} has no safetensors weights", hint)
    return Artifact("torch-model", folder, digest_folder(store, folder, MODEL_FILES), {"form": "transformers"})


def digest_folder(store: Store, folder: Path, patterns: tuple[str, ...]) -> str:
    """Digest of the names and contents of the files that match."""
    files = sorted({path for pattern in patterns for path in folder.glob(pattern) if path.is_file()})
    return digest_json([[path.name, store.file_digest(path)] for path in files])
