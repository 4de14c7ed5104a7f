"""The folder behind `model: path`: the user's own, or a hub model's in the local hub cache, fetched if allowed."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.tree import RecipePath

MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json", "generation_config.json", "surgery.json")
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.txt",
    "vocab.json",
    "merges.txt",
    "*.model",
    "config.json",
    "preprocess.json",
    "preprocessor_config.json",
)


class NeedsDownload(Exception):
    """A plan met a hub model that is not on this machine yet. what: its id."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


def find_folder(
    loaded: LoadedRecipe,
    *,
    offline: bool,
    download: bool,
    name: str | None = None,
    revision: str | None = None,
    at: RecipePath = ("model", "path"),
) -> tuple[Path, dict[str, Any]]:
    """(folder, what the report says of it). RecipeError, or NeedsDownload where nothing may be fetched.

    name, revision, at: of a further model and where the recipe states it; default the recipe's own `model`.
    """
    if name is None:
        name, revision = loaded.recipe.model.path or "", loaded.recipe.model.revision
    if Path(name).is_dir():
        return Path(name), {"name": Path(name).name if Path(name).name != "model" else Path(name).parent.name}
    _refuse_mistyped(loaded, Path(name), at)
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    patterns = sorted({*MODEL_FILES, *TOKENIZER_FILES})
    try:
        return _snapshot(
            name, snapshot_download(name, revision=revision, allow_patterns=patterns, local_files_only=True)
        )
    except HFValidationError:
        raise loaded.error(
            at,
            f"no folder '{name}', and it is no Hugging Face id either",
            "give a folder, or an id such as org/name",
        ) from None
    except LocalEntryNotFoundError:
        pass
    if offline:
        raise loaded.error(
            at,
            f"'{name}' is not on this machine and the build is offline",
            "gather it where there is internet: edgeft fetch RECIPE --into DIR",
        )
    if not download:
        raise NeedsDownload(name)
    try:
        return _snapshot(name, snapshot_download(name, revision=revision, allow_patterns=patterns))
    except Exception as error:
        raise loaded.error(
            at,
            f"'{name}' could not be fetched from the hub: {str(error).splitlines()[0]}",
            "check the id and the network, or give a local folder",
        ) from error


def _refuse_mistyped(loaded: LoadedRecipe, path: Path, at: RecipePath) -> None:
    """`models/nope` beside a folder `models` is a mistyped folder, not an id of the hub."""
    parent = next((place for place in (path.parent, Path(loaded.ref).parent / path.parent) if place.is_dir()), None)
    if len(path.parts) > 1 and parent is not None:
        near = get_close_matches(path.name, [item.name for item in parent.iterdir() if item.is_dir()], n=1)
        raise loaded.error(
            at,
            f"there is a folder {path.parent}, and no '{path.name}' in it",
            f"did you mean '{path.parent / near[0]}'?" if near else "give the folder that save_pretrained wrote",
        )


def _snapshot(name: str, folder: str) -> tuple[Path, dict[str, Any]]:
    """A hub model's folder in the hub cache, which is called by its commit: that is what the report must name."""
    return Path(folder), {"name": name, "revision": Path(folder).name}
