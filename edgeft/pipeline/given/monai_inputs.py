"""A MONAI bundle, or an nnU-Net folder, given as `model: path`: taken where it can be matched exactly, else refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.errors import EdgeftError
from edgeft.models.monai_bundle import (
    CONFIGS,
    METADATA,
    PICKLES,
    WEIGHTS,
    is_bundle,
    read_labels,
    read_network,
)
from edgeft.models.monai_net import FORM
from edgeft.models.monai_preparation import Preparation, processor_of, read_preparation
from edgeft.pipeline.given.find_folder import TOKENIZER_FILES
from edgeft.pipeline.given.model_folder import check_weights
from edgeft.pipeline.given.other_models import digest_folder
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store

AT = ("model", "path")
FILES = (*CONFIGS, METADATA, *WEIGHTS, "surgery.json", "network.json")
NNUNET = ("plans.json", "dataset.json")
MOST_BYTES = 16 << 20


def is_foreign(folder: Path) -> bool:
    """A folder that is no transformers model, but a bundle or an nnU-Net's."""
    return not (folder / "config.json").is_file() and (is_bundle(folder) or (folder / NNUNET[0]).is_file())


def bundle_artifact(
    loaded: LoadedRecipe, store: Store, folder: Path
) -> tuple[Artifact, tuple[str, ...] | None, dict[str, Any]]:
    """(model, labels it names, what the report says of it). RecipeError for what cannot be taken as it is."""
    if not is_bundle(folder):
        raise _no_nnunet(loaded, folder)
    stated, initialise = loaded.recipe.model, loaded.recipe.model.initialise
    weights = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if weights is None and not initialise:
        raise _no_weights(loaded, folder)
    if weights is not None and initialise:
        hint = "leave initialise out to begin from them"
        raise loaded.error(("model", "initialise"), f"{folder} has weights", hint)
    if weights is not None:
        check_weights(loaded, [weights], AT)
    try:
        network, labels = read_network(folder), read_labels(folder)
        said = read_preparation(folder) if not stated.tokenizer else Preparation()
        if not stated.tokenizer:
            processor_of(folder)
    except EdgeftError as error:
        raise loaded.error(AT, f"{error.what} ({Path(error.where).name})", error.hint) from error
    if network.dimensions != 2:
        what = f"its {network.net} is for {network.dimensions}-D images, task {stated.task} is for 2-D ones"
        raise loaded.error(AT, what, "give a 2-D network, or a task for volumes")
    facts: dict[str, Any] = {"form": FORM} | ({"initialise": True} if initialise else {})
    about = {
        "name": folder.name, "form": FORM, "architecture": f"MONAI {network.net}",
        "bytes": weights.stat().st_size if weights else 0, "notes": list(_notes(said)),
    }  # fmt: skip
    return Artifact("torch-model", folder, digest_folder(store, folder, FILES), facts), labels, about


def processor_files(folder: Path) -> tuple[str, ...]:
    """What of a folder decides the preprocessing."""
    return (*TOKENIZER_FILES, *CONFIGS, METADATA) if is_bundle(folder) else TOKENIZER_FILES


def _notes(said: Preparation) -> list[str]:
    """What the bundle does before the network and the recipe must see to."""
    found = []
    if said.values and said.values != (0.0, 255.0):
        low, high = said.values
        found.append(
            f"the bundle brings values {low:g}..{high:g} to the network: 8-bit images must show that very window"
        )
    if said.spacing:
        found.append(f"the bundle resamples to a spacing of {', '.join(f'{side:g}' for side in said.spacing)} mm")
    if said.orientation:
        found.append(f"the bundle turns images to {said.orientation}")
    if "LoadImage" in said.skipped:
        found.append(
            "MONAI's LoadImage gives columns before rows, edgeft rows before columns: see which way it was trained"
        )
    known = {
        "LoadImage",
        "EnsureChannelFirst",
        "EnsureType",
        "ToTensor",
        "CastToType",
        "AddChannel",
        "AsChannelFirst",
        "",
    }
    if unknown := [name for name in said.skipped if name not in known]:
        found.append(f"the bundle's {', '.join(unknown)} is not taken over: see that your images are as it leaves them")
    return found


def _no_weights(loaded: LoadedRecipe, folder: Path) -> EdgeftError:
    pickle = next((folder / name for name in PICKLES if (folder / name).is_file()), None)
    if pickle is None:
        return loaded.error(AT, f"{folder} has no {WEIGHTS[1]}", "copy the bundle whole, or say initialise: true")
    return loaded.error(
        AT,
        f"the bundle holds its weights as a pickle ({pickle.name}), which can run code when opened",
        f"convert it first: edgeft convert {pickle} --output {folder / WEIGHTS[1]}",
    )


def _no_nnunet(loaded: LoadedRecipe, folder: Path) -> EdgeftError:
    """nnU-Net v2 builds its networks by a package of its own, from plans: these are told, nothing is guessed."""
    plans = _object(folder / NNUNET[0])
    names = sorted(plans.get("configurations", {})) if isinstance(plans.get("configurations"), dict) else []
    chosen = plans["configurations"].get("2d") if names else None
    about = chosen if isinstance(chosen, dict) else {}
    raw = about.get("architecture")
    network = str(raw.get("network_class_name", "") if isinstance(raw, dict) else about.get("UNet_class_name", ""))
    said = [
        f"network {network.rpartition('.')[2]}" if network else "",
        f"configurations {', '.join(names)}" if names else "",
    ]
    said += [f"{key} {about[key]}" for key in ("spacing", "patch_size", "normalization_schemes") if key in about]
    listed = "; ".join(text[:120] for text in said if text)
    return loaded.error(
        AT,
        f"{folder} is an nnU-Net v2 folder ({listed or 'its plans cannot be read'}); its network is not built here",
        "edgeft convert fold_0/checkpoint_final.pth --key network_weights, and give the network as code: model: {code: "
        "net.py:build, weights: FILE, tokenizer: FOLDER with preprocessor_config.json}",
    )


def _object(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_bytes()) if path.stat().st_size <= MOST_BYTES else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}
