"""A misspelt `target_modules` is told before anything runs, from the names of the weights that lie on the disk.

The weights' names are the layers' names, but for three things: a prefix that the head's class adds, layers that share
another's weight, and names that transformers changes as it loads. Where one of them may be at work the finetune step,
which has the model before it, is left to judge.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from edgeft.models.header import weight_shapes
from edgeft.recipe.load import LoadedRecipe
from edgeft.stage import Stage
from edgeft.stages.finetune.adapters import is_called, near_layers

KEEP_NAMES = ("finetune", "merge", "prune")
"""Steps after which every layer that is left has the name it had."""
BORROWS = re.compile(r"load_backbone|AutoModel\w*\.from_config")
"""A network partly written in another architecture's file."""
NAME = re.compile(r"[\w-]+(\.[\w-]+)*")
SHARED = "embed"
"""Tables of an encoder and a decoder are often one weight, stored under one of their names."""


def check_target_modules(loaded: LoadedRecipe, weights: Path, config: Mapping[str, Any] | None) -> None:
    """Raises RecipeError at an entry that no layer can match, and where a method needs linear layers and none is there.

    weights: a model folder or safetensors file. config: of a transformers folder, None for a network given as code.
    """
    wanted, adapting = list(_stated(loaded)), list(_adapting(loaded))
    if not adapting or (config or {}).get("quantization_config"):
        return
    shapes = weight_shapes(weights)
    if shapes is None:
        return
    kernels = [len(shape) for name, shape in shapes.items() if name.endswith(".weight") and len(shape) > 1]
    if kernels and 2 not in kernels:
        _refuse_without_linears(loaded, adapting)
    # A bias or a norm has one dimension; what LoRA adapts has two or more.
    known = [name.removesuffix(".weight") for name, shape in shapes.items() if name.endswith(".weight") and shape[1:]]
    judge = _Judge(known, config)
    for at, entry in wanted:
        if known and judge.is_wrong(entry):
            raise loaded.error(at, f"no layer of this model is called '{entry}'", near_layers(entry, known))


def _stated(loaded: LoadedRecipe) -> list[tuple[tuple[str | int, ...], str]]:
    """(place, entry) of each name in the steps that adapt the given model or what is left of it."""
    found: list[tuple[tuple[str | int, ...], str]] = []
    for index, stage in _adapting(loaded):
        entries = getattr(stage, "target_modules", None)
        if isinstance(entries, tuple):
            found += [(("steps", index, "target_modules", place), entry) for place, entry in enumerate(entries)]
    return found


def _adapting(loaded: LoadedRecipe) -> Iterator[tuple[int, Stage]]:
    """Steps with adapters that come while the given model's layers have their names."""
    for index, stage in enumerate(loaded.recipe.steps):
        if hasattr(stage, "target_modules"):
            yield index, stage
        if not keeps_names(stage):
            return


def _refuse_without_linears(loaded: LoadedRecipe, adapting: Iterable[tuple[int, Stage]]) -> None:
    """A network of convolutions alone has nothing that 4 bits or `all-linear` could mean."""
    for index, stage in adapting:
        if getattr(stage, "method", "") == "qlora":
            what = "4-bit weights are of linear layers, and this network has none"
            raise loaded.error(("steps", index, "method"), what, "method: lora with target_modules: all-layers")
        if getattr(stage, "target_modules", None) == "all-linear":
            what = "this network has no linear layer to adapt"
            raise loaded.error(("steps", index, "target_modules"), what, "its convolutions: target_modules: all-layers")


def keeps_names(stage: Stage) -> bool:
    """Whether every layer that is left after the step has the name it had in the given model."""
    return stage.name in KEEP_NAMES or (stage.name == "distill" and not getattr(stage, "student", None))


class _Judge:
    """What is certain of a name from the weights' names and, for transformers, the text of the architecture's file."""

    def __init__(self, known: list[str], config: Mapping[str, Any] | None) -> None:
        self.known, self.code = known, config is None
        self.ends = {name.rpartition(".")[2] for name in known}
        self.source = "" if config is None else _architecture_text(str(config.get("model_type")))
        self.renamed = config is not None and _is_renamed(config)

    def is_wrong(self, entry: str) -> bool:
        """True only where the finetune step could not find a layer either."""
        if any(is_called(name, entry) or entry.endswith("." + name) for name in self.known):
            return False
        if self.code or not NAME.fullmatch(entry):
            return True
        if not self.source or BORROWS.search(self.source):
            return False
        end = entry.rpartition(".")[2]
        if end in self.ends and not self.renamed and SHARED not in end:
            return True  # there are such layers, and none lies where the entry says
        return end.isidentifier() and not re.search(rf"\b{end}\b", self.source)


def _is_renamed(config: Mapping[str, Any]) -> bool:
    """Whether transformers lists this architecture among those whose stored names it changes."""
    names = config.get("architectures")
    architecture = str(names[0]) if isinstance(names, list) and names else ""
    words = (str(config.get("model_type")), architecture.partition("For")[0].removesuffix("Model") + "Model")
    text = _text("conversion_mapping.py")
    return not text or any(f'"{word}"' in text for word in words)


def _architecture_text(kind: str) -> str:
    """The source of the architecture's network, read and not imported; empty where there is none under that name."""
    folder = kind.replace("-", "_")
    return _text(f"models/{folder}/modeling_{folder}.py") if folder.isidentifier() else ""


@cache
def _text(name: str) -> str:
    spec = find_spec("transformers")
    if spec is None or not spec.submodule_search_locations:
        return ""
    file = Path(next(iter(spec.submodule_search_locations))) / name
    return file.read_text(encoding="utf-8", errors="replace") if file.is_file() else ""
