"""What a recipe, a bundle's own recipe or the command line says: margins, columns, preprocessing of bare models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgeft import plugins
from edgeft.device.yaml_read import read_mapping
from edgeft.errors import RecipeError
from edgeft.gate import Gate
from edgeft.ship.bundle import Bundle
from edgeft.ship.check.sides import Reading
from edgeft.task import Task, has_metric

if TYPE_CHECKING:
    from edgeft.recipe.load import LoadedRecipe

DEFAULT_MARGIN = 0.01
RESOLVED = "recipe.resolved.yaml"
COLUMNS = ("text", "label", "group", "unit")


@dataclass(frozen=True)
class Margin:
    """A gate `no worse than` whose other side is the baseline, and who stated it."""

    gate: Gate
    origin: str


@dataclass(frozen=True)
class Form:
    """How a labelled file is read. source: None: by its suffix. unit: None: every row is a case of its own."""

    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    text: str = "text"
    label: str = "label"
    unit: str | None = None


def find_margins(
    metric: str | None, margin: float | None, task: Task, device: str, stated: Sequence[tuple[Gate, str]]
) -> list[Margin]:
    """The command line's margin, else those of `stated` that compare a metric of the task, else edgeft's default.

    stated: gates with the words that say where each stands. RecipeError for a metric the task does not have.
    """
    if metric is not None and not has_metric(task, metric):
        hint = f"known: {', '.join(task.metrics)}"
        raise RecipeError(f"{task.name} has no metric '{metric}'", where="--metric", hint=hint)
    if metric is None and margin is None:
        found = [
            Margin(gate, origin)
            for gate, origin in stated
            if gate.no_worse_than and gate.device in (None, device) and _is_known(task, gate.metric)
        ]
        if found:
            return found
    origin = "--margin" if margin is not None else "edgeft's default, since nobody stated one"
    value = DEFAULT_MARGIN if margin is None else margin
    return [Margin(Gate(metric=metric or task.headline, no_worse_than="source", margin=value), origin)]


def _is_known(task: Task, metric: str) -> bool:
    return has_metric(task, metric) or ":" in metric


def gates_of_recipe(loaded: LoadedRecipe) -> list[tuple[Gate, str]]:
    """The gates of a recipe, each with its place."""
    return [(gate, f"gates[{index}] of {loaded.ref}") for index, gate in enumerate(loaded.recipe.gates)]


@dataclass(frozen=True)
class Resolved:
    """What a bundle's own recipe says. notes: what of it cannot be used here."""

    gates: tuple[tuple[Gate, str], ...] = ()
    form: Form = field(default_factory=Form)
    notes: tuple[str, ...] = ()


def read_resolved(bundle: Bundle) -> Resolved:
    """Gates and columns of the recipe a bundle was built by: its file in the bundle, or in the folder of its build.

    Nothing where there is none, or it is not one: other versions of edgeft write other keys. A metric that is code is
    never taken from a bundle.
    """
    places = (bundle.folder / RESOLVED, bundle.folder.parent.parent / RESOLVED)
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return Resolved()
    try:
        content = read_mapping(path, "recipe")
    except RecipeError as error:
        return Resolved(notes=(f"the baseline's recipe is not read: {error.what}",))
    gates, notes = [], []
    rows = content.get("gates")
    for row in rows if isinstance(rows, list) else ():
        try:
            gate = Gate.model_validate(row)
        except ValidationError:
            notes.append("a gate of the baseline's recipe is of another edgeft, and is left out")
            continue
        if ":" in gate.metric:
            notes.append(f"the baseline's gate on {Path(gate.metric).name} is code, which is run with --recipe only")
        else:
            gates.append((gate, "the gates the baseline was released by"))
    data = content.get("data")
    return Resolved(tuple(gates), _form(data if isinstance(data, dict) else {}), tuple(notes))


def form_of_recipe(loaded: LoadedRecipe) -> Form:
    """Columns, and the source with its options, as the recipe's `data:` states them."""
    data = loaded.recipe.data
    unit = data.unit or data.group
    return Form(data.source, data.options, data.text, data.label, None if unit == "row" else unit)


def _form(data: Mapping[str, Any]) -> Form:
    named = {key: data[key] for key in COLUMNS if isinstance(data.get(key), str)}
    unit = named.get("unit", named.get("group"))
    text, label = named.get("text", "text"), named.get("label", "label")
    return Form(None, {}, text, label, None if unit == "row" else unit)


def reading_of_recipe(loaded: LoadedRecipe, labels: Sequence[str] | None, out: Path) -> Reading:
    """The recipe's preprocessing, written into `out` as a build would. labels: where the recipe names none.

    RecipeError where the recipe leaves open what a build finds out by looking at the model.
    """
    recipe = loaded.recipe
    task: Task = plugins.load("tasks", recipe.model.task)()
    names = recipe.data.labels or labels or _own_labels(loaded)
    if not names:
        hint = "state them in the order of the model's outputs: data: {labels: [...]}"
        raise loaded.error(("data",), "the labels of a bare model's outputs are not known", hint)
    serve = recipe.serve.model_dump()
    plain = "text" in task.columns or recipe.model.onnx is not None
    serve["embed_preprocessing"] = serve["embed_preprocessing"] or ("none" if plain else "pixels")
    task.prepare(_folder(loaded), {}, names, serve, out)
    return Reading(task, out, tuple(names), f"that of {loaded.ref}")


def _own_labels(loaded: LoadedRecipe) -> tuple[str, ...] | None:
    """Those that the config.json beside the recipe's model names."""
    from edgeft.pipeline.inputs import own_labels
    from edgeft.tasks.tokenizer import read_json

    return own_labels(read_json(_folder(loaded) / "config.json"))


def _folder(loaded: LoadedRecipe) -> Path:
    """Where the recipe's tokenizer or preprocessor_config.json lies; nothing is fetched."""
    from edgeft.pipeline.find_folder import find_folder

    model = loaded.recipe.model
    if model.tokenizer:
        return Path(model.tokenizer)
    if model.onnx:
        return Path(model.onnx).parent
    if model.code:
        return Path(model.code.rpartition(":")[0]).parent
    return find_folder(loaded, offline=True, download=False)[0]
