"""report.html: one file that works offline, prints, and runs no script."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING, Any

from edgeft.record import MergeRow, RunRecord, TrainingRow
from edgeft.report.plots import training_plots
from edgeft.report.summary import reasons
from edgeft.report.tables import (
    classes_table,
    facts_table,
    merge_table,
    openings_table,
    splits_table,
    steps_table,
)
from edgeft.report.views import view_target
from edgeft.report.words import OUTCOMES, amount, count_text, metric_name, seconds_text, significant

if TYPE_CHECKING:
    from jinja2 import Environment

TONES = {
    "passed": "pass",
    "failed": "fail",
    "inconclusive": "inconclusive",
    "error": "error",
    "interrupted": "neutral",
    "stopped": "neutral",
}
MARKS = {"passed": "✓", "failed": "✕", "inconclusive": "?", "error": "!", "interrupted": "‖", "stopped": "■"}


def render_html(record: RunRecord) -> str:
    """The whole report. Pure: the same record gives the same text; its content is escaped, whatever it says,
    and always encodable as UTF-8."""
    page = _environment().get_template("report.html.j2").render(page=_page(record))
    return page.encode("utf-8", "replace").decode("utf-8")


def _environment() -> Environment:
    from jinja2 import Environment, FunctionLoader, StrictUndefined

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
    from markupsafe import Markup

    word, rest = OUTCOMES[record.status]
    labels = record.data.labels if record.data else []
    page: dict[str, Any] = {
        "record": record,
        "css": Markup((files("edgeft.report") / "report.css").read_text(encoding="utf-8")),  # noqa: S704 - our own file
        "word": f"{MARKS[record.status]} {word}",
        "rest": rest,
        "tone": TONES[record.status],
        "meta": _meta(record),
        "reasons": [text for text in reasons(record) if not record.error or text != record.error.what],
        "targets": [view_target(row, index, labels) for index, row in enumerate(record.targets)],
        "openings": openings_table(record.openings),
        "training": [_training(row) for row in record.training],
        "merge": _merge(record.merge) if record.merge else None,
        "data": None,
        "steps": steps_table(record.steps) if record.steps else None,
        "environment": facts_table("Environment", record.environment),
        "model": facts_table("Model", record.model),
    }
    if record.data:
        classes = count_text(len(labels), "class", "classes")
        text = f"{record.data.source}; {classes}; statistics count by {record.data.unit}."
        page["data"] = {"text": text, "splits": splits_table(record.data), "classes": classes_table(record.data)}
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
    found = [(target["id"], target["title"]) for target in page["targets"]]
    sections = [
        ("openings", "Gate set openings", record.openings),
        ("training", "Training", record.training),
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
        f"in micro-batches of {row.micro_batch}{memory}."
    )
    plots = [Markup(plot) for plot in training_plots(row)]  # noqa: S704 - built by svg.py, which escapes
    return {"title": f"{row.step}: {row.method}", "text": text, "plots": plots}


def _merge(row: MergeRow) -> dict[str, Any]:
    name = metric_name(row.metric).lower()
    text = (
        f"Each way to merge against the unmerged model on {count_text(row.n, 'validation case')}; "
        f"the unmerged model's {name} is {amount(row.metric, row.unmerged_value)}. Taken: {row.why}."
    )
    return {"text": text, "table": merge_table(row)}
