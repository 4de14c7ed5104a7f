"""A self-test as lines for the terminal and as a page for a quality file. Pure."""

from __future__ import annotations

from itertools import groupby

from edgeft.report.html import stylesheet, template_environment
from edgeft.report.sections import Section, caption, grid, keep
from edgeft.report.tables import Cell, Table, facts_table, table
from edgeft.report.words import count_text, seconds_text
from edgeft.ship.selftest.items import ItemRow, SelftestRecord

TONES = {"PASS": "pass", "FAIL": "fail", "SKIPPED": "neutral"}
MEANS = (
    "A PASS says that this installation gives the known answers on this machine. It does not say that "
    "a model built here is good: that is what a build's gates are for."
)


def item_line(row: ItemRow) -> str:
    """`PASS  Mid-p McNemar test, 6 and 16: 0.03469`."""
    said = f": {row.said}" if row.status != "PASS" else ""
    return f"{row.status:<7}  {row.name}{said}"


def outcome_line(record: SelftestRecord) -> str:
    """`PASS: 25 of 25 answers are the known ones, 8 skipped (41 s)`."""
    asked = record.count("PASS") + record.count("FAIL")
    skipped = f", {record.count('SKIPPED')} skipped" if record.count("SKIPPED") else ""
    said = f"{record.count('PASS')} of {asked} answers are the known ones{skipped}"
    return f"{record.status}: {said} ({seconds_text(record.seconds)})"


def render_selftest(record: SelftestRecord) -> str:
    """One-file HTML. Everything in it is escaped."""
    word, rest = outcome_line(record).split(": ", 1)
    failed = [f"{row.name}: {row.said}" for row in record.items if row.status == "FAIL"]
    groups = [
        Section(f"part-{at}", name, grid(_items(list(rows))))
        for at, (name, rows) in enumerate(groupby(record.items, lambda row: row.group))
    ]
    page = {
        "css": stylesheet(),
        "title": "Self-test",
        "lead": f"edgeft {record.edgeft} on {record.host.get('processor', 'this machine')}",
        "meta": f"started {record.started} · took {seconds_text(record.seconds)}",
        "tone": TONES[record.status],
        "word": f"{'✓' if word == 'PASS' else '✕'} {word}",
        "rest": rest,
        "reasons": failed,
        "sentences": [MEANS],
        "sections": keep([*groups, _installation(record)]),
        "version": record.edgeft,
    }
    text = template_environment().get_template("selftest.html.j2").render(page=page)
    return text.encode("utf-8", "replace").decode("utf-8")


def _items(rows: list[ItemRow]) -> Table:
    body: list[list[Cell | str]] = [
        [Cell(row.name, small=row.source), Cell(row.status, tone=TONES[row.status]), row.said] for row in rows
    ]
    return table(["Question and where its answer comes from", "Result", "Answer"], body, stack=True)


def _installation(record: SelftestRecord) -> Section:
    note = caption(f"{count_text(len(record.versions), 'package')} that a build or a bundle can depend on.")
    tables = grid(facts_table("Machine", record.host), facts_table("Package", record.versions))
    return Section("installation", "Installation", [*tables, *note])
