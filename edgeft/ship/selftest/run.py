"""Ask every item and write down the answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime

from edgeft import __version__
from edgeft.ship.selftest import kernels, seals, statistics, verdicts, whole
from edgeft.ship.selftest.items import Item, ItemRow, Mismatch, SelftestRecord, Skipped

LONGEST = 600
QUICK = "left out by --quick"


def run_selftest(
    *,
    quick: bool,
    host: dict[str, str],
    versions: dict[str, str],
    tell: Callable[[ItemRow], None] = lambda row: None,
) -> SelftestRecord:
    """All items in order. quick: without the build. tell: is given each answer as it comes."""
    started, began = datetime.now(UTC), time.monotonic()
    workshop = whole.Workshop()
    rows = []
    try:
        for item in all_items(workshop):
            row = _left_out(item) if quick and item.group == whole.GROUP else ask(item)
            tell(row)
            rows.append(row)
    finally:
        workshop.close()
    return SelftestRecord(
        edgeft=__version__,
        started=started.strftime("%Y-%m-%dT%H:%M:%SZ"),
        seconds=round(time.monotonic() - began, 3),
        host=host,
        versions=versions,
        items=rows,
    )


def all_items(workshop: whole.Workshop) -> Iterable[Item]:
    """The quick ones first."""
    for module in (statistics, seals, verdicts, kernels):
        yield from module.items()
    yield from workshop.items()


def ask(item: Item) -> ItemRow:
    """One answer. Whatever goes wrong while it is asked is a FAIL of this item, and the others are asked still."""
    began = time.monotonic()
    try:
        status, said = "PASS", item.ask()
    except Skipped as reason:
        status, said = "SKIPPED", str(reason)
    except Mismatch as wrong:
        status, said = "FAIL", str(wrong)
    except Exception as error:  # noqa: BLE001  a question that cannot be asked is not answered rightly
        status, said = "FAIL", f"{type(error).__name__}: {error}"
    return ItemRow.model_validate(
        {
            "group": item.group, "name": item.name, "source": item.source, "status": status,
            "said": said if len(said) <= LONGEST else f"{said[:LONGEST]}...",
            "seconds": round(time.monotonic() - began, 3),
        }
    )  # fmt: skip


def _left_out(item: Item) -> ItemRow:
    return ItemRow(group=item.group, name=item.name, source=item.source, status="SKIPPED", said=QUICK, seconds=0.0)
