"""What a record says in sentences; the terminal, the report and the model card draw from here."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from edgeft.metric_names import HEADLINES
from edgeft.record import CandidateRow, RunRecord, TargetRow
from edgeft.report.figures import chosen_row, key_figures, ratio_text, size_ratio, speed_up
from edgeft.report.roofline import distance_text
from edgeft.report.search import search_lines
from edgeft.report.validity import NEVER_RAN, hide_time, timing_faults
from edgeft.report.words import OUTCOMES, amount, count_text, metric_name, runtime_name, seconds_text, significant

STATES = ("eligible", "rejected", "unsupported", "failed")
MOST_REFUSED = 6
"""Candidates that could not run which the terminal names; the report names all."""


def target_sentence(target: TargetRow) -> str:
    """`int8-dynamic in ONNX Runtime on local-cpu: 2.6× faster and 3.9× smaller than the float export, accuracy ...`."""
    chosen = chosen_row(target)
    if chosen is None:
        return f"no candidate was chosen for {target.device}" + (f": {target.why}" if target.why else "")
    parts = []
    speed, size = speed_up(target), size_ratio(target)
    ratios = [ratio_text(speed, "faster", "slower")] if speed else []
    ratios += [ratio_text(size, "smaller", "larger")] if size else []
    if ratios:
        parts.append(f"{' and '.join(ratios)} than the float export")
    if target.gate_set:
        for metric in HEADLINES:
            if metric in target.gate_set.artefact and metric in target.gate_set.source:
                after, before = target.gate_set.artefact[metric], target.gate_set.source[metric]
                parts.append(f"{metric_name(metric).lower()} {amount(metric, after)} vs {amount(metric, before)}")
                break
    emulated = " (emulated)" if target.how == "emulated" and "emulated" not in target.device else ""
    place = f"{chosen.name} in {runtime_name(chosen.runtime)} on {target.device}{emulated}"
    return f"{place}: {', '.join(parts)}" if parts else place


def reasons(record: RunRecord) -> list[str]:
    """Why the build may not ship, most decisive first: the error, then what did not pass; empty if it may."""
    if record.status == "passed":
        return []
    rows = [record.error.what] if record.error else []
    for status in ("FAIL", "INCONCLUSIVE"):
        for target in record.targets:
            for verdict in target.verdicts:
                if verdict.get("status") == status and verdict.get("severity") != "warn":
                    rows.append(f"{target.device}: {verdict.get('why', '')}")
    if not record.error:
        rows += [f"{row.device}: {row.why}" for row in record.targets if row.candidates and not row.chosen and row.why]
    return rows


def summary_lines(record: RunRecord, *, report: str = "") -> list[str]:
    """The end of a build as plain text: outcome, each target's choice and verdicts, where the report lies."""
    word, rest = OUTCOMES[record.status]
    lines = [f"{word}: {record.name}: {rest} ({seconds_text(record.wall_seconds)})"]
    if record.error:
        place = f"{record.error.where}: " if record.error.where else ""
        lines.append(f"  error: {place}{record.error.what}")
        lines += [f"    {line}" for line in record.error.excerpt.splitlines()]
        lines += [f"  hint: {record.error.hint}"] if record.error.hint else []
    for target in map(hide_time, record.targets):
        if target.chosen or record.status in (
            "failed",
            "inconclusive",
        ):  # an error or a stop comes before the choice, and says so itself
            lines.append(f"  {target_sentence(target)}")
        for figure in key_figures(target):
            detail = ", ".join(text for text in (figure.note, figure.how, figure.interval) if text)
            lines.append(f"    {figure.label.lower()}: {figure.value}" + (f" ({detail})" if detail else ""))
        lines += [f"    {text}" for text in evidence_lines(target)]
        for verdict in target.verdicts:
            mark = " (warn)" if verdict.get("severity") == "warn" else ""
            lines.append(f"    {verdict.get('status', '?')}{mark}  {verdict.get('why', '')}")
        lines += [f"    files: {target.folder} ({signature_text(target)})"] if target.folder else []
    lines += [f"  warning: {text}" for text in record.warnings]
    lines += [f"report: {report}"] if report else []
    return [clean_line(line) for line in lines]


def signature_text(target: TargetRow) -> str:
    """Who vouches for the bundle: `signed by key 3f2a...`, or plainly that nobody does."""
    return f"signed by key {target.signed_by}" if target.signed_by else "not signed"


def counts_text(target: TargetRow) -> str:
    """`15 candidates in 5 runtimes: 10 eligible, 2 rejected, 2 unsupported, 1 failed.`; the chosen one is eligible."""
    if not target.candidates:
        return ""
    counts: Counter[str] = Counter("eligible" if row.status == "chosen" else row.status for row in target.candidates)
    runtimes = len({row.runtime for row in target.candidates})
    said = ", ".join(f"{counts[name]} {name}" for name in STATES if counts[name])
    return f"{count_text(len(target.candidates), 'candidate')} in {count_text(runtimes, 'runtime')}: {said}."


def evidence_lines(target: TargetRow) -> Iterator[str]:
    """What a reader of the terminal must know beside the figures: what was tried, refused, INVALID, left over."""
    chosen = chosen_row(target)
    if target.not_run:
        yield target.not_run
    if len(target.candidates) > 1:
        yield f"tried: {counts_text(target).rstrip('.')}"
    if target.gate_set and target.gate_set.rule:
        yield f"without a network: {target.gate_set.rule}, fitted on the train split"
    invalid = [row for row in target.candidates if timing_faults(row)]
    for row in sorted(invalid, key=lambda row: row is not chosen)[:MOST_REFUSED]:
        yield f"INVALID times: {row.name}: {'; '.join(timing_faults(row))}"
    refused = [row for row in target.candidates if row.status in NEVER_RAN]
    for row in refused[:MOST_REFUSED]:
        yield f"{row.status}: {row.name}: {row.why}"
    more = max(0, len(refused) - MOST_REFUSED) + max(0, len(invalid) - MOST_REFUSED)
    if more:
        yield f"and {more} more, in the report"
    if chosen:
        yield from _of_chosen(chosen, target)
    yield from search_lines(target)


def _of_chosen(row: CandidateRow, target: TargetRow) -> Iterator[str]:
    if row.fallback:
        yield f"left to the runtime's own CPU kernels: {row.fallback:.1%} of the nodes"
    if row.roofline and (distance := distance_text(row)):
        yield f"roofline: {distance} a floor of {significant(row.roofline.floor_ms)} ms (estimated)"
    for part in target.differences:
        if part.candidate == row.name:
            same = f", {part.top1_agreement:.1%} the same top class" if part.top1_agreement is not None else ""
            far = f"largest difference {significant(part.max_abs)}"
            apart = f", other bytes: {part.other_bytes}" if part.other_bytes else ""
            yield f"against {part.against}: {far}{same} ({count_text(part.n, 'case')}{apart})"


def clean_line(line: str) -> str:
    """Without control characters: a label or an error text must not steer the terminal."""
    return "".join(char if char.isprintable() else " " for char in line)
