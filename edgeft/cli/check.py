"""`edgeft check`: is a new artefact worse than a released one?"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.cli.profile import add_device_options, add_input_options, ask_of, device_of, show_progress
from edgeft.errors import DeviceError, Exit, RecipeError

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.recipe.load import LoadedRecipe
    from edgeft.ship.check.record import CheckRecord
    from edgeft.ship.check.run import Limits, Match
    from edgeft.ship.check.sides import Contender
    from edgeft.ship.check.stated import Form, Resolved

HELP = "Check a new artefact against a released one: accuracy, latency and size, with verdicts for CI"
DESCRIPTION = """Check a candidate against a baseline: is it less accurate on the same labelled cases, slower on the
same device in the same session, or larger? Each is a bundle, or a model file (.onnx, .ort, .tflite, .pte, .xml, .param)
that is fed as the other side's bundle or --recipe says. torch is not needed (requirements-check.txt).

Every check ends in PASS, FAIL or INCONCLUSIVE; what was neither done nor left out on purpose is INCONCLUSIVE. Times are
measured anew, in turns; recorded ones are never compared. docs/regression.md has an example for CI."""
EPILOG = """examples:
  edgeft check out/router --baseline released/router --data test.csv
  edgeft check new.onnx --baseline released/router --data test.csv --margin 0.02 --junit check.xml
  edgeft check new.tflite --baseline old.onnx --recipe recipe.yaml --data test.csv --markdown comment.md
  edgeft check out/liver --baseline released/liver --data cohort --split-salt out/liver/split-salt.txt
  edgeft check new.onnx --baseline old.onnx --no-accuracy --latency-margin 10% --device my-pi

exit codes: 0 PASS, 1 FAIL, 5 INCONCLUSIVE, 2 bad usage, 3 a side cannot be scored, 4 the device or its runtime failed
"""
DEFAULT_SHARE = "5%"


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `check`."""
    parser.add_argument(
        "candidate",
        type=Path,
        metavar="CANDIDATE",
        help="a bundle, its archive, a build's folder, or a model file",
    )
    parser.add_argument("--baseline", type=Path, required=True, help="the released one: likewise")
    parser.add_argument(
        "--data", type=Path, metavar="FILE", help="labelled cases: a table, or a folder of images or volumes"
    )
    parser.add_argument("--recipe", metavar="RECIPE", help="says task, preprocessing, columns and margins")
    parser.add_argument("--text", metavar="COLUMN", help="column with the text (default: the recipe's, else text)")
    parser.add_argument("--label", metavar="COLUMN", help="column with the label (default: the recipe's, else label)")
    parser.add_argument("--unit", metavar="COLUMN", help="column of what was sampled independently; row: each row")
    parser.add_argument(
        "--split-salt", action="append", default=[], type=Path, metavar="FILE",
        help="split-salt.txt of a side's build: cases it was trained on are told and pass nothing; repeatable",
    )  # fmt: skip
    parser.add_argument("--cases", type=int, metavar="N", help="ask at most so many cases, evenly spaced")
    limits = parser.add_argument_group("limits")
    limits.add_argument("--metric", help="what must not get worse (default: the gates', else the task's first)")
    limits.add_argument("--margin", metavar="X", help="how much worse is accepted (default: the gates', else 0.01)")
    for kind in ("latency", "size"):
        limits.add_argument(f"--{kind}-margin", default=None, metavar="X%", help=f"default {DEFAULT_SHARE}%")
    for kind in ("accuracy", "latency", "size"):
        limits.add_argument(f"--no-{kind}", action="store_true", help=f"leave {kind} out")
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="PUB",
        help="a public key you trust: the baseline must be signed by it; repeatable",
    )  # fmt: skip
    limits.add_argument("--allow-rejected", action="store_true", help="take a baseline that did not pass its own gates")
    add_device_options(parser)
    add_input_options(parser)
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON document")
    parser.add_argument("--junit", type=Path, metavar="FILE.xml", help="write one test case per verdict")
    parser.add_argument("--markdown", type=Path, metavar="FILE.md", help="write a table for a pull request")


