"""`edgeft init`: a commented recipe made from the user's data, model and device."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from edgeft import plugins
from edgeft.errors import EdgeftError, RecipeError
from edgeft.recipe.draft_images import IMAGE_STEPS, IMAGE_TASKS, mask_labels
from edgeft.recipe.dump import scalar
from edgeft.recipe.guess import Guess, Guesses, guess_columns
from edgeft.recipe.look import Look, look_at
from edgeft.recipe.measure_text import Length, propose_length, read_config
from edgeft.recipe.paths import RESOLVERS, BadPath, Stated, relative
from edgeft.recipe.problems import did_you_mean

GATE_SHARES = (0.12, 0.2, 0.3)
TEST_SHARE = 0.5
"""Of the rows, when nothing trains."""
MARGINS = (0.02, 0.03, 0.05, 0.1)
HEADS = ("ForSequenceClassification", "ForImageClassification", "ForSemanticSegmentation")
"""Ends of architectures' names that have been fine-tuned for a task of ours."""


@dataclass(frozen=True)
class Request:
    """What the user gave. Paths are relative to the current folder; the recipe will lie in `folder`."""

    data: Path
    model: str
    device: str
    folder: Path
    text: str | None = None
    label: str | None = None
    group: str | None = None


@dataclass(frozen=True)
class ModelLook:
    """form: `path` or `onnx`. stated: as the recipe names it. tokenizer: local folder with tokenizer files, or None."""

    form: str
    stated: str
    tokenizer: Path | None
    tuned: bool
    config: dict[str, object]


def draft_recipe(request: Request) -> str:
    """Text of a recipe that loads as it is. RecipeError when data, model or device cannot be used or guessed."""
    look = look_at(request.data)
    task = _task(look)
    guesses = guess_columns(look, str(request.data), request.text, request.label, request.group)
    model = _look_at_model(request)
    device = _device(request)
    length = None
    if guesses.text is not None:
        texts = [text for text in look.columns[guesses.text.column] if text.strip()]
        length = propose_length(texts or [""], model.tokenizer, model.config)
    trains = model.form == "path" and not model.tuned
    metric = "mean_dice" if task == "segmentation" else "accuracy"
    share, margin, note = _gate_set(look, guesses, metric, trains=trains)
    parts = [
        _head(request, look, guesses),
        _model_lines(model, task),
        _data_lines(request, look, guesses, trains, share),
        _serve_lines(length),
        _step_lines(model, trains, images=look.source in IMAGE_TASKS),
        _target_lines(device),
        _gate_lines(device, metric, margin, note),
    ]
    return "\n\n".join(parts) + "\n"


def _task(look: Look) -> str:
    task = IMAGE_TASKS.get(look.source, "text-classification")
    known = plugins.names("tasks")
    if task not in known:
        what = f"the data are those of the task '{task}', but no task '{task}' is installed"
        raise RecipeError(what, where="--data", hint=f"tasks: {', '.join(known) or 'none'}")
    return task


def _look_at_model(request: Request) -> ModelLook:
    form = "onnx" if request.model.lower().endswith(".onnx") else "path"
    try:
        found = RESOLVERS["onnx" if form == "onnx" else "model"](Stated(request.model, Path.cwd(), ""))
    except BadPath as error:
        raise RecipeError(error.what, where="--model", hint=error.hint) from None
    path = Path(found)
    if found == request.model and not path.is_absolute():
        return ModelLook("path", found, None, False, {})
    stated = request.model if request.model.startswith("package:") else relative(path, request.folder)
    folder = path.parent if form == "onnx" else path
    config = read_config(folder)
    tuned = any(str(name).endswith(HEADS) for name in config.get("architectures") or [])
    return ModelLook(form, stated, folder, tuned, config)


def _device(request: Request) -> str:
    from edgeft.device.profile import load_device, shipped_devices

    try:
        load_device(request.device)
    except EdgeftError as error:
        hint = error.hint or did_you_mean(request.device, tuple(shipped_devices()), "devices")
        raise RecipeError(error.what, where="--device", hint=hint) from None
    is_file = request.device.endswith((".yaml", ".yml"))
    return relative(Path(request.device), request.folder) if is_file else request.device


SURE_PART = 0.85
"""Groups differ in size and stay whole, so a split gets somewhat fewer of them than its share of the rows."""


def _gate_set(look: Look, guesses: Guesses, metric: str, *, trains: bool) -> tuple[float, float, str]:
    """(share of the rows, margin, a sentence): the tightest margin that the number of cases can show at all."""
    from edgeft.evaluate.gates import needed_at_best
    from edgeft.gate import Gate

    groups = look.columns[guesses.group.column] if guesses.group else None
    noun = "groups" if groups else "rows"
    units = len(set(groups)) if groups else look.rows
    sure = SURE_PART if groups else 1.0
    shares = GATE_SHARES if trains else (TEST_SHARE,)
    if guesses.split:
        shares = (_stated_share(look.columns[guesses.split.column]) or GATE_SHARES[0],)
    for margin, share in [*((MARGINS[0], share) for share in shares), *((margin, shares[-1]) for margin in MARGINS)]:
        cases = int(units * share * sure)
        gate = Gate(metric=metric, no_worse_than="source", margin=margin)
        if needed_at_best(gate, cases, alone=groups is None) is None:
            note = f"the gate set has at least about {cases:,} {noun}"
            return share, margin, note if margin == MARGINS[0] else f"{note}: too few to show a smaller margin"
    cases = int(units * shares[-1] * sure)
    return shares[-1], MARGINS[-1], f"about {cases:,} {noun} in the gate set: too few for any useful margin; add data"


