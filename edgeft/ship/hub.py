"""What a recipe takes from the Hugging Face hub, as plain files."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError

if TYPE_CHECKING:
    from edgeft.recipe.load import LoadedRecipe
    from edgeft.recipe.schema import Data
    from edgeft.recipe.tree import RecipePath


def fetch_model(
    loaded: LoadedRecipe,
    name: str,
    revision: str | None,
    target: Path,
    patterns: Sequence[str],
    at: RecipePath = ("model", "path"),
) -> str:
    """Files of a hub model copied to `target`; the commit they are of. StepError when the hub cannot give them."""
    from huggingface_hub import snapshot_download

    try:
        snapshot = Path(snapshot_download(name, revision=revision, allow_patterns=list(patterns)))
    except Exception as error:  # the hub client raises its own, httpx' and the system's kinds
        raise _unreachable(error, name, loaded.where(at)) from error
    shutil.copytree(snapshot, target)
    if not any(target.glob("*.safetensors")):
        raise StepError(
            f"'{name}' holds no safetensors",
            where=loaded.where(at),
            hint="download its checkpoint, run `edgeft convert` on it, and name the folder in the recipe",
        )
    return snapshot.name


def fetch_dataset(loaded: LoadedRecipe, data: Data, name: str, target: Path) -> None:
    """A hub dataset at its pinned commit as a `save_to_disk` folder. StepError when the hub cannot give it."""
    from datasets import load_dataset

    try:
        found: Any = load_dataset(name, data.options.get("config"), revision=data.revision)
    except Exception as error:  # hub client, builders and file systems raise many kinds
        raise _unreachable(error, name, loaded.where(("data", "path"))) from error
    found.save_to_disk(str(target))


def _unreachable(error: Exception, name: str, where: str) -> StepError:
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:300]
    kind = type(error).__name__
    if "Gated" in kind or "Unauthorized" in said or "401" in said or "403" in said:
        hint = "accept its terms on its page and set HF_TOKEN, or give a local folder"
    elif "RevisionNotFound" in kind or "RepositoryNotFound" in kind or "404" in said:
        hint = "check the id and the revision"
    else:
        hint = "run this where huggingface.co can be reached (HF_HUB_OFFLINE unset), or give a local folder"
    return StepError(f"'{name}' cannot be fetched from the hub: {said}", where=where, hint=hint)