def run(args: argparse.Namespace) -> int:
    """Check, print, write; the exit code is the verdicts'."""
    from edgeft.report.check import check_lines

    if all(getattr(args, f"no_{kind}") for kind in ("accuracy", "latency", "size")):
        raise RecipeError("nothing is left to check", hint="drop one of --no-accuracy, --no-latency, --no-size")
    _require_folders(args)
    with ExitStack() as stack:
        record = _check(args, stack)
    print(record.model_dump_json(indent=1) if args.json else "\n".join(check_lines(record)))
    _write(args, record)
    codes = {"PASS": Exit.OK, "FAIL": Exit.GATE_FAILED, "INCONCLUSIVE": Exit.INCONCLUSIVE}
    return int(codes[record.status])


def _check(args: argparse.Namespace, stack: ExitStack) -> CheckRecord:
    """What can be known without the device first; the device is leased once everything else is ready."""
    from edgeft.device.pick import resolve_device
    from edgeft.ship.check.run import run_check

    device: Device = resolve_device(args.device)
    if device.by_hand:
        raise DeviceError(f"{device.name} is not at hand, and a check needs both sides run there in one session")
    scratch = Path(stack.enter_context(TemporaryDirectory(prefix="edgeft-check-")))
    notes: list[str] = []
    match = _make_match(args, stack, device, scratch, notes)
    unit = stack.enter_context(device_of(args))
    return run_check(unit, match, notes, show_progress)


def _make_match(args: argparse.Namespace, stack: ExitStack, device: Device, scratch: Path, notes: list[str]) -> Match:
    from edgeft.recipe.load import load_recipe
    from edgeft.ship.check.cases import read_cases
    from edgeft.ship.check.members import group_by, look_up, read_members
    from edgeft.ship.check.run import Match, take_cases
    from edgeft.ship.check.scans import read_scans
    from edgeft.ship.check.sides import open_side, share_reading
    from edgeft.ship.check.stated import Resolved, read_resolved, reading_of_recipe
    from edgeft.ship.check.trust import require_released, require_signer
    from edgeft.ship.check.volumes import check_plans, takes_windows

    loaded = load_recipe(args.recipe) if args.recipe else None
    sides = (
        stack.enter_context(open_side("candidate", args.candidate)),
        stack.enter_context(open_side("baseline", args.baseline)),
    )
    notes += require_released(*sides, allow_rejected=args.allow_rejected)
    signer, said = require_signer(sides[1], args.key)
    notes += said
    stated = None
    if loaded is not None and any(side.bundle is None for side in sides):
        known = next((side.reading.labels for side in sides if side.reading), None)
        (scratch / "prepared").mkdir()
        stated = reading_of_recipe(loaded, known, scratch / "prepared")
    candidate, baseline = share_reading((sides[0], sides[1]), stated)
    resolved = read_resolved(baseline.bundle) if baseline.bundle and loaded is None else Resolved()
    notes += resolved.notes
    limits = _limits(args, device, loaded, baseline, resolved)
    volumes = takes_windows(baseline)
    if volumes:
        timed = "latency" not in limits.left_out and device.times_count
        check_plans(candidate, baseline, limits.margins, timed)
    lookup = None
    if args.split_salt:
        lookup, said = read_members(args.split_salt, (candidate, baseline))
        notes += said
    rows = data = scans = None
    trained = ""
    if args.data is not None and "accuracy" not in limits.left_out:
        if baseline.reading is None:
            hint = "give --recipe, or a bundle on one side; or leave --data out and say --no-accuracy"
            raise RecipeError("nothing says how two bare models are fed and scored", where="--data", hint=hint)
        form = _form(args, loaded, resolved)
        by = {item.gate.by for item in limits.margins if item.gate.by}
        if lookup is not None:
            group, plain = group_by(lookup, volumes)
            form, by = replace(form, group=group), by.union(plain)
        task, labels = baseline.reading.task, baseline.reading.labels
        if volumes:
            sides = candidate, baseline
            rows, data, scans = read_scans(args.data, form, sides, sorted(by), scratch, notes.append)
        else:
            rows, data = read_cases(args.data, form, task, labels, sorted(by), scratch, notes.append)
        rows, data = take_cases(rows, data, args.cases)
        if lookup is not None:
            seen = look_up(lookup, rows)
            trained, data = seen.why, data.model_copy(update={"trained": seen.trained})
            notes += seen.notes
    return Match(candidate, replace(baseline, signer=signer), rows, data, limits, ask_of(args), scans, trained)


