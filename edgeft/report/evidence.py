"""Blocks of one kind of evidence each: latency, conditions, operators, placement, roofline. For builds and profiles."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import CandidateRow, ProbeRow, TargetRow
from edgeft.report.candidates import latency_table
from edgeft.report.conditions import conditions_table, placement_table, shared_text
from edgeft.report.ecdf import curves_of, plot_ecdf
from edgeft.report.operators import backend_series, group_operators, longest_table, plot_operators
from edgeft.report.roofline import bases, is_below, plot_roofline, probe_table, roofline_table, with_roofline
from edgeft.report.sections import Block, Plot, caption, figures, folded, grid, safe, text, wide
from edgeft.report.words import count_text, significant

OPEN = 4
"""Operator profiles laid out at once; more of them are folded away behind these."""
EARLY = (
    " “p90 bound” is MLPerf's early stopping: the 90th percentile is below it at confidence 0.99; "
    "it needs 64 runs or more."
)


def latency_blocks(target: TargetRow) -> list[Block]:
    """Distributions of all candidates in one plot, their percentiles in a table."""
    curves = curves_of(target.candidates)
    if not curves:
        return []
    parts = [curve.row.latency for curve in curves if curve.row.latency]
    shapes = ", ".join(sorted({part.shape for part in parts}))
    threads = ", ".join(count_text(number, "thread") for number in sorted({part.threads for part in parts}))
    numbers = " Numbers on the curves are those of the table, fastest first." if len(curves) > 1 else ""
    words = f"Single runs, shape {shapes}, {threads}.{numbers}"
    note = "Heights follow the normal distribution, so that the tail can be read; marks are p50, p90 and p99."
    bound = EARLY if any(part.early_stopping_p90_ms is not None for part in parts) else ""
    runs = latency_table(curves, target.chosen)
    return [*text(words), *wide(plot_ecdf(target, curves)), *caption(note + bound), *grid(runs)]


def conditions_blocks(rows: Sequence[CandidateRow]) -> list[Block]:
    """Whether each candidate's times may be believed, and why not."""
    table = conditions_table(rows)
    if not table.rows:
        return []
    words = (
        "Between blocks of runs a fixed piece of work, the sentinel, is timed: where it takes over 10% longer than "
        "at the core's own speed (reached by a tenth of the readings), the block beside it is "
        "discarded and timed anew. "
        "A time that is INVALID fails no gate: interference only slows."
    )
    return [*text(words), *grid(table), *caption(shared_text(rows))]


def operators_blocks(rows: Sequence[CandidateRow]) -> list[Block]:
    """Bars per candidate, first come first, the single operators folded away."""
    profiled = [row for row in rows if group_operators(row.operators)]
    if not profiled:
        return []
    colours = backend_series(rows)
    used = {item.backend for row in profiled for item in row.operators}
    keys = [(f"block s{colours[name]}", name) for name in sorted(used) if name in colours]
    plots = [_plot(row, colours) for row in profiled]
    words = "From a profile in a run of its own, which is slower than the timed ones: the shares matter, not the sums."
    blocks = [*text(words), *([Block("keys", keys=keys)] if keys else []), *figures(plots[:OPEN], "bars")]
    blocks += folded(f"Operators of {count_text(len(plots) - OPEN, 'other candidate')}", figures(plots[OPEN:], "bars"))
    singles = [block for row in profiled[:1] for block in grid(longest_table(row.operators))]
    return [*blocks, *folded(f"The longest single operators of {profiled[0].name}", singles)]


def placement_blocks(rows: Sequence[CandidateRow]) -> list[Block]:
    """Where nodes ran, and what a delegate left."""
    table = placement_table(rows, backend_series(rows))
    words = "Nodes by the backend that really ran them, as the runtime's own profile says."
    return [*text(words), *grid(table)] if table.rows else []


def roofline_blocks(rows: Sequence[CandidateRow], probe: ProbeRow | None) -> list[Block]:
    """Estimated floors against measured times, with what they rest on."""
    if not with_roofline(rows):
        return [*grid(probe_table(probe)), *caption(probe.how)] if probe else []
    words = (
        "Estimated, and never gated: the least time that the device's own peak rates allow, summed over operators, "
        "each at the larger of its compute and its memory time. The upright tick is the floor, the mark is the p50."
    )
    blocks = [*text(words), *wide(plot_roofline(rows)), *grid(roofline_table(rows))]
    found = bases(rows)
    blocks += caption(f"Basis: {found[0]}.") if len(found) == 1 else []
    blocks += [*caption("Basis, by candidate:"), Block("list", texts=found)] if len(found) > 1 else []
    if any(is_below(row) for row in rows):
        blocks += caption("A distance below 1× means that a rate was probed too low or work was counted too high.")
    return [*blocks, *(grid(probe_table(probe)) + caption(probe.how) if probe else [])]


def _plot(row: CandidateRow, colours: dict[str, int]) -> Plot:
    total = sum(bar.ms for bar in group_operators(row.operators))
    nodes = count_text(len(row.operators), "operator")
    return Plot(safe(plot_operators(row, colours)), row.name, f"{nodes}, {significant(total)} ms in the profile.")
