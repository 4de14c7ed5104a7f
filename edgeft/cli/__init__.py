"""The command line: argparse, one file per command, heavy imports only inside the command that runs."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from types import ModuleType

from edgeft import __version__
from edgeft.errors import EdgeftError, Exit, RecipeError

COMMANDS = {
    "build": "Build a recipe: fine-tune, compress, run on the device, gate, bundle, report",
    "plan": "Show what a build would do, why, and what it would cost; run nothing",
    "init": "Write a commented recipe from your data, model and device",
    "verify": "Check a bundle, without trusting it: signature, every file, golden outputs, gates",
    "sign": "Sign a bundle that passed its gates",
    "pack": "Write a bundle as one .zip file, the same bytes each time",
    "keys": "Make a signing key, or show its public half",
    "run": "Answer one input with a built bundle, on the real runtime",
    "profile": "Measure one model on a device: latency, start-up, memory, operators, VALID or INVALID",
    "inspect": "Show an ONNX file's layers, and with data which of them compression would hurt",
    "compare": "Compare models on a device: size, interleaved latency, outputs on the same inputs",
    "check": "Check a new artefact against a released one: accuracy, latency, size, with verdicts for CI",
    "report": "Render a build's record again: HTML, Markdown, text or JSON",
    "registry": "Keep versions of bundles, promote what passed and is signed, roll back",
    "devices": "List device types and your machines; add, reach and prepare them",
    "recipes": "List the shipped recipes, or copy one to start from",
    "convert": "Turn a pickle checkpoint into safetensors, safely",
    "fetch": "Gather wheels, model and data for a site without internet",
    "gc": "Say what the store costs and make room",
    "doctor": "Say what is installed, which hardware was found, and what each extra would add",
    "selftest": "Ask this installation questions whose answers are known, and report",
    "schema": "Print the recipe's JSON Schema for editor completion",
    "completion": "Print the shell completion script",
}
DESCRIPTION = "Take a model from fine-tuning to a gated, shippable artefact on an edge device."
EPILOG = """first steps:
  edgeft build edgeft:text/quickstart      the whole job on real text, about five minutes on two cores
  edgeft init --data train.csv --model ./my-model --device local-cpu
  edgeft plan recipe.yaml

exit codes:
  0 every gate passed   1 a gate failed        2 bad recipe or usage   3 a step failed
  4 device unreachable  5 inconclusive       130 interrupted
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # OpenMP's threads spin while they wait for one another. With one other busy process on two cores, training by the
    # default policy took 1 step in the time of 26 by this one. It is read when torch loads, so it is set here.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal that lacks a letter must not end a build
    try:
        command = arguments[0] if arguments else "--help"
        if command not in COMMANDS:
            return _no_command(command)
        module = import_module(f"edgeft.cli.{command}")
        args = command_parser(command, module).parse_args(arguments[1:])
        code = int(module.run(args))
        sys.stdout.flush()
        return code
    except EdgeftError as error:
        _tell(error.render())
        return int(error.exit_code)
    except KeyboardInterrupt:
        _tell("interrupted")
        return int(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader went away (`edgeft plan | head`): not our failure, and nothing is left to say it to. But 0 of
        # a build would say that every gate passed.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return int(Exit.INTERRUPTED if command == "build" else Exit.OK)
    except Exception:  # noqa: BLE001  Python's own exit code for it is 1, which here says that a gate failed
        import traceback

        fault = "error: this is a fault of edgeft itself\nhint: please report it with the lines above"
        _tell(f"{traceback.format_exc()}{fault}")
        return int(Exit.STEP_FAILED)


def _tell(text: str) -> None:
    """Last words. On a full disk they cannot be said, but the exit code has to stand: Python's own would be 1."""
    try:
        print(text, file=sys.stderr, flush=True)
    except OSError:
        sys.stdout, sys.stderr = (io.TextIOWrapper(io.BytesIO()) for _ in range(2))  # nor flushed again at the end


def _no_command(word: str) -> int:
    """Help, version, or what the user may have meant."""
    if word.startswith("-"):
        _top_parser().parse_args([word])
        return int(Exit.USAGE)
    from difflib import get_close_matches

    near = get_close_matches(word, COMMANDS, n=1)
    hint = f"did you mean '{near[0]}'?" if near else "`edgeft --help` lists the commands"
    raise RecipeError(f"no command is called '{word}'", where="edgeft", hint=hint)


def command_parser(command: str, module: ModuleType) -> argparse.ArgumentParser:
    """The parser of one command, as its file configures it."""
    parser = argparse.ArgumentParser(
        prog=f"edgeft {command}",
        description=module.DESCRIPTION,
        epilog=module.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(parser)
    return parser


def _top_parser() -> argparse.ArgumentParser:
    width = max(map(len, COMMANDS))
    listing = "\n".join(f"  {name:<{width}}  {text}" for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="edgeft",
        usage="edgeft COMMAND [options]",
        description=DESCRIPTION,
        epilog=f"commands:\n{listing}\n\n`edgeft COMMAND --help` explains each.\n\n{EPILOG}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edgeft {__version__}")
    return parser
