"""A MONAI bundle, or an nnU-Net folder, given as `model: path`: taken where it can be matched exactly, else refused."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeft.artifact import Artifact
from edgeft.canonical import digest_json
from edgeft.errors import EdgeftError
from edgeft.models.foreign import processor_of, read_labels, read_network, read_preparation
from edgeft.models.foreign_net import FORM
from edgeft.models.monai_bundle import CONFIGS, METADATA, PICKLES, WEIGHTS, is_bundle
from edgeft.models.network import OWN, Network, Preparation, told
from edgeft.models.nnunet import DATASET, PLANS, is_nnunet, read_plans
from edgeft.pipeline.given.convert_hint import convert_line
from edgeft.pipeline.given.find_folder import TOKENIZER_FILES
from edgeft.pipeline.given.model_folder import check_weights
from edgeft.pipeline.given.other_models import digest_folder
from edgeft.recipe.load import LoadedRecipe
from edgeft.store import Store

AT = ("model", "path")
FILES = (*CONFIGS, METADATA, *WEIGHTS, "surgery.json", OWN, PLANS, DATASET)
CHECKPOINTS = ("fold_*/checkpoint_final.pth", "fold_*/checkpoint_best.pth")
VOLUMES = "volume-segmentation"


def bundle_artifact(
    loaded: LoadedRecipe, store: Store, folder: Path
) -> tuple[Artifact, tuple[str, ...] | None, dict[str, Any]]:
    """(model, labels it names, what the report says of it). RecipeError for what cannot be taken as it is."""
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
        what, place = told(error.what, 600), told(Path(error.where).name)
        raise loaded.error(AT, f"{what} ({place})", told(error.hint, 600)) from error
    wanted = 3 if stated.task == VOLUMES else 2
    if network.dimensions != wanted:
        what = f"its {network.net} is for {network.dimensions}-D images, task {stated.task} is for {wanted}-D ones"
        hint = f"task: {VOLUMES}" if network.dimensions == 3 else "give a 3-D network, or task: segmentation"
        raise loaded.error(AT, what, hint)
    _check_preprocess(loaded, said)
    facts: dict[str, Any] = {"form": FORM} | ({"initialise": True} if initialise else {})
    about = {
        "name": folder.name, "form": FORM, "architecture": f"{network.family} {network.net}",
        "bytes": weights.stat().st_size if weights else 0,
        "notes": list(_notes(said, network, loaded.recipe.preprocess is not None)),
    }  # fmt: skip
    return Artifact("torch-model", folder, foreign_digest(store, folder, FILES), facts), labels, about


def foreign_digest(store: Store, folder: Path, patterns: tuple[str, ...]) -> str:
    """Digest of a folder's files, and of the configuration that an nnU-Net folder says by its name alone."""
    files = digest_folder(store, folder, patterns)
    return digest_json([files, read_plans(folder).configuration]) if is_nnunet(folder) else files


def processor_files(folder: Path) -> tuple[str, ...]:
    """What of a folder decides the preprocessing."""
    if is_nnunet(folder):
        return (*TOKENIZER_FILES, PLANS, DATASET)
    return (*TOKENIZER_FILES, *CONFIGS, METADATA) if is_bundle(folder) else TOKENIZER_FILES


def _check_preprocess(loaded: LoadedRecipe, said: Preparation) -> None:
    """Where the recipe windows and resamples images itself, it must do so as the network was trained."""
    stated = loaded.recipe.preprocess
    if stated is None:
        return
    pairs = [("window", stated.window, said.values), ("spacing", stated.spacing, said.spacing)]
    for key, ours, theirs in pairs:
        if theirs is None or (ours is not None and len(ours) == len(theirs) and _near(ours, theirs)):
            continue
        here = "left as stored" if ours is None else f"[{', '.join(f'{value:g}' for value in ours)}]"
        needed = f"[{', '.join(f'{value:.9g}' for value in theirs)}]"
        what, hint = (
            f"the network was trained with {key} {needed}, here it is {here}",
            f"preprocess: {{{key}: {needed}}}",
        )
        raise loaded.error(("preprocess", key) if ours is not None else ("preprocess",), what, hint)


def _near(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    return all(abs(one - other) <= 1e-5 * max(1.0, abs(other)) for one, other in zip(ours, theirs, strict=True))


def _notes(said: Preparation, network: Network, stated: bool) -> list[str]:
    """What was done before the network and the data must see to; window and spacing where the recipe states none."""
    found, whose = [], "nnU-Net" if network.family == "nnU-Net" else "the bundle"
    if said.values and said.values != (0.0, 255.0) and not stated:
        low, high = said.values
        found.append(f"{whose} brings values {low:g}..{high:g} to the network: 8-bit images must show that very window")
    if said.spacing and not stated:
        found.append(f"{whose} resamples to a spacing of {', '.join(f'{side:g}' for side in said.spacing)} mm")
    turned = network.dimensions == 3 and re.fullmatch("[LRAPSI]{3}", said.orientation or "") is not None
    if said.orientation and turned:
        here = said.orientation[::-1]
        found.append(
            f"{whose} turns volumes to {said.orientation}, first axis first: preprocess: {{orientation: {here}}}, "
            "which names columns, rows and slices"
        )
    elif said.orientation:
        found.append(f"{whose} turns images to {told(said.orientation)}")
    if said.patch:
        sides = " x ".join(map(str, said.patch))
        found.append(f"{whose} trained on windows of {sides}; it keeps axes as stored (orientation: stored)")
        found.append(
            "nnU-Net interpolates by cubic splines, edgeft linearly, and one fold is one network: see the gates"
        )
    if "LoadImage" in said.skipped and not turned:
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
    if unknown := [told(name) for name in said.skipped if name not in known]:
        found.append(f"the bundle's {', '.join(unknown)} is not taken over: see that your images are as it leaves them")
    return found


def _no_weights(loaded: LoadedRecipe, folder: Path) -> EdgeftError:
    if is_nnunet(folder):
        found = sorted(path for pattern in CHECKPOINTS for path in folder.glob(pattern))
        pickle = found[0] if found else folder / "fold_0" / "checkpoint_final.pth"
        return loaded.error(
            AT,
            f"{folder} has no {WEIGHTS[0]}; nnU-Net keeps its weights as pickles, which can run code when opened",
            f"convert one fold first: {convert_line(pickle, folder / WEIGHTS[0], '--key', 'network_weights')}",
        )
    pickle_name = next((name for name in PICKLES if (folder / name).is_file()), None)
    if pickle_name is None:
        return loaded.error(AT, f"{folder} has no {WEIGHTS[1]}", "copy the bundle whole, or say initialise: true")
    pickle = folder / pickle_name
    return loaded.error(
        AT,
        f"the bundle holds its weights as a pickle ({pickle.name}), which can run code when opened",
        f"convert it first: {convert_line(pickle, folder / WEIGHTS[1])}",
    )
