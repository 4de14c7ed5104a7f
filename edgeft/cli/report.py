"""`edgeft report`: render a record again, as HTML, JSON, text or Markdown."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import EdgeftError, Exit, RecipeError

if TYPE_CHECKING:
    from edgeft.record import RunRecord

HELP = "Show or render again the report of a build."
DESCRIPTION = """Reads record.json of a finished, failed or interrupted build and renders it.
Nothing is built or measured: the same record always gives the same report."""
EPILOG = """examples:
  edgeft report                              the newest build below ./out, as text
  edgeft report out/docs-router              that build, as text
  edgeft report out/docs-router --format html --output report.html
  edgeft report out/docs-router/record.json --format json | jq .status

The exit code says whether the report could be written, not whether the build passed."""
FORMATS = ("html", "json", "text", "markdown")
SUFFIXES = {".html": "html", ".htm": "html", ".json": "json", ".txt": "text", ".md": "markdown"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of the command."""
    parser.add_argument(
        "record", nargs="?", metavar="FOLDER_OR_RECORD",
        help="a build's output folder or its record.json (default: the newest out/*/record.json)",
    )  # fmt: skip
    parser.add_argument("-o", "--output", metavar="FILE", help="write to FILE instead of standard output")
    parser.add_argument(
        "-f", "--format", choices=FORMATS,
        help="what to write (default: by the suffix of --output, else text); markdown is the model card of each target",
    )  # fmt: skip


def run(args: argparse.Namespace) -> int:
    """Render and write. RecordError, RecipeError for what cannot be read or is asked wrongly."""
    from edgeft.report.records import read_record

    form = args.format or SUFFIXES.get(Path(args.output).suffix.lower() if args.output else "", "text")
    record = read_record(Path(args.record) if args.record else _newest(Path("out")))
    content = _render(record, form)
    if args.output:
        _write(Path(args.output), content)
    else:
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    return int(Exit.OK)


def _render(record: RunRecord, form: str) -> bytes:
    if form == "html":
        from edgeft.report.html import render_html

        return render_html(record).encode("utf-8", "replace")
    if form == "json":
        from edgeft.report.records import render_json

        return render_json(record)
    if form == "markdown":
        return _cards(record).encode("utf-8", "replace")
    from edgeft.report.summary import summary_lines

    return ("\n".join(summary_lines(record)) + "\n").encode("utf-8", "replace")


def _cards(record: RunRecord) -> str:
    from edgeft.report.model_card import render_model_card

    if not record.targets:
        raise RecipeError(
            f"the build '{record.name}' reached no target, so there is no model card", hint="use --format text"
        )
    return "\n".join(render_model_card(record, target) for target in record.targets)


def _newest(folder: Path) -> Path:
    """The record that was written last below the default output folder."""
    found = [path for path in folder.glob("*/record.json") if path.is_file()]
    if not found:
        raise RecipeError(
            "no record below ./out",
            hint="name a build's folder: edgeft report FOLDER, or build first: edgeft build RECIPE",
        )
    return max(found, key=lambda path: path.stat().st_mtime_ns)


def _write(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    except OSError as error:
        with suppress(OSError):  # a read-only place refuses this too
            temporary.unlink()
        raise EdgeftError(
            f"cannot be written: {error.strerror}", where=str(path), hint="does the folder exist, is there room?"
        ) from error
