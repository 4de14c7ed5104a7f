"""Whether times may be believed: VALID or INVALID with reasons, the sentinel, clock, temperature; where nodes ran."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from math import isfinite

from edgeft.device.timing import SLOWER, own_speed
from edgeft.record import CandidateRow, LatencyRow
from edgeft.report.series import series_of
from edgeft.report.svg import Scale, element, line, path, picture
from edgeft.report.tables import Cell, Table, table
from edgeft.report.validity import timing_faults
from edgeft.report.words import DASH, count_text, seconds_text

NAMES = {
    "core_share": "Share of a core",
    "clock_mhz": "Clock (MHz)",
    "temperature_c": "Temperature (°C)",
    "waited_for_a_core": "Waited for a core",
    "governor": "Governor",
    "affinity": "Pinned to",
}
"""Conditions that have a column where they differ between candidates; others are listed by their own name."""
DRAWN = frozenset({"sentinel_ms", "warm_up", "blocks"})
"""Conditions shown as a picture or with the runs."""
NUMBER = re.compile(r"-?\d+(?:\.\d+)?")
STRIP, TALL = 150.0, 34.0


def conditions_table(rows: Sequence[CandidateRow]) -> Table:
    """One line per timed candidate: the verdict on its times and the circumstances that differ."""
    timed = [(row, row.latency) for row in rows if row.latency]
    parts = [part for _, part in timed]
    shared = shared_conditions(parts)
    keys = list(dict.fromkeys(key for part in parts for key in part.conditions))
    keys = [key for key in (*NAMES, *keys) if key in keys and key not in shared and key not in DRAWN]
    keys = list(dict.fromkeys(keys))
    strips = any(_usable(part.sentinel_ms) for part in parts)
    body = [_line(row, part, keys, strips) for row, part in timed]
    sentinel = ["Sentinel, limit +10%"] if strips else []
    heads = [
        "Candidate",
        "Times",
        "Runs",
        *sentinel,
        *(NAMES.get(key, key) for key in keys),
    ]
    return table(heads, body, stack=True)


def shared_conditions(parts: Sequence[LatencyRow]) -> dict[str, str]:
    """Conditions that every timed candidate has alike, when there are at least two."""
    if len(parts) < 2:
        return {}
    first = parts[0].conditions
    return {
        key: value
        for key, value in first.items()
        if key not in DRAWN and all(part.conditions.get(key) == value for part in parts)
    }


def shared_text(rows: Sequence[CandidateRow]) -> str:
    """The shared conditions as a sentence."""
    shared = shared_conditions([row.latency for row in rows if row.latency])
    texts = [f"{NAMES.get(key, key).lower()}: {shorten(value)}" for key, value in shared.items()]
    return f"The same for all: {'; '.join(texts)}." if texts else ""


def plot_sentinel(part: LatencyRow, name: str) -> str:
    """The fixed work's time against the core's own speed, with the limit that invalidates; empty below 2 readings."""
    values = _usable(part.sentinel_ms)
    if len(values) < 2:
        return ""
    own = own_speed(values)
    ratios = [value / own for value in values]
    highest = min(max(*ratios, SLOWER + 0.05), 2.0)
    x, y = Scale(0, len(ratios) - 1, 2, STRIP - 2), Scale(min(0.99, *ratios), highest, TALL - 4, 4)
    limit = y(SLOWER)
    parts = [
        line(x.start, y(1.0), x.end, y(1.0), "grid"),
        line(x.start, limit, x.end, limit, "limit"),
        path([(x(i), y(min(value, highest))) for i, value in enumerate(ratios)], "sentinel"),
    ]
    parts += [
        element("circle", cx=x(i), cy=y(min(value, highest)), r=2.4, class_="slow")
        for i, value in enumerate(ratios)
        if value > SLOWER
    ]
    worst = max(ratios) - 1
    title = f"Sentinel of {name}: fixed work took up to {worst:.0%} longer than at the core's own speed, {own:.3g} ms"
    return picture(STRIP, TALL, title, *parts, class_="strip")


def placement_table(rows: Sequence[CandidateRow], colours: Mapping[str, int]) -> Table:
    """Which backend ran how many nodes, and what an accelerator or delegate left to the runtime's own kernels."""
    from markupsafe import Markup

    body: list[list[Cell | str]] = []
    for row in rows:
        if not row.placement and row.fallback is None:
            continue
        total = sum(row.placement.values())
        texts = [f"{name}: {count:,}" for name, count in sorted(row.placement.items(), key=lambda kv: (-kv[1], kv[0]))]
        share = row.fallback if row.fallback is not None and isfinite(row.fallback) else None
        tone = "inconclusive" if share else "pass"
        left = Cell(f"{share:.1%}", tone=tone, kind="told") if share is not None else Cell(DASH, kind="told")
        strip = _placement_strip(row, colours)
        body.append(
            [
                Cell(row.name, swatch=series_of(row.runtime), kind="nowrap"),
                count_text(total, "node") if total else DASH,
                Cell(picture=Markup(strip)) if strip else Cell(DASH),  # noqa: S704
                Cell(", ".join(texts) or DASH, kind="name"),
                left,
            ]
        )
    return table(["Candidate", "Nodes", "By backend", "", "Left by the delegate"], body, (1,), stack=True)


