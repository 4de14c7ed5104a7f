"""How far each candidate is from the least time its device's own rates allow. Estimated, never gated."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

from edgeft.record import CandidateRow, ProbeRow
from edgeft.report.figures import metric_of
from edgeft.report.series import marker, series_of
from edgeft.report.svg import CHAR_WIDTH, Scale, element, label, line, picture, spans_decades
from edgeft.report.tables import Cell, Table, narrow, table
from edgeft.report.validity import timing_faults
from edgeft.report.words import DASH, significant, times_text

WIDTH, ROW, TOP = 960.0, 24.0, 10.0
RIGHT = 70.0


def with_roofline(rows: Sequence[CandidateRow]) -> list[CandidateRow]:
    """Candidates that have a usable floor, fastest first."""
    found = [row for row in rows if row.roofline and isfinite(row.roofline.floor_ms) and row.roofline.floor_ms > 0]
    return sorted(found, key=lambda row: (_measured(row) or row.roofline.floor_ms if row.roofline else 0.0, row.name))


def plot_roofline(rows: Sequence[CandidateRow]) -> str:
    """One line per candidate: the floor's tick, the measured p50, how many times apart. Empty without a floor."""
    rows = with_roofline(rows)
    ends = [value for row in rows for value in (_floor(row), _measured(row)) if value is not None and value > 0]
    if not ends:
        return ""
    left = min(260.0, max(len(row.name) for row in rows) * CHAR_WIDTH + 14)
    log_x = spans_decades(ends)
    low = min(ends) / 1.25 if log_x else 0.0
    bottom = TOP + ROW * len(rows)
    scale = Scale(low, max(ends) * 1.05, left, WIDTH - RIGHT, log_x)
    parts = [_axis(scale, bottom)]
    for index, row in enumerate(rows):
        parts.append(_draw(scale, row, TOP + ROW * index + ROW / 2))
    title = "Estimated floor against measured p50 of each candidate, milliseconds"
    return picture(WIDTH, bottom + 40, title, *parts)


def roofline_table(rows: Sequence[CandidateRow]) -> Table:
    """The work, the floors and the distance of each candidate."""
    body: list[list[Cell | str]] = []
    for row in with_roofline(rows):
        part, found = row.roofline, _measured(row)
        if part is None:
            continue
        body.append(
            [
                Cell(
                    row.name,
                    swatch=series_of(row.runtime),
                    kind="nowrap",
                    small="INVALID" if timing_faults(row) else "",
                ),
                f"{significant(part.gigaops)} Gop",
                f"{significant(part.megabytes)} MB",
                f"{significant(part.compute_ms)} ms",
                f"{significant(part.memory_ms)} ms" if part.memory_ms else DASH,
                f"{significant(part.floor_ms)} ms",
                f"{significant(found)} ms" if found is not None else DASH,
                distance_text(row) or DASH,
            ]
        )
    heads = ["Candidate", "Work", "Traffic", "Compute alone", "Memory alone", "Floor, estimated", "Measured p50"]
    return table([*heads, "Distance"], body, range(1, 8))


def probe_table(probe: ProbeRow) -> Table:
    """The rates the floors rest on."""
    rows = [[f"GEMM, {name}", f"{significant(rate)} Gop/s"] for name, rate in sorted(probe.gemm.items())]
    rows += [["Memory, read", f"{significant(probe.bandwidth)} GB/s"], ["Threads", f"{probe.threads}"]]
    rows += [["Largest cache", f"{significant(probe.cache_mb)} MB"]] if probe.cache_mb > 0 else []
    return narrow(["Measured rate", ""], rows, (1,))


def bases(rows: Sequence[CandidateRow]) -> list[str]:
    """What the floors rest on, each basis once, with those it holds for where there are several."""
    found: dict[str, list[str]] = {}
    for row in with_roofline(rows):
        if row.roofline and row.roofline.basis:
            found.setdefault(row.roofline.basis, []).append(row.name)
    if len(found) == 1:
        return list(found)
    return [f"{', '.join(names)}: {basis}" for basis, names in found.items()]


def distance_of(row: CandidateRow) -> float | None:
    """Measured p50 over the floor; None where either is missing."""
    if row.roofline is None:
        return None
    measured, floor, distance = _measured(row), row.roofline.floor_ms, row.roofline.distance
    if distance is None and measured is not None and isfinite(floor) and floor > 0:
        distance = measured / floor
    return distance if distance is not None and isfinite(distance) else None


def distance_text(row: CandidateRow) -> str:
    """`1.5×`; empty where there is no distance."""
    distance = distance_of(row)
    return times_text(distance) if distance is not None else ""


def is_below(row: CandidateRow) -> bool:
    """True where the measured time beats the floor, so that the floor cannot be one."""
    distance = distance_of(row)
    return distance is not None and distance < 1


def _axis(scale: Scale, bottom: float) -> str:
    parts = []
    for value, text in scale.ticks(8):
        x = scale(value)
        parts += [line(x, TOP - 4, x, bottom, "grid"), label(x, bottom + 15, text, "tick", "middle")]
    middle = (scale.start + scale.end) / 2
    return "".join(parts) + label(middle, bottom + 33, "ms per call", "name", "middle")


def _draw(scale: Scale, row: CandidateRow, y: float) -> str:
    series, floor, found = series_of(row.runtime), scale(_floor(row)), _measured(row)
    faults = timing_faults(row)
    said = f", measured p50 {significant(found)} ms" if found is not None else ""
    parts = [element("title", text=f"{row.name}: floor {significant(_floor(row))} ms{said}")]
    parts.append(
        label(scale.start - 10, y + 4, row.name, "op-name chosen" if row.status == "chosen" else "op-name", "end")
    )
    if found is not None:
        x = scale(found)
        parts += [line(floor, y, x, y, f"whisker s{series}"), marker(x, y, series, 5, "invalid" if faults else "")]
        parts.append(label(WIDTH - 4, y + 4, distance_text(row), "tick strong", "end"))
    parts.append(line(floor, y - 8, floor, y + 8, "floor"))
    return element("g", *parts)


def _floor(row: CandidateRow) -> float:
    return row.roofline.floor_ms if row.roofline else 0.0


def _measured(row: CandidateRow) -> float | None:
    item = metric_of(row, "latency_p50_ms")
    return float(item["value"]) if item else None
