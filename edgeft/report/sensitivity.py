"""Pictures of how layers take compression: noise in order of execution, curves of single layers, ranges."""

from __future__ import annotations

from edgeft.record import LayerRow, SensitivityRow
from edgeft.report.svg import Frame, Scale, element, label, line, picture
from edgeft.report.words import significant

WIDTH, HEIGHT = 960.0, 240.0
CURVES, ROW, NAMES = 480.0, 30.0, 170.0
LONGEST = 24
KEPT, COMPRESSED = "s1", "s0"
"""Series of a layer in float and of one in 8 bits, not those that say whether an evaluation passes."""
BOX, TALL = 150.0, 30.0


def plot_noise(found: SensitivityRow) -> str:
    """A bar per layer in order of execution: dB of signal over noise, so short is bad. Empty without any."""
    rows = [row for row in found.layers if row.sqnr_db is not None]
    if not rows:
        return ""
    values = [row.sqnr_db or 0.0 for row in rows]
    low = min(0.0, *values)
    frame = Frame.over(WIDTH, HEIGHT, (0.0, float(len(rows))), (low, max(*values, 1.0)), pad=0.0)
    parts = []
    for value, text in frame.y.ticks(5):
        y = frame.y(value)
        parts += [line(frame.x.start, y, frame.x.end, y, "grid"), label(frame.x.start - 7, y + 4, text, "tick", "end")]
    step = (frame.x.end - frame.x.start) / len(rows)
    for index, row in enumerate(rows):
        top, bottom = sorted((frame.y(row.sqnr_db or 0.0), frame.y(max(0.0, low))))
        said = f"{index + 1}. {row.shown} ({row.op}): {row.sqnr_db:.1f} dB{', stays in float' if row.kept else ''}"
        parts.append(
            element(
                "rect", element("title", text=said), x=frame.x.start + step * index + min(1.0, step / 8), y=top,
                width=max(0.6, step - min(2.0, step / 4)), height=max(0.8, bottom - top),
                class_=f"bar {KEPT if row.kept else COMPRESSED}",
            )
        )  # fmt: skip
    parts.append(line(frame.x.start, frame.y(max(0.0, low)), frame.x.end, frame.y(max(0.0, low)), "axis"))
    parts.append(label((frame.x.start + frame.x.end) / 2, HEIGHT - 14, f"{len(rows)} layers", "name", "middle"))
    parts.append(label(4, 11, "SQNR (dB), more is better", "name"))
    worst = sorted(rows, key=lambda row: row.sqnr_db or 0.0)[:3]
    said = ", ".join(f"{row.shown} {row.sqnr_db:.1f} dB" for row in worst)
    return picture(WIDTH, HEIGHT, f"Noise of each layer under {found.variant}", *parts, said=f"Worst: {said}.")


def plot_curves(found: SensitivityRow) -> str:
    """Two bars per layer that was tried alone; the line is the divergence with every layer compressed."""
    rows = [row for row in found.layers if row.keep_one is not None or row.quantise_one is not None]
    values = [value for row in rows for value in (row.keep_one, row.quantise_one) if value is not None]
    most = max([*values, found.whole or 0.0], default=0.0)
    if most <= 0:
        return ""
    rows.sort(key=lambda row: row.keep_one if row.keep_one is not None else most)
    bottom = 22 + ROW * len(rows)
    scale = Scale(0.0, most * 1.05, NAMES, CURVES - 56)
    parts = [line(NAMES, 16, NAMES, bottom, "axis")]
    if found.whole is not None:
        x = scale(found.whole)
        parts += [
            line(x, 16, x, bottom, "limit"),
            label(min(x, CURVES - 90), 11, "all compressed", "limit-name", "middle"),
        ]
    for index, row in enumerate(rows):
        parts.append(_pair(scale, row, 20 + ROW * index))
    legend = [(KEPT, "this one in float"), (COMPRESSED, "this one alone compressed")]
    legend = legend if any(row.quantise_one is not None for row in rows) else legend[:1]
    for index, (series, text) in enumerate(legend):
        x = NAMES + 120.0 * index
        parts.append(element("rect", x=x, y=bottom + 10, width=10, height=8, class_=f"bar {series}"))
        parts.append(label(x + 15, bottom + 18, text, "tick"))
    return picture(CURVES, bottom + 28, f"One layer at a time under {found.variant}", *parts, class_="plot small")


def histogram(row: LayerRow) -> str:
    """The distribution of a layer's output over its whole range, as small bars."""
    most = max(row.counts, default=0)
    if most <= 0:
        return ""
    step = BOX / len(row.counts)
    bars = [
        element(
            "rect",
            x=step * index,
            y=TALL - TALL * count / most,
            width=step,
            height=TALL * count / most,
            class_="bar s0",
        )
        for index, count in enumerate(row.counts)
        if count
    ]
    floor = line(0, TALL, BOX, TALL, "axis")
    title = f"Values of {row.shown}, sampled"
    return picture(BOX, TALL + 1, title, *bars, floor, class_="strip")


def _pair(scale: Scale, row: LayerRow, y: float) -> str:
    name = row.shown if len(row.shown) <= LONGEST else f"…{row.shown[1 - LONGEST :]}"
    parts = [label(NAMES - 7, y + 15, name, "op-name chosen" if row.kept else "op-name", "end")]
    for value, series, offset in ((row.keep_one, KEPT, 3), (row.quantise_one, COMPRESSED, 14)):
        if value is None:
            continue
        said = element("title", text=f"{row.shown}: {significant(value)}")
        width = max(0.8, scale(value) - scale.start)
        parts.append(element("rect", said, x=scale.start, y=y + offset, width=width, height=9, class_=f"bar {series}"))
        parts.append(label(scale.start + width + 5, y + offset + 8, significant(value), "tick"))
    return element("g", *parts)
