"""Two models timed in turns: how many times faster, with the interval, and how far their outputs are apart."""

from __future__ import annotations

from math import isfinite

from edgeft.report.sections import Block, caption, grid, text, wide
from edgeft.report.svg import Scale, element, label, line, picture
from edgeft.report.tables import Cell, Table, table
from edgeft.report.words import DASH, bytes_text, count_text, significant, times_text
from edgeft.targets.profile.record import ComparisonRow

WIDTH, TALL = 960.0, 92.0


def comparison_sentence(row: ComparisonRow | None) -> str:
    """`1.8× faster than other.onnx (1.7× to 1.9×)`; says so where the interval holds 1, or the times are INVALID."""
    if row is None:
        return ""
    if not row.valid:
        return f"Against {row.b}: INVALID times, no comparison."
    if not all(isfinite(value) and value > 0 for value in (row.ratio, *row.interval)):
        return f"Against {row.b}: the times give no ratio."
    inverse = row.ratio < 1
    low, high = row.interval
    if low <= 1 <= high:
        return f"Against {row.b}: no difference shown; {row.b} runs {_range(row)} as fast."
    ends = sorted(1 / end for end in (low, high)) if inverse else [low, high]
    ratio = 1 / row.ratio if inverse else row.ratio
    faster, slower = (row.a, row.b) if inverse else (row.b, row.a)
    return f"{faster} is {ratio:.2f}× as fast as {slower} (95% interval {ends[0]:.2f}× to {ends[1]:.2f}×)."


def comparison_blocks(row: ComparisonRow | None) -> list[Block]:
    """The ratio with its interval, both times, and the outputs' differences."""
    if row is None:
        return []
    if row.sessions:
        taken = f"{row.sessions:,} sessions, each a fresh process with both models"
        over = "Student's interval over sessions: what differs between processes is in it"
    else:
        taken, over = f"{row.blocks:,} quadruples, every block a fresh process", "bootstrap over quadruples"
    words = (
        f"Interleaved blocks A B B A, so that drift of the machine falls on both: {taken}, "
        f"{count_text(row.runs, 'run')}, {row.discarded:,} discarded. Speed of B against A, {over}."
    )
    faults = text(f"INVALID: {'; '.join(row.reasons)}.") if not row.valid else []
    outputs = _outputs_table(row)
    apart = [*text("The same inputs to both: how far their outputs are apart."), *grid(outputs)]
    return [
        *text(words),
        *faults,
        *wide(_plot(row)),
        *grid(_times_table(row)),
        *caption(row.how),
        *(apart if outputs.rows else text(row.why_no_outputs)),
    ]


def _plot(row: ComparisonRow) -> str:
    """The ratio's interval against 1; empty where it is not finite."""
    low, high = row.interval
    if not all(isfinite(value) and value > 0 for value in (low, high, row.ratio)):
        return ""
    ends = (min(low, 1.0), max(high, 1.0))
    room = (ends[1] - ends[0]) * 0.15 or 0.1
    scale = Scale(max(0.0, ends[0] - room), ends[1] + room, 30, WIDTH - 30)
    parts = []
    for value, words in scale.ticks(8):
        x = scale(value)
        parts += [line(x, 22, x, 56, "grid"), label(x, 71, f"{words}×", "tick", "middle")]
    one, tone = scale(1.0), "pass" if row.valid and not low <= 1 <= high else "inconclusive"
    parts += [line(one, 14, one, 56, "mark"), label(one, 11, "equally fast", "tick", "middle")]
    parts += [line(scale(low), 38, scale(high), 38, f"interval {tone}")]
    parts += [element("circle", cx=scale(row.ratio), cy=38, r=5.5, class_=f"estimate {tone}")]
    parts.append(label(WIDTH / 2, TALL - 4, f"speed of {row.b} against {row.a}", "name", "middle"))
    title = f"{row.b} runs {_range(row)} as fast as {row.a}"
    return picture(WIDTH, TALL, title, *parts)


def _times_table(row: ComparisonRow) -> Table:
    body: list[list[Cell | str]] = [
        [Cell(f"A: {row.a}", kind="name"), f"{significant(row.a_ms)} ms", bytes_text(row.a_bytes)],
        [Cell(f"B: {row.b}", kind="name"), f"{significant(row.b_ms)} ms", bytes_text(row.b_bytes)],
    ]
    return table(["Model", "Median", "Size"], body, (1, 2))


def _outputs_table(row: ComparisonRow) -> Table:
    body: list[list[Cell | str]] = [
        [
            Cell(part.name, small=f"against {part.against}" if part.against != part.name else "", kind="name"),
            f"{part.n:,}",
            significant(part.max_abs),
            significant(part.mean_abs),
            f"{part.top1_agreement:.2%}" if part.top1_agreement is not None else DASH,
        ]
        for part in row.outputs
    ]
    heads = ["Output", "Cases", "Largest difference", "Mean difference", "Same top class"]
    return table(heads, body, (1, 2, 3, 4), stack=True)


def _range(row: ComparisonRow) -> str:
    return f"{times_text(row.ratio)} ({row.interval[0]:.2f}× to {row.interval[1]:.2f}×)"
