"""What a recipe, a bundle's own recipe or the command line says: margins, columns, preprocessing of bare models."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from edgeft import plugins
from edgeft.device.yaml_read import read_mapping
from edgeft.errors import RecipeError
from edgeft.gate import SOURCE, Gate
from edgeft.metric_names import FLIP_RATE, is_own
from edgeft.ship.bundle import Bundle
from edgeft.ship.check.sides import Reading
from edgeft.task import Task, WindowedTask, has_metric

if TYPE_CHECKING:
    from edgeft.recipe.load import LoadedRecipe

DEFAULT_MARGIN = 0.01
RESOLVED = "recipe.resolved.yaml"
COLUMNS = ("text", "label", "group", "unit")
SCANS = ("nifti", "dicom")
"""Sources whose files a folder of labelled volumes may hold."""


BASELINE = "baseline"


class BaselineGate(Gate):
    """A gate whose other side is the baseline of a check, and is called so in its sentences."""

    @property
    def baseline(self) -> str:
        """What it compares with, as a sentence names it."""
        return BASELINE


@dataclass(frozen=True)
class Margin:
    """A gate that compares with the baseline, and who stated it."""

    gate: BaselineGate
    origin: str

    @property
    def limit(self) -> float:
        """The margin, or the share of cases that may change."""
        return float(self.gate.margin if self.gate.margin is not None else self.gate.at_most or 0.0)

    @property
    def name(self) -> str:
        """`accuracy no worse than the baseline by 0.01`."""
        subject = self.gate.subject  # may hold any words: it names labels
        return subject + self.gate.describe().removeprefix(subject).replace(
            f"than {BASELINE}", f"than the {BASELINE}", 1
        )


@dataclass(frozen=True)
class Form:
    """How a labelled file or folder is read. source: None: by what it is. unit: None: each row is a case of its own.
    group: whose values are looked up among a build's groups."""

    source: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    text: str = "text"
    label: str = "label"
    unit: str | None = None
    group: str | None = None


def find_margins(
    metric: str | None,
    margin: float | None,
    reading: Reading,
    devices: Collection[str],
    stated: Sequence[tuple[Gate, str]],
) -> list[Margin]:
    """The command line's margin, else those of `stated` that compare a metric of the task, else edgeft's default.

    devices: names the device goes by. stated: gates with the words that say where each stands. RecipeError for a metric
    the task does not have.
    """
    if metric is not None:
        _require_metric(metric, reading)
    task = reading.task
    if metric is None and margin is None:
        compared = [(gate, origin) for gate, origin in stated if _compares(gate) and _is_known(task, gate.metric)]
        found = [
            Margin(BaselineGate(**{**gate.model_dump(), "no_worse_than": gate.no_worse_than and SOURCE}), origin)
            for gate, origin in compared
            if gate.device in (None, *devices)
        ]
        if found:
            return found
        if compared:
            others = ", ".join(sorted({str(gate.device) for gate, _ in compared}))
            what = f"the margins that were stated are for {others}"
            raise RecipeError(what, where="--device", hint="check there, or state one: --margin 0.01")
    origin = "--margin" if margin is not None else "edgeft's default, since nobody stated one"
    value = DEFAULT_MARGIN if margin is None else margin
    if metric == FLIP_RATE:
        return [Margin(BaselineGate(metric=metric, at_most=value), origin)]
    try:
        return [Margin(BaselineGate(metric=metric or task.headline, no_worse_than=SOURCE, margin=value), origin)]
    except ValidationError as error:
        what = str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        raise RecipeError(what, where="--metric", hint="state it with that among the gates of a --recipe") from error


def _require_metric(metric: str, reading: Reading) -> None:
    """RecipeError for a metric of the command line that the task, or a label that the artefacts, do not have."""
    task = reading.task
    if not has_metric(task, metric):
        known = [*task.metrics, *task.gated, *(f"{family}LABEL" for family in task.families)]
        raise RecipeError(f"{task.name} has no metric '{metric}'", where="--metric", hint=f"known: {', '.join(known)}")
    family = next((family for family in task.families if metric.startswith(family)), None)
    if family is not None and metric.removeprefix(family) not in reading.labels:
        what = f"no label '{metric.removeprefix(family)}'"
        raise RecipeError(what, where="--metric", hint=f"labels: {', '.join(reading.labels[:20])}")


