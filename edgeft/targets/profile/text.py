"""A profile or a comparison as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgeft.record import OperatorRow
from edgeft.targets.profile.record import CompareRecord, ComparisonRow, ModelRow, ProfileRecord

TOP = 8
LABEL = 18
LEVEL = 0.01
"""Times this close are called level whatever the interval: where a model lies in memory alone moves them by half of it
(0.5% measured between two copies of one file)."""
NAMES = {
    "latency_p50_ms": "p50", "latency_p90_ms": "p90", "latency_p99_ms": "p99", "cold_load_ms": "cold load",
    "first_inference_ms": "first inference", "peak_memory_mb": "peak memory",
}  # fmt: skip


def profile_lines(record: ProfileRecord) -> list[str]:
    """Verdict first, then times, start-up, placement, operators, floor and conditions."""
    row = record.latency
    lines = [f"{record.verdict}  {record.model.file} on {record.device}, {record.model.runtime}, {row.shape}"]
    lines += [f"  because {reason}" for reason in record.reasons]
    lines += [
        _line("inputs", record.inputs),
        _line("runs", f"{row.runs} in {row.seconds:.1f} s, {row.discarded} void, {record.threads} thread(s), "
              f"{record.protocol} protocol"),
    ]  # fmt: skip
    lines += [_metric(data) for data in record.metrics if data["metric"] in NAMES]
    if row.early_stopping_p90_ms is not None:
        lines.append(_line("MLPerf p90", f"{row.early_stopping_p90_ms:.4g} ms (early stopping, confidence 0.99)"))
    lines.append(_line("size", f"{record.model.bytes / 1e6:.4g} MB"))
    if record.placement:
        nodes = ", ".join(f"{count} on {name}" for name, count in record.placement.items())
        left = "" if record.fallback is None else f"; {record.fallback:.0%} left to the runtime's own CPU kernels"
        lines.append(_line("placement", f"nodes: {nodes}{left}"))
    lines += _operators(record.operators, record.operators_note)
    if record.roofline is not None:
        floor = record.roofline
        far = "" if floor.distance is None else f", p50 is {floor.distance:.2f} times that"
        lines.append(_line("floor (estimated)", f"{floor.floor_ms:.4g} ms{far}; {floor.basis}"))
    else:
        lines.append(_line("floor (estimated)", f"none: {record.roofline_note}"))
    lines += [_line(name.replace("_", " "), text) for name, text in row.conditions.items()]
    lines += [_line(name, record.conditions[name]) for name in ("processor", "system") if record.conditions.get(name)]
    if record.comparison is not None:
        lines += ["", *comparison_lines(record.comparison)]
    return lines


def compare_lines(record: CompareRecord) -> list[str]:
    """Sizes, then each comparison with the first."""
    lines = [f"on {record.device}, {record.threads} thread(s), batch {record.batch}", _line("inputs", record.inputs)]
    lines += [_line("model", _model(model)) for model in record.models]
    for row in record.comparisons:
        lines += ["", *comparison_lines(row)]
    return lines


def comparison_lines(row: ComparisonRow) -> list[str]:
    """One pair: verdict, ratio with its interval, sizes, outputs."""
    low, high = row.interval
    level = low <= 1 + LEVEL and high >= 1 - LEVEL
    said = "level with" if level else ("faster than" if row.ratio > 1 else "slower than")
    ratio = row.ratio if row.ratio >= 1 else 1 / row.ratio
    ends = (low, high) if row.ratio >= 1 else (1 / high, 1 / low)
    times = "" if level else f" {ratio:.2f} times"
    lines = [
        f"{'VALID' if row.valid else 'INVALID'}  {row.b} is{times} {said} {row.a}",
        *(f"  because {reason}" for reason in row.reasons),
        _line("medians", f"{row.b_ms:.4g} ms against {row.a_ms:.4g} ms"),
        _line("ratio", f"{ratio:.3f} (95% {ends[0]:.3f} to {ends[1]:.3f}), {_taken(row)}, {row.runs} runs; {row.how}"),
        _line("size", f"{row.b_bytes / 1e6:.4g} MB against {row.a_bytes / 1e6:.4g} MB"),
    ]  # fmt: skip
    for output in row.outputs:
        top = "" if output.top1_agreement is None else f", top-1 agrees on {output.top1_agreement:.1%}"
        far = f"max {output.max_abs:.3g}, mean {output.mean_abs:.3g}"
        lines.append(_line("output", f"{output.name}: {far} over {output.n} cases{top}"))
    if row.why_no_outputs:
        lines.append(_line("outputs", f"not compared: {row.why_no_outputs}"))
    return lines


def _taken(row: ComparisonRow) -> str:
    if row.sessions:
        return f"{row.sessions} sessions of blocks A B B A, {row.discarded} more void"
    return f"{row.blocks} quadruples A B B A, {row.discarded} more void"


def _metric(data: dict[str, Any]) -> str:
    span = data["interval"]
    ends = f" (95% {span[0]:.4g} to {span[1]:.4g})" if span else " (too few runs for an interval)"
    return _line(NAMES[data["metric"]], f"{data['value']:.4g} {data['unit']}{ends}")


def _operators(rows: Sequence[OperatorRow], note: str) -> list[str]:
    if not rows:
        return [_line("operators", f"none: {note}")] if note else []
    top = sorted(rows, key=lambda row: -row.ms)[:TOP]
    rest = sum(row.ms for row in rows) - sum(row.ms for row in top)
    lines = [_line("operators", f"{len(rows)}, profiled in a run of its own; the slowest:")]
    lines += [f"    {row.ms:8.4f} ms {row.share:6.1%}  {row.op}  {row.name[-60:]}" for row in top]
    return [*lines, f"    {rest:8.4f} ms in the others"] if len(rows) > len(top) else lines


def _model(model: ModelRow) -> str:
    return f"{model.file} ({model.runtime}, {model.bytes / 1e6:.4g} MB, sha256 {model.sha256[:12]})"


def _line(name: str, text: str) -> str:
    return f"  {name:<{LABEL}} {text}"
