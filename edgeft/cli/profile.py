"""`edgeft profile`: how fast one model is on one device, and whether the number may be believed."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import Exit, RecipeError

if TYPE_CHECKING:
    from edgeft.device.profile import Device
    from edgeft.device.protocol import OnProgress
    from edgeft.targets.profile.model import Model
    from edgeft.targets.profile.record import ProfileRecord
    from edgeft.targets.profile.run import Ask

HELP = "Measure one model on a device: latency, start-up, memory, operators, VALID or INVALID"
DESCRIPTION = """Measure a model file on a device, also one that edgeft did not make: .onnx, .ort, .tflite, .pte, .xml,
.param, or the folder of a bundle. The runtime follows from the suffix. torch is not needed.

Without --inputs the model is fed seeded made-up cases, and the output says so. Nothing is timed on emulated devices.
docs/profiling.md describes the protocol."""
EPILOG = """examples:
  edgeft profile model.onnx --shape input_ids=1x64 --shape attention_mask=1x64
  edgeft profile model.tflite --device my-pi --full --out profile/
  edgeft profile int8.onnx --against float.onnx --inputs cases.npz --json
  edgeft profile model.onnx --device windows-clinic-pc --pack job.zip
  edgeft profile model.onnx --device windows-clinic-pc --pack job.zip --collect result.zip

exit codes: 0 VALID, 5 INVALID (the reasons are printed), 2 bad usage, 4 the device or its runtime failed
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `profile`."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model file, a bundle, or the build's folder")
    add_device_options(parser)
    parser.add_argument("--against", type=Path, metavar="OTHER", help="compare with this model too, interleaved")
    add_input_options(parser)
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON document")
    parser.add_argument("--out", type=Path, help="write report.html here, or into a folder with the raw samples")
    parser.add_argument("--pack", type=Path, metavar="JOB.zip", help="write the jobs to carry to the device by hand")
    parser.add_argument(
        "--collect", type=Path, metavar="RESULT.zip",
        help="read what was carried back; --pack then names the job it answers (default: job.zip beside it)",
    )  # fmt: skip


def add_device_options(parser: argparse.ArgumentParser) -> None:
    """Where to run, and how long to wait for it."""
    parser.add_argument("--device", default="local-cpu", help="a device type, a unit of yours, or a YAML file")
    parser.add_argument("--wait-device", default="0s", metavar="TIME", help="wait for a unit in use: 90s, 10m")


def add_input_options(parser: argparse.ArgumentParser) -> None:
    """What to feed, and how long to measure."""
    long = parser.add_mutually_exclusive_group()
    long.add_argument("--quick", action="store_true", help="at least 64 runs and 10 s (default)")
    long.add_argument("--full", action="store_true", help="at least 1024 runs and 60 s")
    parser.add_argument("--inputs", type=Path, metavar="FILE.npz", help="your own cases: an array (n, ...) per input")
    parser.add_argument(
        "--shape", action="append", default=[], metavar="NAME=1x64", help="an input's full shape, where it is open"
    )
    parser.add_argument("--batch", type=int, help="cases a run, where the model leaves it open (default 1)")


def run(args: argparse.Namespace) -> int:
    """Measure, print, write; 5 where the measurement is INVALID."""
    from edgeft.targets.profile.text import profile_lines

    if (args.pack or args.collect) and args.against:
        raise RecipeError("--against needs the device at hand", hint="leave it out, or use `edgeft compare` there")
    with ExitStack() as stack:
        model = stack.enter_context(open_any(args.model))
        ask = ask_of(args)
        if args.collect:
            record, raw = _collect(args, model, ask)
        elif args.pack:
            return _pack(args, model, ask)
        else:
            record, raw = _measure(args, model, ask, stack)
    if args.out:
        _write(args.out, record, raw)
    if args.json:
        print(record.model_dump_json(indent=1))
    else:
        print("\n".join(profile_lines(record)))
    return int(Exit.OK if record.verdict == "VALID" else Exit.INCONCLUSIVE)


def _measure(
    args: argparse.Namespace, model: Model, ask: Ask, stack: ExitStack
) -> tuple[ProfileRecord, dict[str, Any]]:
    from edgeft.targets.profile.compare import compare_pair
    from edgeft.targets.profile.model import inspect_model, require_runtime
    from edgeft.targets.profile.run import profile_model

    other = stack.enter_context(open_any(args.against)) if args.against else None
    if other is not None:
        model, other = label_apart([model, other], [args.model, args.against])
    device = stack.enter_context(device_of(args))
    if other is not None:
        require_runtime(device, other.runtime)
    record, raw = profile_model(device, model, ask, show_progress("timing"))
    if other is not None:
        ours, theirs = inspect_model(device, model), inspect_model(device, other)
        first, second = (other, theirs), (model, ours)
        feeds = ask.feeds(theirs)
        row = compare_pair(device, first, second, feeds, ask.protocol, show_progress("comparing"))
        record = record.model_copy(update={"comparison": row})
    return record, raw


