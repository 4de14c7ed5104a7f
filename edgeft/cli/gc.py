"""`edgeft gc`: what the store costs, and making room."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edgeft.store.gc import GcReport
    from edgeft.store.usage import Usage

HELP = "Say what the store costs and make room"
DESCRIPTION = """Say what the store costs and make room in it.

Without options nothing is removed. With --keep or --older-than, first goes what nothing needs (leftovers of killed
processes, damaged objects, scratch of finished steps, temporary folders untouched for two days), then the least
recently used steps. What a running build uses is
never removed, and neither is the list of gate-set openings."""
EPILOG = """examples:
  edgeft gc                              what the store costs
  edgeft gc --keep 20GB                  remove the least recently used until 20 GB remain
  edgeft gc --older-than 30d --dry-run   show what was not used for 30 days
  edgeft gc --runtimes                   remove what `edgeft devices prepare` assembled
"""
_SIZES = {
    "": 1,
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "TB": 10**12,
    "KIB": 2**10,
    "MIB": 2**20,
    "GIB": 2**30,
    "TIB": 2**40,
}
_DAYS = {"h": 1 / 24, "d": 1.0, "w": 7.0}
_SHOWN = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `gc`."""
    parser.add_argument(
        "--keep", type=size, metavar="SIZE", help="shrink the store to this size, e.g. 20GB or 512MiB; 0 removes all"
    )
    parser.add_argument(
        "--older-than", type=days, metavar="TIME", help="remove what was not used for this long, e.g. 12h, 30d, 4w"
    )
    parser.add_argument(
        "--runtimes", action="store_true", help="remove the prepared runtime folders of emulated and bare devices"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be removed, remove nothing")


def run(args: argparse.Namespace) -> int:
    """Print the cost; collect when asked to."""
    from edgeft.store import Store

    store = Store(on_warning=lambda text: print(f"warning: {text}"))
    _print_usage(store.usage())
    _runtimes(remove=args.runtimes, dry_run=args.dry_run)
    _temporary(remove=False)
    if args.runtimes and args.keep is None and args.older_than is None:
        return 0
    if args.keep is None and args.older_than is None and not args.dry_run:
        print("\nto make room: edgeft gc --keep 20GB, or edgeft gc --older-than 30d (add --dry-run to look first)")
        return 0
    _print_report(store.gc(args.keep, args.older_than, args.dry_run))
    if not args.dry_run:
        _temporary(remove=True)
    return 0


def size(text: str) -> int:
    """`20GB` (decimal) or `512MiB` (binary) in bytes."""
    found = re.fullmatch(r"\s*(\d{1,15}(?:\.\d{1,6})?)\s*([a-zA-Z]{0,3})\s*", text)
    if not found or found.group(2).upper() not in _SIZES:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 20GB, 500MB or 512MiB")
    return int(float(found.group(1)) * _SIZES[found.group(2).upper()])


def days(text: str) -> float:
    """`12h`, `30d` or `4w` in days."""
    found = re.fullmatch(r"\s*(\d{1,6}(?:\.\d{1,6})?)\s*([hdw])\s*", text)
    if not found:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 12h, 30d or 4w")
    return float(found.group(1)) * _DAYS[found.group(2)]


def _print_usage(usage: Usage) -> None:
    from edgeft.store.disk import human

    print(f"store {usage.root}")
    for area in usage.areas:
        print(f"  {area.name:<10} {human(area.bytes):>9}  {area.count:>6}  {area.holds}")
    free = "" if usage.free is None else f"   ({human(usage.free)} free on this disk)"
    print(f"  {'total':<10} {human(usage.total):>9}{free}")


def _runtimes(*, remove: bool, dry_run: bool) -> None:
    """Prepared folders lie beside the store's objects, outside its count: say what they cost, remove them if asked."""
    from edgeft.device.prepare import folder_cost, remove_folders
    from edgeft.store.disk import human

    found = folder_cost()
    if found:
        print(
            f"  {'runtimes':<10} {human(sum(found.values())):>9}  {len(found):>6}  folders of `edgeft devices prepare`"
        )
    if remove:
        freed = sum(found.values()) if dry_run else remove_folders()
        print(f"\n{'would remove' if dry_run else 'removed'} {human(freed)} of runtime folders")


def _temporary(*, remove: bool) -> None:
    """What killed processes left in the place for temporary files."""
    from edgeft.store.disk import human
    from edgeft.store.leftovers import remove_leftovers, temporary_leftovers

    found = {} if remove else temporary_leftovers()
    if found:
        print(f"  {'temporary':<10} {human(sum(found.values())):>9}  {len(found):>6}  folders of killed processes")
    freed = remove_leftovers() if remove else 0
    if freed:
        print(f"removed {human(freed)} of temporary folders")


def _print_report(report: GcReport) -> None:
    from edgeft.store.disk import human

    print(f"\n{'would remove' if report.dry_run else 'removed'} {human(report.freed)}")
    for item in report.removed[:_SHOWN]:
        print(f"  {item.area:<10} {human(item.bytes):>9}  {item.name}: {item.why}")
    if len(report.removed) > _SHOWN:
        rest = report.removed[_SHOWN:]
        print(f"  and {len(rest)} more, {human(sum(item.bytes for item in rest))}")
    if report.in_use:
        print(f"  kept although due: {report.in_use} in use by running builds")
    print(f"the store {'would then hold' if report.dry_run else 'now holds'} {human(report.after)}")
