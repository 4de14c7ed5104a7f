"""`edgeft inspect`: what an ONNX file is made of, and which of its layers 8 bits would hurt."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from edgeft.errors import Exit, RecipeError

if TYPE_CHECKING:
    from edgeft.targets.inspect.run import Subject

HELP = "Show an ONNX file's layers, and with data which of them compression would hurt"
DESCRIPTION = """List the layers of an ONNX file, their sizes, and what is quantised already.

With calibration data it is compressed to static int8 here, in a temporary folder, and every layer is compared with its
float form: noise of weights alone, activations alone and both, what the outputs gain when that layer alone stays in
float, and what they lose when it alone is compressed. Nothing is stored and no gate set is read."""
EPILOG = """examples:
  edgeft inspect model.onnx
  edgeft inspect model.onnx --data cases.npz
  edgeft inspect model.onnx --recipe recipe.yaml --json      the recipe's own calibration cases
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `inspect`."""
    parser.add_argument("model", type=Path, metavar="MODEL.onnx", help="an ONNX file, or the bundle that holds one")
    data = parser.add_mutually_exclusive_group()
    data.add_argument("--data", type=Path, metavar="FILE.npz", help="calibration cases: an array (n, ...) per input")
    data.add_argument("--recipe", metavar="RECIPE", help="take the calibration cases of this recipe's data")
    parser.add_argument("--layers", type=int, default=8, metavar="N", help="worst layers tried one by one (default 8)")
    parser.add_argument("--cases", type=int, default=64, metavar="N", help="cases used, at most (default 64)")
    parser.add_argument("--json", action="store_true", help="the whole table as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Read, measure where there is data, print."""
    from edgeft.device.profile import load_device
    from edgeft.pipeline.noise import to_log
    from edgeft.targets.inspect.run import check_feeds, describe, measure, open_subject
    from edgeft.targets.inspect.text import inspect_lines

    for name, value in (("--layers", args.layers), ("--cases", args.cases)):
        if value < 1:
            raise RecipeError("must be 1 or more", where=name)
    device = load_device("local-cpu")
    with TemporaryDirectory(prefix="edgeft-inspect-") as temporary:
        folder = Path(temporary)
        with to_log(folder / "log.txt"):
            subject = open_subject(_model_file(args.model), device, folder)
        record = describe(subject)
        if args.data or args.recipe:
            if record.quantised:
                names = ", ".join(record.quantised)
                raise RecipeError(
                    f"the model is already quantised ({names})", where=str(args.model),
                    hint="give the float model it was made from, or leave the data out to see its layers",
                )  # fmt: skip
            feeds, said = _feeds(args, subject)
            check_feeds(subject, feeds)
            with to_log(folder / "log.txt"):
                found = measure(subject, feeds, device, folder, args.layers, _say)
            record = record.model_copy(update={"sensitivity": found, "data": said})
    print(record.model_dump_json(indent=1) if args.json else "\n".join(inspect_lines(record)))
    return int(Exit.OK)


def _model_file(path: Path) -> Path:
    """The file itself, or that of a bundle or of a build's one bundle."""
    from edgeft.ship.bundle import has_bundle, open_bundle

    if not has_bundle(path):
        if path.is_dir():
            raise RecipeError(
                "no bundle in this folder", where=str(path), hint="give an ONNX file, or a build's outcome"
            )
        return path
    bundle = open_bundle(path)
    return bundle.folder / str(bundle.manifest["model"])


def _feeds(args: argparse.Namespace, subject: Subject) -> tuple[dict[str, Any], str]:
    """(canonical feeds, what they are in words)."""
    if args.recipe:
        from edgeft.pipeline.steps.calibration_cases import calibration_feeds

        return calibration_feeds(args.recipe, subject.signature, args.cases)
    from edgeft.targets.profile.inputs import load_feeds

    if not args.data.is_file():
        raise RecipeError("there is no such file", where=str(args.data), hint="write it with numpy.savez")
    found = load_feeds(args.data, subject.signature, None)
    n = len(next(iter(found.arrays.values())))
    return {name: array[: args.cases] for name, array in found.arrays.items()}, (
        f"{min(n, args.cases)} of {n} cases from {args.data.name}"
    )


def _say(text: str) -> None:
    """A line on standard error that follows the work, on a terminal only."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