def _compares(gate: Gate) -> bool:
    """Whether a gate is decided on two sides; a limit on the value itself is a build's matter."""
    return gate.no_worse_than is not None or gate.metric == FLIP_RATE or gate.cases_losing is not None


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
    """Gates and columns of the recipe a bundle was built by: the file in the bundle, which its manifest and signature
    cover; one beside it may be anybody's.

    Nothing but a note where there is none, or it is not one: other versions of edgeft write other keys. A metric that
    is code is never taken from a bundle.
    """
    path = bundle.folder / RESOLVED
    if not path.is_file():
        return Resolved(notes=(f"the baseline holds no {RESOLVED}: --recipe names the one with its gates",))
    try:
        content = read_mapping(path, "recipe")
    except RecipeError as error:
        return Resolved(notes=(f"the baseline's recipe is not read: {error.what}",))
    gates, notes = [], []
    rows = content.get("gates")
    for row in rows if isinstance(rows, list) else ():
        metric = row.get("metric") if isinstance(row, dict) else None
        if isinstance(metric, str) and is_own(metric):
            notes.append(f"the baseline's gate on {Path(metric).name} is code, which is run with --recipe only")
            continue
        try:
            gate = Gate.model_validate(row)
        except ValidationError:
            notes.append("a gate of the baseline's recipe is of another edgeft, and is left out")
            continue
        gates.append((gate, "the gates the baseline was released by"))
    data = content.get("data")
    return Resolved(tuple(gates), _form(data if isinstance(data, dict) else {}), tuple(notes))


def form_of_recipe(loaded: LoadedRecipe) -> Form:
    """Columns, and the source with its options, as the recipe's `data:` states them."""
    data = loaded.recipe.data
    unit = data.unit or data.group or counted_patients(data.source, data.options)
    return Form(data.source, data.options, data.text, data.label, None if unit == "row" else unit)


def _form(data: Mapping[str, Any]) -> Form:
    named = {key: data[key] for key in COLUMNS if isinstance(data.get(key), str)}
    source, options = data.get("source"), data.get("options")
    scans = isinstance(source, str) and source in SCANS
    form = Form(source if scans else None, options if scans and isinstance(options, dict) else {})
    unit = named.get("unit", named.get("group", counted_patients(form.source, form.options)))
    text, label = named.get("text", "text"), named.get("label", "label")
    return replace(form, text=text, label=label, unit=None if unit == "row" else unit)


def counted_patients(source: str | None, options: Mapping[str, Any]) -> str | None:
    """What a build groups and counts by where the recipe names no column: the patients that DICOM files name."""
    return "patient" if source == "dicom" and not options.get("ungrouped") else None


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
    if isinstance(task, WindowedTask):
        if not all(serve[name] for name in ("depth", "height", "width")):
            what = f"{task.name} needs depth, height and width of the window the network sees"
            raise loaded.error(("serve",), what, "serve: {depth: 96, height: 96, width: 96}")
        serve["medical"] = recipe.preprocess.medical if recipe.preprocess else None
    try:
        task.prepare(_folder(loaded), {}, names, serve, out)
    except ImportError as error:
        hint = "name a folder with tokenizer.json, and model_input_names in tokenizer_config.json; or check a bundle"
        what = f"{error.name} would have to read this folder's tokenizer, and is not installed"
        raise RecipeError(what, where=str(_folder(loaded)), hint=hint) from error
    return Reading(task, out, tuple(names), f"that of {loaded.ref}")


def _own_labels(loaded: LoadedRecipe) -> tuple[str, ...] | None:
    """Those that the config.json beside the recipe's model names."""
    from edgeft.pipeline.given.inputs import own_labels
    from edgeft.tasks.tokenizer import read_json

    return own_labels(read_json(_folder(loaded) / "config.json"))


def _folder(loaded: LoadedRecipe) -> Path:
    """Where the recipe's tokenizer or preprocessor_config.json lies; nothing is fetched."""
    from edgeft.pipeline.given.find_folder import find_folder

    model = loaded.recipe.model
    if model.tokenizer:
        return Path(model.tokenizer)
    if model.onnx:
        return Path(model.onnx).parent
    if model.code:
        return Path(model.code.rpartition(":")[0]).parent
    return find_folder(loaded, offline=True, download=False)[0]
