"""An inspection as lines for a terminal. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from edgeft.record import LayerRow, SensitivityRow
from edgeft.targets.inspect.record import InspectRecord

MOST = 40
"""Layers shown; the JSON has all of them."""
WIDTH = 44


def inspect_lines(record: InspectRecord) -> list[str]:
    """The file, its layers, and with data the table of sensitivity, worst layer first."""
    weights = sum(layer.weights for layer in record.layers)
    lines = [
        f"{record.file}: {record.bytes / 1e6:.4g} MB, opset {record.opset}, {sum(record.operators.values())} operators",
        f"  layers to compress: {len(record.layers)}, {weights:,} weights",
    ]
    if record.quantised:
        said = ", ".join(f"{count} {name}" for name, count in record.quantised.items())
        lines.append(f"  already quantised: {said}")
    inputs = ", ".join(f"{name} {spec[0]} {'x'.join(spec[1:])}" for name, spec in record.inputs.items())
    lines.append(f"  inputs: {inputs}")
    if not record.layers:
        return lines
    if record.sensitivity is None:
        rows = [f"  {_short(layer.shown)}  {layer.op:<14} {layer.weights:>12,}" for layer in record.layers]
        return [*lines, "", f"  {'layer':<{WIDTH}}  {'operator':<14} {'weights':>12}", *_cut(rows)]
    return [*lines, f"  measured on {record.data}", "", *sensitivity_lines(record.sensitivity)]


def sensitivity_lines(found: SensitivityRow) -> list[str]:
    """Signal to noise of each layer's output in dB (less is worse), its parts, and what one layer in float changes."""
    head = (
        f"  {'layer':<{WIDTH}} {'both':>8} {'weights':>8} {'activ.':>8} {'in float':>9} {'alone':>9}  "
        f"{'range of its output':<22}"
    )
    ordered = sorted(found.layers, key=lambda row: (row.sqnr_db is None, row.sqnr_db or 0.0, row.name))
    whole = "" if found.whole is None else f", all together {found.whole:.3g}"
    return [
        f"  {found.variant}: dB of signal over noise of each layer's output; divergence of the outputs with that",
        f"  layer in float, and with it alone compressed{whole}",
        head,
        *_cut([_line(row) for row in ordered]),
        "",
        f"  {found.suggestion}",
    ]


def _line(row: LayerRow) -> str:
    spread = f"{row.low:.3g} to {row.high:.3g}" if row.low is not None and row.high is not None else ""
    dbs = " ".join(f"{_number(value, '.1f'):>8}" for value in (row.sqnr_db, row.weights_db, row.activations_db))
    curves = " ".join(f"{_number(value, '.3g'):>9}" for value in (row.keep_one, row.quantise_one))
    return f"  {_short(row.shown)} {dbs} {curves}  {spread}".rstrip()


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def _short(name: str) -> str:
    text = "".join(char if char.isprintable() else " " for char in name)
    return f"{text:<{WIDTH}}" if len(text) <= WIDTH else f"…{text[1 - WIDTH :]}"


def _cut(rows: Sequence[str]) -> list[str]:
    more = len(rows) - MOST
    return [*rows[:MOST], f"  and {more} more: --json lists them all"] if more > 0 else list(rows)
