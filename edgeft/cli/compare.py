"""`edgeft compare`: models against each other on one device, times interleaved and outputs on the same inputs."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from edgeft.cli.profile import (
    add_device_options,
    add_input_options,
    ask_of,
    device_of,
    label_apart,
    open_any,
    show_progress,
)
from edgeft.errors import Exit, RecipeError

HELP = "Compare models on a device: size, interleaved latency ratios with intervals, outputs on the same inputs"
DESCRIPTION = """Compare models with the first one named, on one device: sizes, latency ratios from interleaved
blocks A B B A over several processes, with an interval, and their outputs on the same inputs. The models may be
of different runtimes, as long as they take the same inputs. Without --inputs those are seeded made-up cases, and the
output says so: differences on made-up cases say that models differ, not how much that matters."""
EPILOG = """examples:
  edgeft compare float.onnx int8.onnx --inputs cases.npz
  edgeft compare model.onnx model.tflite model.xml --device my-pi --json

exit codes: 0 every comparison is VALID, 5 one is INVALID, 2 bad usage, 4 the device or its runtime failed
"""
MOST = 16


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `compare`."""
    parser.add_argument("models", type=Path, nargs="+", metavar="MODEL", help="two or more model files or bundles")
    add_device_options(parser)
    add_input_options(parser)
    parser.add_argument("--json", action="store_true", help="the whole record as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Measure and print; 5 where a comparison is INVALID."""
    from edgeft.targets.profile.compare import compare_models
    from edgeft.targets.profile.text import compare_lines

    if not 2 <= len(args.models) <= MOST:
        raise RecipeError(f"takes two to {MOST} models, got {len(args.models)}", where="MODEL")
    with ExitStack() as stack:
        models = label_apart([stack.enter_context(open_any(path)) for path in args.models], args.models)
        ask = ask_of(args)
        device = stack.enter_context(device_of(args))
        record = compare_models(device, models, ask, show_progress("comparing"))
    print(record.model_dump_json(indent=1) if args.json else "\n".join(compare_lines(record)))
    return int(Exit.OK if all(row.valid for row in record.comparisons) else Exit.INCONCLUSIVE)