def ask_of(args: argparse.Namespace) -> Ask:
    """What the options ask for."""
    from edgeft.targets.profile.inputs import parse_shapes
    from edgeft.targets.profile.run import Ask

    if args.batch is not None and args.batch < 1:
        raise RecipeError("must be 1 or more", where="--batch")
    return Ask("full" if args.full else "quick", args.batch, parse_shapes(args.shape), args.inputs)


def open_any(path: Path) -> Any:
    """A model file or artefact folder; a bundle's files, or a build's one bundle, are checked against its manifest."""
    from edgeft.ship.bundle import has_bundle, open_bundle
    from edgeft.targets.profile.model import open_model

    if has_bundle(path):
        bundle = open_bundle(path)
        return open_model(bundle.folder / str(bundle.manifest["model"]), str(bundle.manifest["runtime"]))
    return open_model(path)


def label_apart(models: list[Model], paths: list[Path]) -> list[Model]:
    """Files of one name are called by what the user typed: 'model.onnx is slower than model.onnx' says nothing."""
    names = [model.label for model in models]
    return [
        replace(model, label=str(path)) if names.count(model.label) > 1 else model
        for model, path in zip(models, paths, strict=True)
    ]


def device_of(args: argparse.Namespace) -> Any:
    """The device, leased where it is a unit."""
    from edgeft.device.duration import parse_duration
    from edgeft.device.pick import pick_unit, resolve_device

    try:
        patience = parse_duration(args.wait_device)
    except ValueError as error:
        raise RecipeError(str(error), where="--wait-device") from error
    return pick_unit(resolve_device(args.device), patience, lambda text: print(text, file=sys.stderr))


def show_progress(what: str) -> OnProgress:
    """A line on standard error that follows the seconds, on a terminal only."""
    if not sys.stderr.isatty():
        from edgeft.device.protocol import ignore_progress

        return ignore_progress

    def show(done: float, total: float) -> None:
        end = "\n" if done >= total else ""
        print(f"\r{what} {done / total if total else 1:4.0%}", end=end, file=sys.stderr, flush=True)

    return show


def _write(out: Path, record: ProfileRecord, raw: dict[str, Any]) -> None:
    """report.html, or a folder of report.html, profile.json and samples.json (every block, void ones too)."""
    single = out.suffix.lower() in (".html", ".htm")
    try:
        (out.parent if single else out).mkdir(parents=True, exist_ok=True)
        page = _render(record)
        if single:
            if page is None:
                raise RecipeError("this edgeft renders no HTML of a profile", where="--out", hint="name a folder")
            out.write_text(page, encoding="utf-8")
            return
        if page is not None:
            (out / "report.html").write_text(page, encoding="utf-8")
        (out / "profile.json").write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
        (out / "samples.json").write_text(json.dumps(raw) + "\n", encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot be written: {error.strerror}", where=str(out)) from error


def _render(record: ProfileRecord) -> str | None:
    """The page; None where the report floor has none for profiles."""
    from importlib import import_module
    from importlib.util import find_spec

    if find_spec("edgeft.report.profile") is None:
        return None
    page: str = import_module("edgeft.report.profile").render_profile(record)
    return page


def _pack(args: argparse.Namespace, model: Model, ask: Ask) -> int:
    from edgeft.targets.profile.carried import pack_profile

    count = pack_profile(_carried(args), model, ask, args.pack)
    print(
        f"{args.pack}: {count} jobs for {args.device}; unpack it there and run `python run.py`, bring result.zip back,"
    )
    print("then the same command with --collect result.zip")
    return int(Exit.OK)


def _collect(args: argparse.Namespace, model: Model, ask: Ask) -> tuple[ProfileRecord, dict[str, Any]]:
    from edgeft.targets.profile.carried import collect_profile

    job = args.pack or args.collect.with_name("job.zip")
    return collect_profile(_carried(args), model, ask, job, args.collect)


def _carried(args: argparse.Namespace) -> Device:
    from edgeft.device.pick import resolve_device

    return resolve_device(args.device)
