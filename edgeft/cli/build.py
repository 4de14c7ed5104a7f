"""`edgeft build`: the main job."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.cli.devices_wait import add_wait_option

if TYPE_CHECKING:
    from edgeft.pipeline.build import Build
    from edgeft.pipeline.progress import Mode
    from edgeft.record import RunRecord
    from edgeft.ship.keys import Signer

HELP = "Build a recipe: fine-tune, compress, run on the device, gate, bundle, report"
DESCRIPTION = """Build a recipe: data, fine-tuning, merge, export, candidates, choice, gates, bundle and report.

Finished steps come from the store; a build that was stopped, killed included, goes on where it was.
The outcome is written to OUT/NAME: report.html, record.json, targets/DEVICE/ for what passed every gate,
rejected/DEVICE/ for what did not."""
EPILOG = """examples:
  edgeft build edgeft:text/quickstart
  edgeft build recipe.yaml --set finetune.epochs=5 --set gates.0.margin=0.01
  edgeft build recipe.yaml --to merge --export gpu-box/      train on one machine ...
  edgeft build recipe.yaml --from gpu-box/                   ... compress and gate on another
  edgeft build recipe.yaml --sign-key release.pem            sign what passes (`edgeft keys new` makes a key)
  edgeft build recipe.yaml --locked                          reproduce the bytes of choice.lock
  accelerate launch --num_processes 4 -m edgeft build recipe.yaml      train on four GPUs

exit codes: 0 every gate passed, 1 a gate failed, 2 bad recipe or usage, 3 a step failed, 4 device unreachable,
5 inconclusive, 130 interrupted
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `build`."""
    add_recipe_options(parser)
    parser.add_argument(
        "--out", type=Path, default=Path("out"), metavar="DIR", help="folder for the outcome (default: out)"
    )
    parser.add_argument(
        "--to", metavar="STEP", help="stop after this step; `search` stops before the gate set is opened"
    )
    parser.add_argument(
        "--export", type=Path, metavar="DIR", help="with --to: write the finished steps and their lineage into DIR"
    )
    parser.add_argument(
        "--from",
        dest="start",
        type=Path,
        metavar="DIR",
        help="go on from a folder that --export wrote; code of a code model runs from it: trust whoever sent it",
    )
    parser.add_argument(
        "--locked", action="store_true", help="take the candidates pinned in choice.lock and reproduce their bytes"
    )
    parser.add_argument(
        "--remeasure", action="store_true", help="measure latency again although a record of this machine exists"
    )
    parser.add_argument(
        "--sign-key",
        type=Path,
        metavar="FILE",
        help="sign bundles that pass with this private key (default: EDGEFT_SIGNING_KEY, a file or PEM text)",
    )
    add_wait_option(parser)
    output = parser.add_mutually_exclusive_group()
    output.add_argument(
        "--json", action="store_true", help="one JSON object a line on standard output; the record last"
    )
    output.add_argument("--quiet", action="store_true", help="print warnings and the outcome only")


def add_recipe_options(parser: argparse.ArgumentParser) -> None:
    """What `build` and `plan` share."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a YAML file, or a shipped recipe such as edgeft:text/quickstart"
    )
    parser.add_argument(
        "--set",
        dest="sets",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change a value, e.g. finetune.rank=8; may be repeated",
    )
    parser.add_argument("--offline", action="store_true", help="open no network connection")


def run(args: argparse.Namespace) -> int:
    """Build and report."""
    from datetime import UTC, datetime

    from edgeft.pipeline import interrupt
    from edgeft.pipeline.build import Options, prepare_build, run_build
    from edgeft.pipeline.follow import follow, rank
    from edgeft.pipeline.noise import own_stream
    from edgeft.pipeline.progress import open_events
    from edgeft.pipeline.recorder import make_record
    from edgeft.recipe.load import load_recipe
    from edgeft.ship.bundle import open_bundle
    from edgeft.ship.keys import find_signer
    from edgeft.store import Store

    started, began = datetime.now(UTC), time.monotonic()
    how = (args.out, args.to, args.start, args.locked, args.offline, args.remeasure, args.wait_device)
    options = Options(*how, open_bundle=open_bundle)
    if args.export and not args.to:
        from edgeft.errors import RecipeError

        raise RecipeError(
            "--export goes with --to", where="--export", hint="name the step to stop after: --to merge --export DIR"
        )
    signer = find_signer(args.sign_key)  # before hours of training: a key that cannot be opened ends the build now
    if args.export:
        from edgeft.store.portable import check_place

        check_place(args.export)
    interrupt.watch()
    events = open_events("quiet" if rank() > 0 else _mode(args), own_stream(1 if args.json else 2))
    try:
        store = Store(on_warning=lambda text: events.warn("store", text))
        build = prepare_build(load_recipe(args.recipe, args.sets), store, options, events)
        if rank() > 0:
            follow(build)
            return 0
        run_build(build)
    finally:
        events.close()
    record = make_record(build, started, time.monotonic() - began)
    code = _finish(args, build, record, signer)
    if args.export and build.stopped:
        store.export(_keys(build), args.export, {"recipe": record.name, "to": args.to, "edgeft": record.edgeft})
    return code


def _finish(args: argparse.Namespace, build: Build, record: RunRecord, signer: Signer | None) -> int:
    from edgeft.report import render_html, render_json, render_model_card, summary_lines
    from edgeft.ship.output import Renderers, write_outcome

    record = write_outcome(build, record, Renderers(render_html, render_json, render_model_card), signer)
    if args.json:
        print(record.model_dump_json())
    else:
        lines = summary_lines(record, report=str(build.folder / "report.html"))
        print("\n".join(lines), file=sys.stderr if build.error is not None or build.interrupted else sys.stdout)
    return record.exit_code


def _keys(build: Build) -> dict[str, str]:
    executor = build.executor
    return {step: executor.keys[step] for step in executor.done}


def _mode(args: argparse.Namespace) -> Mode:
    if args.json:
        return "json"
    if args.quiet:
        return "quiet"
    return "live"
