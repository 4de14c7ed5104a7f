"""What a bundle's gates were decided on, for programs: verdicts, every case of the gate set, every timed run."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from edgeft.data.labels import SEPARATOR
from edgeft.data.table import column_array
from edgeft.pipeline.build import Build
from edgeft.pipeline.judging.gatekeeping import gates_for
from edgeft.pipeline.judging.scoring import answered_rows, score_both
from edgeft.pipeline.judging.trial import Trial
from edgeft.record import CandidateRow, RunRecord, TargetRow
from edgeft.ship.provenance import name_hash

if TYPE_CHECKING:
    import pyarrow as pa

    from edgeft.task import Score

TIMES = ("latency", "processor", "cold_load", "first_inference", "peak_memory", "artifact_mb", "energy")


def gates_json(record: RunRecord, row: TargetRow) -> dict[str, Any]:
    """Verdicts of one target, what they were decided on, and how often the gate set had been opened."""
    return {
        "name": record.name,
        "device": row.device,
        "status": record.status,
        "how": row.how,
        "chosen": row.chosen,
        "why": row.why,
        "verdicts": row.verdicts,
        "gate_set": row.gate_set.model_dump(mode="json") if row.gate_set else None,
        "openings": [opening.model_dump(mode="json") for opening in record.openings],
        "source": record.source,
        "warnings": record.warnings,
    }


def latency_json(row: TargetRow) -> dict[str, Any]:
    """Runtime -> its candidates with every timed run and the conditions; none where the device is emulated."""
    runtimes: dict[str, list[dict[str, Any]]] = {}
    for candidate in row.candidates:
        runtimes.setdefault(candidate.runtime, []).append(_times(candidate))
    return {"device": row.device, "how": row.how, "conditions": row.conditions, "runtimes": runtimes}


def _times(row: CandidateRow) -> dict[str, Any]:
    return {
        "name": row.name,
        "status": row.status,
        "why": row.why,
        "digest": row.digest,
        "bytes": row.bytes,
        "latency": row.latency.model_dump(mode="json") if row.latency else None,
        "metrics": [item for item in row.metrics if str(item["metric"]).startswith(TIMES)],
        "placement": row.placement,
    }


def cases_csv(build: Build, trial: Trial, salt: bytes) -> str | None:
    """One line per case of the gate set; None where it stayed sealed. Rows and units are salted hashes."""
    outputs = build.executor.done.get(f"gate/{trial.candidate.id}")
    dataset = build.executor.dataset
    if outputs is None or dataset is None:
        return None
    rows = answered_rows(build.executor, "gate", None, outputs)
    gates = gates_for(build.loaded.recipe.gates, trial.candidate.device.name)
    ours, theirs = score_both(build.executor, outputs, "gate", rows, gates)
    columns = _columns(rows, salt, list(dataset.facts["labels"]), ours, theirs)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    return text.getvalue()


def _columns(rows: pa.Table, salt: bytes, labels: list[str], ours: Score, theirs: Score) -> Mapping[str, list[Any]]:
    """Truth and answers by label; of a task without a label per case (a class per pixel, next tokens) values alone."""
    columns: dict[str, list[Any]] = {
        name: [name_hash(salt, value) for value in rows.column(key).to_pylist()]
        for name, key in (("row", "id"), ("unit", "unit"))
    }
    if "mask_at" not in rows.column_names and labels:
        several = ours.present is not None
        columns["truth"] = [_named(code, labels, several) for code in column_array(rows, "label").tolist()]
        columns["source"] = [_named(code, labels, several) for code in theirs.predictions.tolist()]
        columns["artefact"] = [_named(code, labels, several) for code in ours.predictions.tolist()]
    columns["source_right"] = [int(right) for right in theirs.correct]
    columns["artefact_right"] = [int(right) for right in ours.correct]
    for metric, values in sorted(ours.cases.items()):
        columns[f"source_{metric}"] = [repr(float(value)) for value in theirs.cases[metric]]
        columns[f"artefact_{metric}"] = [repr(float(value)) for value in values]
    return columns


def _named(code: int, labels: list[str], several: bool) -> str:
    """The label at this place, or those of these bits where a case has several."""
    if not several:
        return plain_cell(labels[code])
    return plain_cell(SEPARATOR.join(label for place, label in enumerate(labels) if code >> place & 1))


def plain_cell(text: str) -> str:
    """Text that a spreadsheet does not take for a formula: what begins like one gets an apostrophe in front."""
    return f"'{text}" if text.strip()[:1] in ("=", "+", "-", "@") else text
