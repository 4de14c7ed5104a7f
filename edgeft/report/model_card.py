"""model_card.md: Markdown with the front matter that the Hugging Face hub reads."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from math import isfinite
from typing import Any

from edgeft.metric_names import is_share
from edgeft.record import CandidateRow, RunRecord, TargetRow
from edgeft.report.figures import chosen_row, metric_of
from edgeft.report.pruning import pruning_sentence
from edgeft.report.roofline import distance_text
from edgeft.report.summary import counts_text, target_sentence
from edgeft.report.validity import hide_time, timing_faults
from edgeft.report.verdicts import account_text
from edgeft.report.words import (
    DASH,
    OUTCOMES,
    amount,
    count_text,
    interval_text,
    metric_name,
    runtime_name,
    significant,
)
from edgeft.ship.licences import SEE_TEXT, UNKNOWN

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
PIPELINES = {"text-classification", "image-classification", "image-segmentation", "text-generation"}


def render_model_card(record: RunRecord, target: TargetRow, licence: tuple[str, str] = (UNKNOWN, "nowhere")) -> str:
    """The card of one target's artefact: what it is, how good, how measured, what is not known. Pure.

    licence: the base model's, and where it is stated.
    """
    target = hide_time(target)
    chosen = chosen_row(target)
    parts = [
        _front_matter(record, target, licence[0]),
        f"# {_inline(record.name)} for {_inline(target.device)}",
        _inline(record.description),
        f"**{OUTCOMES[record.status][0]}**: {_inline(target_sentence(target))}.",
        *_model(record, chosen),
        *_data(record),
        *_quality(target),
        *_measured(target, chosen),
        *_verdicts(target),
        *_limits(record, target, licence),
    ]
    text = "\n\n".join(part for part in parts if part) + "\n"
    return text.encode("utf-8", "replace").decode("utf-8")


def _front_matter(record: RunRecord, target: TargetRow, licence: str) -> str:
    """YAML whose values are JSON strings, which YAML reads as they are: no content can break out of them."""
    # The hub's word for a licence that is a text of its own.
    named = json.dumps("other" if licence == SEE_TEXT else licence)
    lines = [f"license: {named}", f"tags: {json.dumps(['edgeft', record.task, target.device])}"]
    if record.task in PIPELINES:
        lines.append(f"pipeline_tag: {json.dumps(record.task)}")
    elif record.task in ("segmentation", "volume-segmentation"):
        lines.append(f"pipeline_tag: {json.dumps('image-segmentation')}")
    base = record.model.get("path")
    if isinstance(base, str) and HUB_ID.fullmatch(base):
        lines.append(f"base_model: {json.dumps(base)}")
    if target.gate_set:
        found = [
            {"type": name, "value": value}
            for name, value in sorted(target.gate_set.artefact.items())
            if isfinite(value)
        ]
        data = {"name": record.data.source if record.data else "unknown", "type": "private"}
        result = {"task": {"type": record.task}, "dataset": data, "metrics": found}
        lines.append(f"metrics: {json.dumps([item['type'] for item in found])}")
        lines.append(f"model-index: {json.dumps([{'name': record.name, 'results': [result]}])}")
    return "\n".join(["---", *lines, "---"])


def _model(record: RunRecord, chosen: CandidateRow | None) -> list[str]:
    rows = [["Task", record.task], ["Recipe", record.recipe], ["Made by", f"edgeft {record.edgeft}"]]
    rows += [[f"Source {key}", _fact(value)] for key, value in sorted(record.model.items())]
    if chosen:
        rows += [["Artefact", f"{chosen.name} for {runtime_name(chosen.runtime)}"], ["SHA-256", chosen.digest or DASH]]
    for run in record.training:
        rows.append(["Fine-tuned", f"{run.method}, {count_text(run.steps, 'step')}, {significant(run.epochs)} epochs"])
    rows += [["Pruned", pruning_sentence(row)] for row in record.pruning]
    return ["## Model", _table(["", ""], rows)]


def _data(record: RunRecord) -> list[str]:
    if not record.data:
        return []
    rows = [[row.name, f"{row.n:,}", f"{row.units:,}", row.digest[:12]] for row in record.data.splits]
    labels = ", ".join(_inline(name) for name in record.data.labels[:50])
    more = f" and {len(record.data.labels) - 50} more" if len(record.data.labels) > 50 else ""
    classes = f"Classes: {labels}{more}." if labels else "No labels: next tokens are predicted."
    return [
        "## Data",
        f"{_inline(record.data.source)}. {classes}",
        _table(["Split", "Rows", f"Units ({record.data.unit})", "Digest"], rows),
    ]


def _quality(target: TargetRow) -> list[str]:
    gates = target.gate_set
    if not gates:
        return ["## Quality", "The gate set was not opened for this target."]
    rows = []
    for name in sorted({*gates.artefact, *gates.source}):
        after = gates.artefact.get(name)
        rows.append([metric_name(name), amount(name, gates.source.get(name)), amount(name, after), _loss(target, name)])
    flips = f"{gates.flips.get('lost', 0):,} cases lost and {gates.flips.get('gained', 0):,} gained against the source."
    units = f" in {count_text(gates.units, 'unit')}" if gates.units != gates.n else ""
    heads = ["Metric", "Source", "This artefact", "Loss, interval"]
    return [
        "## Quality",
        f"On the sealed gate set, {count_text(gates.n, 'case')}{units}, "
        f"{target.how} on {_inline(target.device)}: {flips}",
        _table(heads, rows),
    ]


def _loss(target: TargetRow, metric: str) -> str:
    """The interval of the loss as its gate decided on it."""
    whole = [(verdict.get("parts") or [verdict])[0] for verdict in target.verdicts]
    for verdict in whole:
        against_source = " than source " in str(verdict.get("gate", ""))
        if verdict.get("metric") == metric and against_source and verdict.get("quantity") == f"loss of {metric}":
            interval = verdict.get("interval")
            if interval and is_share(metric):
                return f"{interval[0] * 100:.1f} to {interval[1] * 100:.1f} points"
            return interval_text(metric, interval)
    return DASH


def _measured(target: TargetRow, chosen: CandidateRow | None) -> list[str]:
    if chosen is None:
        return []
    rows = []
    for name in dict.fromkeys(str(item.get("metric")) for item in chosen.metrics):
        item = metric_of(chosen, name)
        if item is None:
            continue
        interval = interval_text(name, item.get("interval")) or DASH
        how = f"{item.get('how', '')} on {item.get('where', '')}"
        rows.append(
            [
                metric_name(name),
                amount(name, item["value"], str(item.get("unit", ""))),
                interval,
                f"{item.get('n', 0):,}",
                how,
            ]
        )
    heads = ["Metric", "Value", "Interval", "n", "How"]
    return [
        "## Measured",
        "Quality here is of the search set, on which the candidate was chosen.",
        _table(heads, rows),
        *_timed(chosen),
        f"Tried on this target: {_inline(counts_text(target))}",
    ]


def _timed(row: CandidateRow) -> list[str]:
    """How times were taken, whether they may be believed, what bounds them, where nodes ran."""
    lines, part = [], row.latency
    if part:
        faults = timing_faults(row)
        verdict = f"INVALID: {_inline('; '.join(faults))}" if faults else "VALID"
        lines.append(
            f"Latency: {count_text(part.runs, 'run')} of shape {_inline(part.shape)} "
            f"after {part.warmup_runs:,} to warm up, {part.discarded:,} discarded, "
            f"{count_text(part.threads, 'thread')}, {_inline(part.protocol)} protocol. Times are {verdict}."
        )
        if part.early_stopping_p90_ms is not None:
            bound = significant(part.early_stopping_p90_ms)
            lines.append(f"MLPerf early stopping: the 90th percentile is below {bound} ms at confidence 0.99.")
    if row.roofline and (distance := distance_text(row)):
        floor = significant(row.roofline.floor_ms)
        lines.append(f"Estimated: p50 is {distance} the least time of {floor} ms that the device's own rates allow.")
    if row.fallback is not None:
        lines.append(
            f"Left by the accelerator or delegate to the runtime's own CPU kernels: {row.fallback:.1%} of the nodes."
        )
    return [*lines, *(_inline(note) for note in row.notes)]


def _verdicts(target: TargetRow) -> list[str]:
    rows = []
    for verdict in target.verdicts:
        warns = " (warns only)" if verdict.get("severity") == "warn" else ""
        row = [verdict.get("status", ""), f"{verdict.get('gate', '')}{warns}", verdict.get("why", "")]
        rows.append([str(item) for item in (*row, account_text(verdict))])
    heads = ["Verdict", "Gate", "Why", "Owner of the limit and reason"]
    return ["## Gates", _table(heads, rows) if rows else "No gate was decided."]


def _limits(record: RunRecord, target: TargetRow, licence: tuple[str, str]) -> list[str]:
    items = [
        "Evidence is of the data and the device named above; other data and other devices need their own.",
        _licence_text(licence, "; licences.json has what is stated" if record.status == "passed" else ""),
    ]
    if record.status == "passed":
        items.append("Built again, every file is the same bytes but for those that reproduce.json lists as different.")
    if target.how == "emulated":
        items.append("The device was emulated: quality is real, latency and memory are not known.")
    if target.not_run:
        items.append(f"{target.not_run[0].upper()}{target.not_run[1:]}.")
    if len(record.openings) > 1:
        items.append(f"The gate set had been opened {len(record.openings)} times; each opening weakens it as evidence.")
    for part in target.differences:
        if part.candidate == target.chosen:
            far = f"differ by up to {significant(part.max_abs)} over {count_text(part.n, 'case')}"
            files = f"The same candidate in other bytes ({part.other_bytes})" if part.other_bytes else "The same files"
            items.append(f"{files} on {target.device} and on {part.against} {far} in their outputs.")
    items += record.warnings
    items += record.data.warnings if record.data else []
    return ["## Limits", "\n".join(f"- {_inline(text)}" for text in items)]


def _licence_text(licence: tuple[str, str], more: str) -> str:
    """What is known of the licence, and that a base model's is not the whole answer."""
    words, stated = licence
    if words == UNKNOWN:
        return f"The licence is not known to edgeft: it follows from the base model and the data{more}."
    return f"The licence above is the base model's ({words}, {stated}); what the data's asks comes on top{more}."


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(
        "| " + " | ".join(item if item == "---" else _inline(item) for item in row) + " |" for row in lines
    )


def _inline(text: str) -> str:
    """Text of a record as Markdown text: one line, no markup, no HTML."""
    flat = " ".join(str(text).split())
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", flat)


def _fact(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