def _limits(
    args: argparse.Namespace, device: Device, loaded: LoadedRecipe | None, baseline: Contender, resolved: Resolved
) -> Limits:
    from edgeft.evaluate.gates import needed_at_best
    from edgeft.ship.check.run import Limits
    from edgeft.ship.check.stated import find_margins, gates_of_recipe

    left: dict[Any, str] = {
        kind: f"--no-{kind}" for kind in ("accuracy", "latency", "size") if getattr(args, f"no_{kind}")
    }
    margins: Any = []
    if baseline.reading is not None and "accuracy" not in left:
        stated = gates_of_recipe(loaded) if loaded else resolved.gates
        margin = None if args.margin is None else _share(args.margin, "--margin", most=1.0)
        margins = find_margins(args.metric, margin, baseline.reading, (device.name, args.device), stated)
        for item in margins:
            needed_at_best(item.gate, 1)  # RecipeError for a margin that no number of cases can show
    shares = {
        kind: (_share(given or DEFAULT_SHARE, f"--{kind}-margin"), f"--{kind}-margin" if given else "edgeft's default")
        for kind, given in (("latency", args.latency_margin), ("size", args.size_margin))
    }
    return Limits(margins, shares["latency"], shares["size"], left)


def _form(args: argparse.Namespace, loaded: LoadedRecipe | None, resolved: Resolved) -> Form:
    """Columns: the command line's, else the recipe's, else those the baseline was built with."""
    from edgeft.ship.check.stated import form_of_recipe

    form = form_of_recipe(loaded) if loaded else resolved.form
    changes = {name: value for name in ("text", "label", "unit") if (value := getattr(args, name)) is not None}
    if changes.get("unit") == "row":
        changes["unit"] = None
    return replace(form, **changes)


def _share(text: str, where: str, most: float = 100.0) -> float:
    """`5%` or `0.05`; RecipeError for anything else, and for 5, which could mean either."""
    try:
        value = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value < most or (value >= 1 and "%" not in text):
        raise RecipeError(f"'{text}' is no margin", where=where, hint="write 5% or 0.05")
    return value


def _require_folders(args: argparse.Namespace) -> None:
    """A report that cannot be written is a mistake to hear of before minutes of measuring; so are other options."""
    for path in (args.junit, args.markdown):
        if path is not None and (path.is_dir() or not path.absolute().parent.is_dir()):
            raise RecipeError("no file can be written there", where=str(path), hint="a file in a folder that exists")
    if args.split_salt and (args.data is None or args.no_accuracy):
        raise RecipeError("there are no cases to look up", where="--split-salt", hint="it goes with --data")
    if args.cases is not None and args.cases < 1:
        raise RecipeError("must be 1 or more", where="--cases")


def _write(args: argparse.Namespace, record: CheckRecord) -> None:
    from edgeft.report.check import check_markdown
    from edgeft.report.check_junit import check_junit

    for path, render in ((args.junit, check_junit), (args.markdown, check_markdown)):
        if path is None:
            continue
        try:
            path.write_text(render(record), encoding="utf-8")
        except OSError as error:
            raise RecipeError(f"cannot be written: {error.strerror}", where=str(path)) from error