def _stated_share(values: list[str]) -> float:
    """Share of the rows that a split column puts into the gate set."""
    from edgeft.data.stated import ALIASES

    return sum(ALIASES.get(value.lower()) == "gate" for value in values) / max(1, len(values))


def _head(request: Request, look: Look, guesses: Guesses) -> str:
    name = re.sub(r"[^a-zA-Z0-9._-]+", "-", request.data.resolve().stem).strip("-._")[:64] or "model"
    classes = Counter(look.columns[guesses.label.column])
    shown = ", ".join(f"{_clean(label)} {count}" for label, count in classes.most_common(6))
    more = f", and {len(classes) - 6} more" if len(classes) > 6 else ""
    rows = f"{look.rows:,}" if look.whole else f"at least {look.rows:,}"
    lines = [
        f"# Written by `edgeft init` from {_clean(request.data.resolve().name)}: {rows} rows, {len(classes)} classes",
        f"# ({shown}{more}).",
        "# What it guessed is said beside each line. Next: edgeft plan, then edgeft build.",
        *[f"# {_clean(note)}" for note in look.notes],
        f"name: {scalar(name)}   # names the output folder, out/{name}",
        "seed: 7",
    ]
    return "\n".join(lines)


def _model_lines(model: ModelLook, task: str) -> str:
    lines = ["model:", f"  {model.form}: {scalar(model.stated)}"]
    if model.form == "onnx" and model.tokenizer and not (model.tokenizer / "tokenizer.json").is_file():
        lines.append("  # tokenizer: FOLDER   # needed: no tokenizer.json lies beside the ONNX file")
    if model.form == "path" and model.tokenizer is None:
        lines.append("  # revision: COMMIT    # of the Hugging Face id; without it the newest is taken and recorded")
    return "\n".join([*lines, f"  task: {task}"])


def _data_lines(request: Request, look: Look, guesses: Guesses, trains: bool, share: float) -> str:
    lines = ["data:", f"  source: {look.source}", f"  path: {scalar(relative(request.data, request.folder))}"]
    if look.options:
        options = ", ".join(f"{key}: {scalar(value)}" for key, value in look.options.items())
        lines.append(f"  options: {{{options}}}   # as the file was found to be")
    if look.source == "image-masks":
        lines.append(mask_labels(look))
    roles = [("text", guesses.text), ("label", guesses.label)] if guesses.text else []
    lines += [_role(role, guess) for role, guess in roles if guess]
    if guesses.group:
        lines.append(_role("group", guesses.group) + "; rows of one group never stand in two splits")
    elif look.source == "image-masks":
        lines.append("  # group: COLUMN   # of cases.csv beside images/: rows that belong together (one patient)")
    elif guesses.text:
        lines.append(
            "  # group: COLUMN   # rows that belong together (one document, one person) never stand in two splits"
        )
    if guesses.split:
        lines.append(_role("split", guesses.split))
    elif trains:
        rest = round(1 - share - 0.18, 2)
        lines.append(
            f"  fractions: {{train: {rest}, validation: 0.08, calibration: 0.02, search: 0.08, gate: {share}}}"
        )
    else:
        lines.append("  # Nothing trains: all rows test. They must not be rows the model was trained on.")
        lines.append("  fractions: {train: 0, validation: 0.1, calibration: 0.1, search: 0.3, gate: 0.5}")
    return "\n".join(lines)


def _role(role: str, guess: Guess) -> str:
    return f"  {role}: {scalar(guess.column)}   # {guess.why}"


def _serve_lines(length: Length | None) -> str:
    if length is None:
        return "serve: {batch: 1}"
    about = f"95% of the texts have at most {length.p95} tokens, the longest {length.longest}: {length.how}"
    return f"# Latency is of this shape. {about}.\nserve: {{batch: 1, length: {length.proposed}}}"


def _step_lines(model: ModelLook, trains: bool, *, images: bool) -> str:
    if trains and images:
        return IMAGE_STEPS
    if trains:
        return (
            "steps:\n"
            "  - finetune:\n"
            "      method: qlora          # or lora, full\n"
            "      rank: 16\n"
            "      epochs: 3\n"
            "      batch_size: 32\n"
            "      learning_rate: 0.0003\n"
            "      patience: 3            # stop after this many evaluations without a better one\n"
            "  - merge: {base: measure}   # onto the original or the dequantised weights: the better one of both"
        )
    if model.form == "onnx":
        return "steps: []   # an ONNX file is compressed, gated and bundled; it cannot be trained"
    why = "the model has a classifier already, so it is compressed, gated and bundled as it is; to train it further:"
    further = "[{finetune: {method: full, epochs: 3}}]" if images else "[{finetune: {method: qlora, epochs: 3}}, merge]"
    return f"# {why}\n# steps: {further}\nsteps: []"


def _target_lines(device: str) -> str:
    return f"targets:\n  - {{device: {scalar(device)}, export: [onnx], optimise: latency}}   # or optimise: size"


def _gate_lines(device: str, metric: str, margin: float, note: str) -> str:
    return (
        "gates:   # all must pass, or nothing ships\n"
        f"  - {{metric: {metric}, no_worse_than: source, margin: {margin}}}   # {note}\n"
        f"  # - {{metric: latency_p90_ms, at_most: 20, device: {scalar(device)}}}\n"
        "  # - {metric: artifact_mb, at_most: 25}"
    )


def _clean(text: str) -> str:
    """A user's text inside a comment: one line, printable, short."""
    return "".join(letter if letter.isprintable() else " " for letter in text)[:60]
