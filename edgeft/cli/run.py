"""`edgeft run`: one answer from a bundle."""

from __future__ import annotations

import argparse
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.cli import run_dicom, run_volume

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeft.ship.bundle import Bundle

HELP = "Answer one input with a built bundle, on the real runtime"
DESCRIPTION = """Run a bundle on this machine with the runtime it was gated on. torch is not needed.

INPUT is a text, or an image file where the bundle takes images; `-` reads one text (or one file's name) a line from
standard input. A segmentation writes its mask as a PNG file of class numbers beside the current folder's other files.
A segmentation of volumes takes a NIfTI file and writes NAME-mask.nii.gz on the file's own grid.
A language model continues the text by its likeliest tokens and says which are the likeliest next.
The bundle's files are checked against its manifest first.

With --dicom, a bundle built with a `preprocess:` section reads a DICOM file or series in a child process and writes a
DICOM object into --out: a segmentation has one segment per label, on the images' own grid; a classification is a report
with a finding per image. Golden cases are answered first: where this machine answers otherwise than the one that was
gated, nothing is written. Exit codes: 0 written, 2 not what the bundle takes, 3 unreadable, or not written."""
EPILOG = """examples:
  edgeft run out/quickstart "Returns the eigenvalues of a symmetric matrix."
  edgeft run out/quickstart/targets/local-cpu - --json < texts.txt
  edgeft run out/digits-mobile digit.png
  edgeft run out/next-word "Returns the"
  edgeft run out/tissue-3d brain.nii.gz
  edgeft run out/liver --dicom series/ --out result/
  edgeft run out/chest-xray --dicom image.dcm --out result/ --codes codes.json --manufacturer "My Clinic"
"""
MAX_CASES = 10_000
MAX_IMAGE_BYTES = 256 << 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `run`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="targets/DEVICE of a build, the build's folder, or an archive"
    )
    parser.add_argument(
        "input", metavar="INPUT", nargs="?", help="a text or an image file, or - for one a line on standard input"
    )
    parser.add_argument("--json", action="store_true", help="one JSON object a line")
    run_dicom.configure(parser)


def run(args: argparse.Namespace) -> int:
    """Answer and print."""
    from edgeft.ship.archive import opened
    from edgeft.ship.bundle import open_bundle

    run_dicom.check_usage(args)
    texts = _texts(args.input) if args.dicom is None else []
    with opened(args.bundle) as folder:
        return _run(args, open_bundle(folder), texts)


def _run(args: argparse.Namespace, bundle: Bundle, texts: list[str]) -> int:
    from edgeft.pipeline.noise import to_log
    from edgeft.ship.verify import NOT_SHIPPED
    from edgeft.ship.volumes import takes_volumes

    if (bundle.folder / NOT_SHIPPED).exists():
        print("warning: this artefact did not pass its gates", file=sys.stderr)
    if args.dicom is not None:
        return run_dicom.run(args, bundle)
    if takes_volumes(bundle):
        return run_volume.run(bundle, texts, as_json=args.json)
    with to_log(Path(os.devnull)):  # some runtimes greet on standard error
        found = answers(bundle, texts)
    for text, answer in zip(texts, found, strict=True):
        if "mask" in answer:
            answer = {**answer, "mask": _write_mask(text, answer["mask"])}
        print(json.dumps({"input": text, **answer}, ensure_ascii=False) if args.json else answer_line(answer))
    return 0


def answer_line(answer: Mapping[str, Any]) -> str:
    """An answer as one line for people: the label, the mask's file or the continuation first."""
    if "continuation" in answer:
        likely = ", ".join(f"{row['token']!r} {row['probability']:.1%}" for row in answer["next"])
        return f"{answer['continuation']!r}  (next: {likely})"
    if "shares" in answer:
        shares = ", ".join(f"{label} {share:.1%}" for label, share in answer["shares"].items())
        return f"{answer['mask']}  ({shares})"
    if "probabilities" in answer:
        chances = ", ".join(f"{label} {chance:.1%}" for label, chance in answer["probabilities"].items())
        return f"{answer['label']}  ({chances})"
    others = [row for row in answer["top"] if row["label"] != answer["label"]]
    rest = ", ".join(f"{row['label']} {row['probability']:.1%}" for row in others)
    at = f", from {answer['threshold']:.1%} on" if "threshold" in answer else ""
    return f"{answer['label']}  {answer['probability']:.1%}{at}  ({rest})"


def answers(bundle: Bundle, texts: list[str]) -> list[dict[str, Any]]:
    """One answer per text, computed by the bundle's runtime in this process."""
    import pyarrow as pa

    from edgeft import plugins
    from edgeft.ship.postprocess import read_thresholds
    from edgeft.ship.session import open_session
    from edgeft.task import ContinuingTask

    task, found = plugins.load("tasks", bundle.manifest["task"])(), []
    image = "image" in task.columns
    rows = pa.table({"image": texts, "bytes": [_image(name) for name in texts]}) if image else pa.table({"text": texts})
    feeds = task.feeds(rows, bundle.folder)
    more = {"thresholds": thresholds} if (thresholds := read_thresholds(bundle.folder)) else {}
    with open_session(bundle) as session:
        for index, text in enumerate(texts):
            if isinstance(task, ContinuingTask):
                found.append(task.continue_text(partial(session.run, name=text), text, bundle.folder))
                continue
            outputs = session.run({name: feed[index : index + 1] for name, feed in feeds.items()}, text)
            found += task.answer(outputs, bundle.manifest["labels"], **more)
    return found


def _image(name: str) -> bytes:
    """An image file's bytes; RecipeError where it is none or too large to be one."""
    from edgeft.errors import RecipeError

    path = Path(name)
    try:
        if path.stat().st_size > MAX_IMAGE_BYTES:
            raise RecipeError(f"larger than {MAX_IMAGE_BYTES >> 20} MB", where=name)
        return path.read_bytes()
    except (OSError, ValueError) as error:
        what = f"cannot be read as an image file: {getattr(error, 'strerror', None) or error}"
        raise RecipeError(what, where="INPUT", hint="this bundle takes images: give a file's name") from error


def _write_mask(name: str, mask: Any) -> str:
    """NAME-mask.png in the current folder; its name."""
    from PIL import Image

    from edgeft.errors import StepError

    path = Path(f"{Path(name).stem}-mask.png")
    try:
        Image.fromarray(mask).save(path, format="PNG")
    except OSError as error:
        raise StepError(f"cannot be written: {error.strerror}", where=str(path)) from error
    return str(path)


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
