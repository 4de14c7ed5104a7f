"""`edgeft run --dicom`: a DICOM segmentation or report of a series."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import TextIO

    from edgeft.ship.bundle import Bundle
    from edgeft.ship.dicom.run import Answer

QUALIFICATIONS = ("research", "product", "service")
SHOWN = 5
"""Findings on the terminal; --json gives all."""


def configure(parser: argparse.ArgumentParser) -> None:
    """The options that go with --dicom."""
    group = parser.add_argument_group("DICOM in, DICOM out (needs the extra `medical`)")
    group.add_argument("--dicom", type=Path, metavar="PATH", help="a DICOM file, or a folder with one series")
    group.add_argument("--out", type=Path, metavar="FOLDER", help="where the segmentation or report is written")
    group.add_argument(
        "--force", action="store_true", help="write into a folder that holds something; replaces nothing"
    )
    group.add_argument("--series", default="", metavar="NAME", help="which, by number, description or UID")
    group.add_argument("--codes", type=Path, metavar="JSON", help="coded concept of each label (docs/medical.md)")
    group.add_argument("--manufacturer", default="edgeft", metavar="TEXT", help="of the objects; default edgeft")
    group.add_argument(
        "--qualification",
        choices=QUALIFICATIONS,
        default="research",
        help="Content Qualification of the objects; product only where the bundle is an approved one",
    )


def check_usage(args: argparse.Namespace) -> None:
    """RecipeError where the options do not go together."""
    from edgeft.errors import RecipeError

    if args.dicom is None:
        given = [name for name in ("out", "codes", "series", "force") if getattr(args, name)]
        if given:
            raise RecipeError(
                "goes with --dicom", where=f"--{given[0]}", hint="give a DICOM file or folder: --dicom PATH"
            )
        if args.input is None:
            raise RecipeError("give INPUT, or --dicom PATH and --out FOLDER", where="edgeft run")
    elif args.input is not None:
        raise RecipeError(
            "INPUT and --dicom exclude each other", where="edgeft run", hint=f"leave out '{args.input[:80]}'"
        )
    elif args.out is None:
        raise RecipeError("says where the object goes: give --out FOLDER", where="--dicom")


def run(args: argparse.Namespace, bundle: Bundle) -> int:
    """Answer, write and print."""
    from edgeft.pipeline.noise import own_stream, to_log
    from edgeft.ship.dicom.run import Wanted, run_dicom

    wanted = Wanted(
        args.dicom, args.out, args.series, args.codes, args.manufacturer, args.qualification.upper(), args.force
    )
    with own_stream(2) as screen, to_log(Path(os.devnull)):  # some runtimes greet on standard error
        answer = run_dicom(bundle, wanted, _show_slices(screen), lambda text: print(f"warning: {text}", file=screen))
    print(_as_json(answer) if args.json else "\n".join(_lines(answer)))
    return 0


def _show_slices(screen: TextIO) -> Callable[[int, int], None]:
    """A line that follows the slices, on a terminal only."""
    live = sys.stderr.isatty()

    def show(done: int, total: int) -> None:
        if live:
            print(f"\r{done}/{total} slices", end="\n" if done >= total else "", file=screen, flush=True)

    return show


def _lines(answer: Answer) -> list[str]:
    first = f"{answer.written.path}  {answer.slices} slice{'' if answer.slices == 1 else 's'}"
    if answer.shares:
        return [f"{first}: {', '.join(f'{label} {share:.1%}' for label, share in answer.shares.items())}"]
    rows = [
        f"  slice {place}: {row['label']} {row['probabilities'][row['label']]:.1%}"
        for place, row in enumerate(answer.findings[:SHOWN], 1)
    ]
    more = len(answer.findings) - SHOWN
    return [first, *rows, *([f"  and {more} more; --json gives all"] if more > 0 else [])]


def _as_json(answer: Answer) -> str:
    row = {"object": str(answer.written.path), "sop_instance_uid": answer.written.instance, "slices": answer.slices}
    rest = {"shares": dict(answer.shares)} if answer.shares else {"findings": list(answer.findings)}
    return json.dumps({**row, **rest}, ensure_ascii=False)
