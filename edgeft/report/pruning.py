"""What a pruning step removed, what it cost and what healing gave back, as blocks of the report."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import PruneRow, RatioSearch
from edgeft.report.plots import training_plots
from edgeft.report.sections import Block, Plot, caption, figures, folded, grid, safe, text
from edgeft.report.tables import Cell, Table, table
from edgeft.report.words import DASH, amount, bytes_text, count_text, metric_name, seconds_text, significant

OPEN_WIDTHS = 12
"""Longer tables of widths are folded away."""


def pruning_blocks(row: PruneRow) -> list[Block]:
    """One step: a sentence, its size and scores, each part's width, the ratio search, the heal curves."""
    widths = grid(_widths(row))
    if len(row.widths) > OPEN_WIDTHS:
        widths = folded(f"What is left of {count_text(len(row.widths), 'part')}", widths)
    return [
        *text(f"Chosen by {row.importance}."),
        *grid(_sizes(row), _scores(row)),
        *([Block("list", texts=row.notes)] if row.notes else []),
        *widths,
        *(_search(row.search) if row.search else []),
        *_heals(row),
    ]


def pruning_sentence(row: PruneRow) -> str:
    """`structured, 22.7 to 17.1 million parameters, 1.36 to 0.81 GMAC`: for the model card."""
    parts = [row.method]
    before, after = row.parameters
    if before != after:
        parts.append(f"{significant(before / 1e6)} to {significant(after / 1e6)} million parameters")
    if row.macs and row.macs[0] != row.macs[1]:
        parts.append(f"{significant(row.macs[0] / 1e9)} to {significant(row.macs[1] / 1e9)} GMAC a case")
    if row.compressed:
        squeezed = " to ".join(bytes_text(size) for size in row.compressed)
        parts.append(f"{squeezed} compressed (zeros; not faster)")
    if row.heals:
        parts.append(f"healed for {count_text(sum(heal.steps for heal in row.heals), 'step')}")
    return ", ".join(parts)


def _sizes(row: PruneRow) -> Table:
    lines = [["Parameters", *(f"{count:,}" for count in row.parameters), _kept(*row.parameters)]]
    if row.macs:
        million = [f"{significant(count / 1e6)} million" for count in row.macs]
        lines.append(["Multiply-accumulates of one case", *million, _kept(*row.macs)])
    if row.compressed:
        lines.append(["Weights compressed by zlib", *map(bytes_text, row.compressed), _kept(*row.compressed)])
    return table(["", "Before", "After", "Kept"], lines, (1, 2, 3))


def _scores(row: PruneRow) -> Table:
    lines = [[score.at, amount(row.metric, score.value)] for score in row.scores]
    return table([f"On {count_text(row.n, 'validation case')}", metric_name(row.metric)], lines, (1,))


def _widths(row: PruneRow) -> Table:
    lines: list[Sequence[Cell | str]] = [
        [Cell(item.part, kind="name"), item.kind, f"{item.before:,}", f"{item.after:,}", _kept(item.before, item.after)]
        for item in row.widths
    ]
    return table(["Part", "Of what", "Before", "Left", "Kept"], lines, (2, 3, 4), stack=True)


def _search(search: RatioSearch) -> list[Block]:
    lines: list[Sequence[Cell | str]] = [
        [
            f"{trial.ratio:g}",
            f"{significant(trial.p50_ms)} ms",
            f"{significant(trial.interval[0])} to {significant(trial.interval[1])}" if trial.interval else DASH,
            f"{trial.runs:,}",
            Cell("VALID", tone="pass") if trial.valid else Cell("INVALID", tone="inconclusive"),
        ]
        for trial in search.trials
    ]
    words = (
        f"For {significant(search.budget_ms)} ms the ratio is {search.ratio:g}: the smallest, to 0.02, whose "
        f"{search.candidate} met it when it was timed on {search.device}. Every line is an export of its own, measured."
    )
    return [*text(words), *grid(table(["Ratio", "Latency p50", "Interval", "Runs", ""], lines, (0, 1, 2, 3)))]


def _heals(row: PruneRow) -> list[Block]:
    blocks: list[Block] = []
    for number, heal in enumerate(row.heals, 1):
        name = f"Healing, round {number}" if len(row.heals) > 1 else "Healing"
        best = f"best {metric_name(heal.metric).lower()} {amount(heal.metric, heal.best_metric)} at {heal.best_step:,}"
        blocks += text(
            f"{name}: {heal.method}, {count_text(heal.steps, 'step')}, {seconds_text(heal.seconds)}, {best}."
        )
        blocks += figures(Plot(safe(plot)) for plot in training_plots(heal))
    return blocks + (caption("Scores are of the weights of the best evaluation.") if blocks else [])


def _kept(before: int, after: int) -> str:
    return f"{after / before:.1%}" if before else DASH
