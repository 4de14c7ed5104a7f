"""`edgeft run`: one answer from a bundle."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeft.ship.bundle import Bundle

HELP = "Answer one input with a built bundle, on the real runtime"
DESCRIPTION = """Run a bundle on this machine with the runtime it was gated on. torch is not needed.

INPUT is a text; `-` reads one text a line from standard input. The bundle's files are checked against its
manifest first."""
EPILOG = """examples:
  edgeft run out/quickstart "Returns the eigenvalues of a symmetric matrix."
  edgeft run out/quickstart/targets/local-cpu - --json < texts.txt
"""
MAX_CASES = 10_000


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `run`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="targets/DEVICE of a build, or the build's folder")
    parser.add_argument("input", metavar="INPUT", help="a text, or - for one text a line on standard input")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def run(args: argparse.Namespace) -> int:
    """Answer and print."""
    from edgeft.pipeline.noise import to_log
    from edgeft.ship.bundle import NOT_SHIPPED, open_bundle

    texts = _texts(args.input)
    bundle = open_bundle(args.bundle)
    if (bundle.folder / NOT_SHIPPED).exists():
        print("warning: this artefact did not pass its gates", file=sys.stderr)
    with to_log(Path(os.devnull)):  # some runtimes greet on standard error
        found = answers(bundle, texts)
    for text, answer in zip(texts, found, strict=True):
        if args.json:
            print(json.dumps({"input": text, **answer}, ensure_ascii=False))
        else:
            rest = ", ".join(f"{row['label']} {row['probability']:.1%}" for row in answer["top"][1:])
            print(f"{answer['label']}  {answer['probability']:.1%}  ({rest})")
    return 0


def answers(bundle: Bundle, texts: list[str]) -> list[dict[str, Any]]:
    """One answer per text, computed by the bundle's runtime in this process."""
    import pyarrow as pa

    from edgeft import plugins

    manifest = bundle.manifest
    task = plugins.load("tasks", manifest["task"])()
    feeds = task.feeds(pa.table({"text": texts}), bundle.folder)
    session = plugins.load("runtimes", manifest["runtime"]).load(
        str(bundle.folder / manifest["model"]), {"threads": manifest["threads"]}
    )
    found = []
    try:
        for index in range(len(texts)):
            named = {spec["name"]: _case(feeds[name], index, spec) for name, spec in manifest["inputs"].items()}
            outputs = session.run(named)
            canonical = {name: outputs[spec["name"]][:1] for name, spec in manifest["outputs"].items()}
            found += task.answer(canonical, manifest["labels"])
    finally:
        session.close()
    return found


def _case(feed: Any, index: int, spec: Mapping[str, Any]) -> Any:
    """One case in the artefact's own dtype, repeated to its batch where that is fixed."""
    batch = spec["shape"][0] if spec["shape"] else 1
    repeats = batch if isinstance(batch, int) else 1
    return feed[index : index + 1].repeat(repeats, axis=0).astype(spec["dtype"], copy=False)


def _texts(given: str) -> list[str]:
    from edgeft.errors import RecipeError

    try:
        texts = [line.rstrip("\n") for line in sys.stdin] if given == "-" else [given]
        for text in texts:
            text.encode()  # what was no UTF-8 arrives as lone surrogates
    except UnicodeError:
        raise RecipeError("is not UTF-8 text", where="INPUT", hint="the bundle answers text, one a line") from None
    if not texts or not all(text.strip() for text in texts):
        raise RecipeError("an empty text has no answer", where="INPUT", hint="give a text, or lines on standard input")
    if len(texts) > MAX_CASES:
        raise RecipeError(f"{len(texts)} lines are more than {MAX_CASES}", where="INPUT", hint="split the file")
    return texts