def _line(row: CandidateRow, part: LatencyRow, keys: Sequence[str], strips: bool) -> list[Cell | str]:
    from markupsafe import Markup

    faults = timing_faults(row)
    verdict = (
        Cell("INVALID", tone="fail", small="\n".join(faults), kind="why") if faults else Cell("VALID", tone="pass")
    )
    warm = part.conditions.get("warm_up", f"{count_text(part.warmup_runs, 'run')}")
    discarded = f"{part.discarded:,} discarded" if part.discarded else "none discarded"
    runs = [f"{part.protocol} protocol, {seconds_text(part.seconds)}, {discarded}", f"warm-up: {warm}"]
    if part.discarded and "blocks" in part.conditions:
        runs.append(f"blocks: {part.conditions['blocks']}")
    cells: list[Cell | str] = [
        Cell(row.name, swatch=series_of(row.runtime), kind="nowrap"),
        verdict,
        Cell(count_text(part.runs, "run"), small="\n".join(runs), kind="nowrap"),
    ]
    if strips:
        strip = plot_sentinel(part, row.name)
        values = _usable(part.sentinel_ms)
        small = f"at most +{max(values) / own_speed(values) - 1:.0%}" if values else ""
        cells.append(Cell(picture=Markup(strip), small=small) if strip else Cell(DASH))  # noqa: S704
    return [*cells, *(_condition(part.conditions.get(key, "")) for key in keys)]


def _condition(text: str) -> Cell:
    """`2100 before, 2050 to 2100 during, 2100 after` on three lines, `2100` where it never changed."""
    return Cell(small=shorten(text).replace(", ", "\n"), kind="nowrap told") if text else Cell(DASH, kind="told")


def shorten(text: str) -> str:
    """`2100 all along` for readings that never changed; anything else as it is."""
    numbers = set(NUMBER.findall(text))
    return f"{numbers.pop()} all along" if len(numbers) == 1 and text.endswith(" after") else text


def _usable(values: Sequence[float]) -> list[float]:
    return [value for value in values if isfinite(value) and value > 0]


def _placement_strip(row: CandidateRow, colours: Mapping[str, int]) -> str:
    total = sum(count for count in row.placement.values() if count > 0)
    if not total:
        return ""
    parts, at = [], 0.0
    for name, count in sorted(row.placement.items(), key=lambda kv: (-kv[1], kv[0])):
        wide = max(0, count) / total * STRIP
        series = colours.get(name, 0)
        title = element("title", text=f"{name}: {count_text(count, 'node')}, {count / total:.1%}")
        parts.append(element("rect", title, x=at, y=2, width=wide, height=14, class_=f"bar s{series}"))
        at += wide
    return picture(STRIP, 18, f"Nodes of {row.name} by backend", *parts, class_="strip")
