"""`edgeft selftest`: known-answer tests of this installation, for tool validation in a quality system."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from edgeft.errors import EdgeftError, Exit, RecipeError

HELP = "Ask this installation questions whose answers are known, and report"
DESCRIPTION = """Ask this installation questions whose answers are known: statistics on published examples, hashes and
signatures on the standards' vectors, gates on made cases, integer arithmetic of the runtimes, and a tiny build from
recipe to registry. Nothing is downloaded or sent. What cannot be asked here is listed as skipped, with the reason.

The report is for a quality file: what was expected, what this machine gave, versions and machine."""
EPILOG = """examples:
  edgeft selftest --report selftest.html --report selftest.json
  edgeft selftest --quick                        without the build: seconds instead of a minute

exit codes: 0 every answer is the known one, 1 one is not, 2 bad usage
"""
SUFFIXES = (".html", ".json")


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `selftest`."""
    parser.add_argument(
        "--report", action="append", default=[], type=Path, metavar="FILE", help="write .html or .json; repeatable"
    )
    parser.add_argument("--quick", action="store_true", help="leave out the build, which takes about a minute")
    parser.add_argument("--json", action="store_true", help="print the JSON report instead of lines")


def run(args: argparse.Namespace) -> int:
    """Ask, print, write."""
    for path in args.report:
        if path.suffix not in SUFFIXES or not path.parent.is_dir():
            what = "is neither .html nor .json" if path.suffix not in SUFFIXES else "lies in no folder that exists"
            raise RecipeError(what, where=f"--report {path}", hint="--report selftest.html --report selftest.json")
    from edgeft.report.html import template_environment
    from edgeft.report.selftest import item_line, outcome_line, render_selftest
    from edgeft.ship.selftest.items import ItemRow
    from edgeft.ship.selftest.run import run_selftest

    def tell(row: ItemRow) -> None:
        print(item_line(row), file=sys.stderr if args.json else sys.stdout, flush=True)

    if any(path.suffix == ".html" for path in args.report):
        template_environment()  # a page that cannot be made is said now, not after the build
    found = _installation()
    record = run_selftest(quick=args.quick, host=found["host"], versions=found["versions"], tell=tell)
    text = record.model_dump_json(indent=1) + "\n"
    for path in args.report:
        try:
            path.write_text(render_selftest(record) if path.suffix == ".html" else text, encoding="utf-8")
        except OSError as error:
            raise EdgeftError(f"cannot be written: {error.strerror}", where=str(path)) from error
    print(text if args.json else outcome_line(record), end="" if args.json else "\n")
    return int(Exit.OK if record.status == "PASS" else Exit.GATE_FAILED)


def _installation() -> dict[str, dict[str, str]]:
    """The machine, and every package of the core and the extras with its version, as `edgeft doctor` finds them."""
    from edgeft.cli.doctor import examine

    found: dict[str, Any] = examine()
    host = {
        "system": found["host"]["system"],
        "machine": found["host"]["machine"],
        "processor": found["host"]["cpu"],
        "cores": str(found["host"]["cores"]),
        "CPU flags": " ".join(found["host"]["flags"]) or "not told by the system",
        "GPU": ", ".join(item["name"] for item in found["gpu"]["devices"]) or found["gpu"]["note"],
        "Python": found["python"]["version"],
    }
    rows = [*found["core"], *(row for extra in found["extras"] for row in extra["packages"])]
    return {"host": host, "versions": {row["name"]: row["version"] or "not installed" for row in rows}}
