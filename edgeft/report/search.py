"""A target's search on its page: what was asked and found, the front, and how each layer takes compression."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from edgeft.record import EvaluationRow, LayerRow, SearchRow, SensitivityRow, TargetRow
from edgeft.report.sections import Block, Plot, caption, figures, folded, grid, safe, text, wide
from edgeft.report.sensitivity import COMPRESSED, KEPT, histogram, plot_curves, plot_noise
from edgeft.report.svg import Frame, element, path, picture
from edgeft.report.tables import Cell, Line, Table
from edgeft.report.words import DASH, amount, bytes_text, count_text, metric_name, seconds_text, significant

WIDTH, HEIGHT = 960.0, 340.0
MOST_LAYERS = 40
"""Layers in the table, worst first; record.json has all of them."""
KEYS = [
    ("block s2", "passes"),
    ("block s3", "does not pass"),
    ("dash", "front: nothing else is both cheaper and closer"),
]
LAYER_KEYS = [(f"block {KEPT}", "stays in float"), (f"block {COMPRESSED}", "8 bits")]


def search_blocks(target: TargetRow) -> list[Block]:
    """None where the target did not search."""
    search = target.search
    if search is None:
        return []
    blocks = text(search_sentence(search))
    for found in search.sensitivity:
        blocks += text(found.suggestion)
    front = plot_search(search)
    if front:
        blocks += [*wide(front), Block("keys", keys=KEYS)]
        estimated = any(row.estimated and row.passes is not None for row in search.evaluations)
        blocks += caption(
            "Cost against divergence of the outputs from the float artefact's, of every evaluation that was scored."
            + (" Costs of mixes are estimated from both profiles until the proposal is timed." if estimated else "")
        )
    blocks += folded(f"All {count_text(len(search.evaluations), 'evaluation')}", grid(evaluations_table(search)))
    for found in search.sensitivity:
        blocks += _sensitivity(found, search)
    return blocks


def search_sentence(search: SearchRow) -> str:
    """`17 evaluations of at most 64, 2,110 cases answered, 4 min 02 s: 9 ladder, ...`"""
    if not search.evaluations:
        why = f": {search.stopped}" if search.stopped else ""
        return f"No compressed candidate was tried{why}."
    counts = Counter(row.purpose for row in search.evaluations)
    said = ", ".join(f"{count} {name}" for name, count in counts.items())
    best = f"It proposes {search.best}." if search.best else _none_found(search)
    stopped = f" It ended early: {search.stopped}." if search.stopped else ""
    return (
        f"{count_text(len(search.evaluations), 'evaluation')} of at most {search.budget:,}, "
        f"{count_text(search.cases, 'case')} answered, {seconds_text(search.seconds)}"
        f"{f': {said}' if said else ''}. A candidate had to have {search.chance:.0%} of a lossless one's chance to "
        f"pass the gates. {best}{stopped}"
    )


def _none_found(search: SearchRow) -> str:
    passing = sum(bool(row.passes) for row in search.evaluations)
    if not passing:
        return "It found nothing that passes."
    return f"It found nothing that costs less than float: {count_text(passing, 'evaluation')} passed, none cheaper."


def search_lines(target: TargetRow) -> Iterator[str]:
    """The same for the terminal; where nothing passes, the best refused evaluation."""
    search = target.search
    if search is None:
        return
    yield f"search: {search_sentence(search)}"
    for found in search.sensitivity:
        if found.suggestion:
            kept = [layer for layer in found.layers if layer.kept]
            yield f"search: {found.suggestion}"
            for layer in kept[:8]:
                cost = f", {cost_text(layer.cost, search.unit)} estimated" if layer.cost is not None else ""
                yield f"in float: {layer.shown} ({layer.op}, {layer.weights:,} weights{cost})"
            if len(kept) > 8:
                yield f"in float: and {len(kept) - 8} more, in the report"
    refused = best_refused(search)
    if search.best is None and refused is not None:
        yield f"nearest refused: {refused.exporter}/{refused.variant}: {refused.why}"


def best_refused(search: SearchRow) -> EvaluationRow | None:
    """The scored evaluation with the greatest chance that still does not pass."""
    rows = [row for row in search.evaluations if row.passes is False and row.chance is not None]
    return max(rows, key=lambda row: (row.chance or 0.0, -(row.cost or 0.0), -row.number), default=None)


def plot_search(search: SearchRow) -> str:
    """SVG of cost against divergence; empty without two scored evaluations that have both."""
    rows = [row for row in search.evaluations if row.passes is not None and row.cost is not None and row.divergence]
    if len(rows) < 2:
        return ""
    scale = 1e-6 if search.unit == "bytes" else 1.0
    xs = [(row.cost or 0.0) * scale for row in rows]
    ys = [row.divergence or 0.0 for row in rows]
    frame = Frame.over(WIDTH, HEIGHT, (min(xs), max(xs)), (0.0, max(ys)), pad=0.08)
    unit = "MB" if search.unit == "bytes" else search.unit
    parts = [frame.axes(f"cost ({unit}), less is better", "divergence from float, less is better", 8)]
    by_number = {row.number: row for row in rows}
    points = [by_number[number] for number in search.front if number in by_number]
    if len(points) > 1:
        corners = [(frame.x((row.cost or 0.0) * scale), frame.y(row.divergence or 0.0)) for row in points]
        parts.append(path(corners, "front"))
    for row, x, y in zip(rows, xs, ys, strict=True):
        series, ring = ("s2", "") if row.passes else ("s3", " hollow")
        said = element("title", text=_title(row, search.unit))
        proposed = search.best == f"{row.exporter}/{row.variant}"
        if proposed:
            parts.append(element("circle", cx=frame.x(x), cy=frame.y(y), r=11.5, class_="chosen-ring"))
        parts.append(element("circle", said, cx=frame.x(x), cy=frame.y(y), r=6, class_=f"dot{ring} {series}"))
    return picture(WIDTH, HEIGHT, "Evaluations of the search: cost against divergence", *parts)


def evaluations_table(search: SearchRow) -> Table:
    """Every question in order: why it was asked, what it cost, what it gave."""
    shown = {(found.exporter, row.name): row.shown for found in search.sensitivity for row in found.layers}
    rows = []
    for row in search.evaluations:
        kept = f"{len(row.kept)} in float" if row.kept else ""
        if len(row.kept) == 1:
            kept = f"in float: {shown.get((row.exporter, row.kept[0]), row.kept[0])}"
        cost = cost_text(row.cost, search.unit) if row.cost is not None and row.passes is not None else DASH
        metrics = ", ".join(f"{metric_name(name).lower()} {amount(name, value)}" for name, value in row.metrics.items())
        answer = (
            Cell(DASH) if row.passes is None else Cell("passes", tone="pass") if row.passes else Cell("no", tone="fail")
        )
        rows.append(
            Line(
                [
                    Cell(str(row.number)),
                    Cell(row.purpose, kind="nowrap"),
                    Cell(f"{row.exporter}/{row.variant}", small=kept, kind="name"),
                    Cell(f"{row.cases:,}", small=seconds_text(row.seconds)),
                    Cell(significant(row.divergence) if row.divergence is not None else DASH),
                    Cell(f"{row.chance:.2f}" if row.chance is not None else DASH),
                    Cell(cost, small="estimated" if row.estimated and cost != DASH else ""),
                    answer,
                    Cell(row.why or metrics, kind="why"),
                ],
                chosen=search.best == f"{row.exporter}/{row.variant}" and row.passes is not None,
            )
        )
    heads = ["No.", "Asked for", "Variant", "Cases", "Divergence", "Chance", "Cost", "Gates", "Found"]
    return Table(heads, rows, frozenset({0, 3, 4, 5, 6}), stack=True)


def layers_table(found: SensitivityRow, unit: str) -> Table:
    """Layers that stay in float first, then the worst; noise in dB, curves, cost, range with its histogram."""
    shown = ordered_layers(found.layers)[:MOST_LAYERS]
    parts = any(row.weights_db is not None or row.activations_db is not None for row in shown)
    rows = []
    for row in shown:
        noise = [_db(row.sqnr_db), *([_db(row.weights_db), _db(row.activations_db)] if parts else [])]
        curves = [significant(value) if value is not None else DASH for value in (row.keep_one, row.quantise_one)]
        spread = DASH
        if row.low is not None and row.high is not None:
            spread = f"{significant(row.low)} to {significant(row.high)}"
        rows.append(
            Line(
                [
                    Cell(row.shown, small=_about(row), kind="name"),
                    Cell("in float", tone="pass") if row.kept else Cell("8 bits"),
                    *map(Cell, noise),
                    *map(Cell, curves),
                    Cell(cost_text(row.cost, unit) if row.cost is not None else DASH),
                    Cell(small=spread, picture=safe(histogram(row)) if row.counts else ""),
                ],
                row.kept,
            )
        )
    heads = [
        "Layer",
        "",
        "SQNR",
        *(["by weights", "by activations"] if parts else []),
        "Kept alone",
        "Compressed alone",
    ]
    heads += ["Float costs", "Output"]
    return Table(heads, rows, frozenset(range(2, len(heads) - 1)), stack=True)


def ordered_layers(rows: Sequence[LayerRow]) -> list[LayerRow]:
    """What stays in float, then from the noisiest on; unmeasured ones last."""
    return sorted(rows, key=lambda row: (not row.kept, row.sqnr_db is None, row.sqnr_db or 0.0, row.name))


def cost_text(cost: float | None, unit: str) -> str:
    """`0.21 ms`, `1.2 MB`."""
    if cost is None:
        return DASH
    return bytes_text(round(cost)) if unit == "bytes" else f"{significant(cost)} {unit}"


def _sensitivity(found: SensitivityRow, search: SearchRow) -> list[Block]:
    kept = sum(row.kept for row in found.layers)
    title = f"Layers of {found.exporter}/{found.variant}: signal to quantisation noise, in order of execution"
    plots = [Plot(safe(svg), name) for svg, name in ((plot_noise(found), title),) if svg]
    keys = [Block("keys", keys=LAYER_KEYS)] if kept else []
    blocks = [Block("wide", plots=plots), *keys] if plots else []
    blocks += caption(
        f"{count_text(found.cases, 'search case')}; an output also carries the noise of earlier layers. "
        f"{count_text(kept, 'layer')} of {len(found.layers):,} in float."
    )
    if curves := plot_curves(found):
        both = any(row.quantise_one is not None for row in found.layers)
        said = "Divergence of the outputs with one layer in float (keep one)"
        said += " and with it alone compressed (quantise one)" if both else ""
        blocks += figures([Plot(safe(curves), said)], "bars")
    table = grid(layers_table(found, search.unit))
    return blocks + (table if kept else folded(f"Layers of {found.exporter}/{found.variant}, none in float", table))


def _about(row: LayerRow) -> str:
    """`node_MatMul_46, MatMul, 147,456 weights`: the graph's name where another is shown."""
    name = [row.name] if row.shown != row.name else []
    return ", ".join([*name, row.op, f"{row.weights:,} weights"])


def _title(row: EvaluationRow, unit: str) -> str:
    cost = f"{cost_text(row.cost, unit)}{' estimated' if row.estimated else ''}"
    chance = f", chance to pass {row.chance:.2f}" if row.chance is not None else ""
    kept = f", {len(row.kept)} layers in float" if row.kept else ""
    return f"{row.number}. {row.exporter}/{row.variant} ({row.purpose}){kept}: {cost}{chance}"


def _db(value: float | None) -> str:
    return f"{value:.1f} dB" if value is not None else DASH
