"""What a Hugging Face folder alone can tell, before anything is imported: will its model load, and can it answer?"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.models.header import damage
from edgeft.recipe.load import LoadedRecipe
from edgeft.recipe.tree import RecipePath

if TYPE_CHECKING:
    from edgeft.pipeline.given.inputs import Inputs

TOKENIZERS = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model", "preprocess.json")
HEADS: Mapping[str, str | tuple[str, ...]] = {
    "text-classification": "ForSequenceClassification",
    "image-classification": "ForImageClassification",
    "image-multilabel": "ForImageClassification",
    "segmentation": "ForSemanticSegmentation",
    "text-generation": ("ForCausalLM", "LMHeadModel"),
}
"""Task -> how transformers ends the name of an architecture that has a head for it."""
TEXT_TASKS = ("text-classification", "text-generation")
REGISTRIES = ("auto_mappings.py", "configuration_auto.py")


SIZES = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size")
MOST = {"num_hidden_layers": 10_000}


def read_config(loaded: LoadedRecipe, path: Path) -> dict[str, Any]:
    """config.json of a model folder. RecipeError where it is not JSON, or states what no model can be built from."""
    at, again = ("model", "path"), "copy the folder again, whole, or restore the file"
    try:
        config = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        what = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise loaded.error(at, f"its config.json cannot be read: {what}", again) from error
    if not isinstance(config, dict):
        raise loaded.error(at, "its config.json is no JSON object", again)
    for key in SIZES:
        value = config.get(key)
        small = isinstance(value, int) and 0 < value <= MOST.get(key, value)
        if isinstance(value, str | float | bool | dict) or (isinstance(value, int) and not small):
            raise loaded.error(at, f"its config.json says {key}: {str(value)[:40]}, which is no size", again)
    names = config.get("id2label")
    if names is not None and not (isinstance(names, dict) and all(key.isdecimal() for key in names)):
        raise loaded.error(at, "its config.json has an id2label that does not map numbers to labels", again)
    architectures = config.get("architectures")
    if architectures is not None and not (
        isinstance(architectures, list) and all(isinstance(name, str) for name in architectures)
    ):
        raise loaded.error(at, "its config.json has architectures that are no list of names", again)
    return config


def check_weights(loaded: LoadedRecipe, files: Iterable[Path], at: RecipePath) -> None:
    """RecipeError at `at` for a safetensors file that was not copied whole: no step could load it."""
    for file in files:
        if file.is_file() and (what := damage(file)):
            raise loaded.error(at, f"{file.name} is damaged: {what}", "copy or download it again, whole")


def check_folder(loaded: LoadedRecipe, config: Mapping[str, Any], tokenizer: Path) -> None:
    """Raises RecipeError where the model's files say that no step can succeed."""
    if loaded.recipe.model.task not in HEADS:
        what = f"transformers has no models for {loaded.recipe.model.task}"
        hint = "give the network as code: model: {code: net.py:build, weights: W.safetensors}, or initialise: true"
        raise loaded.error(("model", "path"), what, hint)
    _check_architecture(loaded, config)
    text = loaded.recipe.model.task in TEXT_TASKS
    if text and not any(next(tokenizer.glob(pattern), None) for pattern in TOKENIZERS):
        raise loaded.error(
            ("model", "tokenizer" if loaded.recipe.model.tokenizer else "path"),
            f"{tokenizer} has no tokenizer files",
            "name the folder that has them: model: {path: ..., tokenizer: FOLDER}",
        )
    _check_head(loaded, config)


def _check_architecture(loaded: LoadedRecipe, config: Mapping[str, Any]) -> None:
    kind = config.get("model_type")
    if not isinstance(kind, str) or not kind:
        raise loaded.error(
            ("model", "path"), "its config.json names no model_type", "give the folder that save_pretrained wrote"
        )
    known, own = _known_types(), config.get("auto_map")
    if known and own and f'"{kind}"' not in known:
        raise loaded.error(
            ("model", "path"),
            f"its model_type '{kind}' is built by code of its own ({str(own)[:80]}), which is never run",
            "read that code, and give the network as yours: model: {code: net.py:build, weights: W.safetensors}",
        )
    if known and f'"{kind}"' not in known:
        import importlib.metadata

        version = importlib.metadata.version("transformers")
        raise loaded.error(
            ("model", "path"),
            f"its model_type '{kind}' is not one that transformers {version} knows",
            "upgrade transformers, or give the network as code: model: {code: net.py:build, weights: W.safetensors}",
        )


def _check_head(loaded: LoadedRecipe, config: Mapping[str, Any]) -> None:
    """With nothing trained, the given model must have the task's head already: a new one would answer at random."""
    model, names = loaded.recipe.model, config.get("architectures")
    head = HEADS.get(model.task)
    trains = bool(model.adapter) or any(stage.trains for stage in loaded.recipe.steps)
    if head and not trains and isinstance(names, list) and names and not str(names[0]).endswith(head):
        raise loaded.error(
            ("model", "path"),
            f"it is a {names[0]}, without a head for {model.task}, and no step trains one",
            "add a step: steps: [{finetune: {method: qlora}}], or give a fine-tuned folder",
        )


def answers_already(inputs: Inputs, task: str) -> bool:
    """True when the given model has been fine-tuned: an adapter, code with weights, a head for the task, or ONNX."""
    if inputs.model.facts.get("initialise"):
        return False
    form, head = inputs.about.get("form"), HEADS.get(task, "")
    return inputs.adapter is not None or form != "transformers" or str(inputs.about["architecture"]).endswith(head)


@cache
def _known_types() -> str:
    """The text of transformers' registry of model types, read and not imported (a plan takes less than its import)."""
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return ""
    folder = Path(next(iter(spec.submodule_search_locations))) / "models" / "auto"
    return "\n".join(
        path.read_text(encoding="utf-8", errors="replace") for name in REGISTRIES if (path := folder / name).is_file()
    )
