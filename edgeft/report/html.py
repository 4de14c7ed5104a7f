"""report.html: one file that works offline, prints, and runs no script."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgeft.errors import EdgeftError
from edgeft.record import MergeRow, RunRecord, TargetRow, TrainingRow
from edgeft.report.figures import chosen_row, metric_of
from edgeft.report.limits import quality_metric
from edgeft.report.plain import NOTE, plain_targets
from edgeft.report.plots import training_plots
from edgeft.report.preprocessing import preprocessing_blocks
from edgeft.report.pruning import pruning_blocks
from edgeft.report.series import series_of
from edgeft.report.summary import counts_text, reasons
from edgeft.report.tables import (
    Cell,
    Table,
    classes_table,
    facts_table,
    merge_table,
    openings_table,
    splits_table,
    status_cell,
    steps_table,
    table,
)
from edgeft.report.validity import hide_time, timing_faults
from edgeft.report.views import view_target
from edgeft.report.words import (
    DASH,
    OUTCOMES,
    amount,
    bytes_text,
    count_text,
    metric_name,
    runtime_name,
    seconds_text,
    significant,
    teacher_text,
)
from edgeft.ship.reproduce import DIFFERS, SEALS

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup

TONES = {
    "passed": "pass",
    "failed": "fail",
    "inconclusive": "inconclusive",
    "error": "error",
    "interrupted": "neutral",
    "stopped": "neutral",
}
OVERVIEW_TIME = "latency_p50_ms"
MARKS = {"passed": "✓", "failed": "✕", "inconclusive": "?", "error": "!", "interrupted": "‖", "stopped": "■"}


def render_html(record: RunRecord) -> str:
    """The whole report. Pure: the same record gives the same text; its content is escaped, whatever it says,
    and always encodable as UTF-8."""
    page = template_environment().get_template("report.html.j2").render(page=_page(record))
    return page.encode("utf-8", "replace").decode("utf-8")


def stylesheet() -> Markup:
    """The page's whole style, as safe markup: it is edgeft's own file."""
    from markupsafe import Markup

    folder = files("edgeft.report")
    names = ("report.css", "evidence.css", "narrow.css")
    return Markup("".join((folder / name).read_text(encoding="utf-8") for name in names))  # noqa: S704


def template_environment() -> Environment:
    """Templates of this folder; everything is escaped, a missing name is an error. EdgeftError without jinja2."""
    try:
        from jinja2 import Environment, FunctionLoader, StrictUndefined
    except ImportError as error:
        raise EdgeftError("an HTML page needs jinja2", hint="python -m pip install jinja2") from error

    folder = files("edgeft.report")
    return Environment(
        autoescape=True,
        undefined=StrictUndefined,
        loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def _page(record: RunRecord) -> dict[str, Any]:
    word, rest = OUTCOMES[record.status]
    labels = record.data.labels if record.data else []
    page: dict[str, Any] = {
        "record": record,
        "css": stylesheet(),
        "word": f"{MARKS[record.status]} {word}",
        "rest": rest,
        "tone": TONES[record.status],
        "meta": _meta(record),
        "reasons": [text for text in reasons(record) if not record.error or text != record.error.what],
        "targets": [view_target(row, index, labels) for index, row in enumerate(record.targets)],
        "plain": plain_targets(record),
        "plain_note": NOTE,
        "overview": overview_table(record.targets) if len(record.targets) > 1 else None,
        "openings": openings_table(record.openings),
        "training": [_training(row) for row in record.training],
        "preprocessing": preprocessing_blocks(record.preprocessing),
        "pruning": [{"title": f"{row.step}: {row.method}", "blocks": pruning_blocks(row)} for row in record.pruning],
        "merge": _merge(record.merge) if record.merge else None,
        "data": None,
        "steps": steps_table(record.steps) if record.steps else None,
        "environment": facts_table("Environment", record.environment),
        "differs": {**DIFFERS, **SEALS} if record.status == "passed" else {},
        "model": facts_table("Model", record.model),
    }
    if record.data:
        classes = count_text(len(labels), "class", "classes") if labels else "no labels"
        text = f"{record.data.source}; {classes}; statistics count by {record.data.unit}."
        page["data"] = {
            "text": text,
            "splits": splits_table(record.data),
            "classes": classes_table(record.data) if labels else None,
        }
    page["contents"] = _contents(page)
    return page


def _meta(record: RunRecord) -> str:
    parts = [
        record.recipe,
        record.task,
        f"started {record.started}",
        f"took {seconds_text(record.wall_seconds)}",
        f"exit code {record.exit_code}",
    ]
    return " · ".join(part for part in parts if part)


def _contents(page: dict[str, Any]) -> list[tuple[str, str]]:
    record: RunRecord = page["record"]
    found = [("overview", "Targets")] if page["overview"] else []
    found += [(target.id, target.title) for target in page["targets"]]
    sections = [
        ("preprocessing", "Preprocessing", record.preprocessing),
        ("openings", "Gate set openings", record.openings),
        ("training", "Training", record.training),
        ("pruning", "Pruning", record.pruning),
        ("merge", "Merge", record.merge),
        ("data", "Data", record.data),
        ("warnings", "Warnings", record.warnings),
        ("steps", "Steps", record.steps),
        ("environment", "Environment and recipe", True),
    ]
    return found + [(id_, title) for id_, title, present in sections if present]


def _training(row: TrainingRow) -> dict[str, Any]:
    from markupsafe import Markup

    share = row.trainable_parameters / row.total_parameters if row.total_parameters else 0.0
    ended = "stopped early" if row.stopped_early else "ran to the end"
    resumed = f", resumed {count_text(row.resumed, 'time')}" if row.resumed else ""
    memory = f", peak memory {row.peak_memory_mb:,.0f} MB" if row.peak_memory_mb is not None else ""
    text = (
        f"{row.trainable_parameters:,} of {row.total_parameters:,} parameters trained ({share:.1%}) "
        f"for {count_text(row.steps, 'step')} ({significant(row.epochs)} epochs) on {row.device}, {ended}{resumed}. "
        f"Best {metric_name(row.metric).lower()} on validation {amount(row.metric, row.best_metric)} "
        f"at step {row.best_step:,}. {seconds_text(row.seconds)}, {significant(row.examples_per_second)} examples/s "
        f"in micro-batches of {row.micro_batch}{memory}.{teacher_text(row.teacher)}"
    )
    plots = [Markup(plot) for plot in training_plots(row)]  # noqa: S704 - built by svg.py, which escapes
    return {"title": f"{row.step}: {row.method}", "text": text, "plots": plots}


def overview_table(targets: Sequence[TargetRow]) -> Table:
    """One line per target: what was chosen, what it comes to, and how its gates answered."""
    quality = next(filter(None, map(quality_metric, targets)), None)
    lines = []
    for target in map(hide_time, targets):
        chosen = chosen_row(target)
        shown = (quality or "accuracy", OVERVIEW_TIME)
        found = [metric_of(chosen, name) if chosen else None for name in shown]
        values = [amount(name, item["value"]) if item else DASH for name, item in zip(shown, found, strict=True)]
        if chosen and timing_faults(chosen):
            values[1] += " INVALID"
        tones = [str(verdict.get("status")) for verdict in target.verdicts if verdict.get("severity") != "warn"]
        worst = next((status for status in ("FAIL", "INCONCLUSIVE", "PASS") if status in tones), "")
        name = (
            Cell(chosen.name, small=runtime_name(chosen.runtime), swatch=series_of(chosen.runtime)) if chosen else DASH
        )
        size = bytes_text(chosen.bytes) if chosen and chosen.bytes else DASH
        answer = status_cell(worst) if worst else Cell(DASH)
        lines.append([Cell(target.device, small=target.how), name, *values, size, answer, counts_text(target)])
    score = f"{metric_name(quality or 'accuracy')}, search set"
    heads = ["Target", "Chosen", score, "Latency p50", "Size", "Gates", "Tried"]
    return table(heads, lines, (2, 3, 4), stack=True)


def _merge(row: MergeRow) -> dict[str, Any]:
    name = metric_name(row.metric).lower()
    text = (
        f"Each way to merge against the unmerged model on {count_text(row.n, 'validation case')}; "
        f"the unmerged model's {name} is {amount(row.metric, row.unmerged_value)}. Taken: {row.why}."
    )
    return {"text": text, "table": merge_table(row)}
