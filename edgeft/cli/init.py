"""`edgeft init`: a commented recipe from data, model and device."""

from __future__ import annotations

import argparse
from contextlib import suppress
from pathlib import Path

from edgeft.errors import RecipeError

HELP = "Write a commented recipe from your data, model and device"
DESCRIPTION = """Look at the data, guess which column is what, and write a commented recipe that can be built as it is.

Data: a csv, tsv, jsonl or parquet file, a folder of those, a folder with one folder of images per class, or a folder
with images/ and masks/.
Nothing is trained, downloaded or sent. Each guess is said in a comment beside its line."""
EPILOG = """examples:
  edgeft init --data train.csv --model sentence-transformers/all-MiniLM-L6-v2 --device local-cpu
  edgeft init --data test.jsonl --model ./my-finetuned-model --device local-cpu --output my.yaml
  edgeft init --data test.csv --model model.onnx --device local-cpu --text question --label area
  edgeft init --data photos/ --model ./my-vit --device local-cpu
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `init`."""
    parser.add_argument("--data", type=Path, required=True, metavar="F", help="file or folder with labelled rows")
    parser.add_argument("--model", required=True, metavar="M", help="Hugging Face id, model folder, or .onnx file")
    parser.add_argument("--device", required=True, metavar="D", help="shipped device (local-cpu) or a device file")
    parser.add_argument("--text", metavar="COLUMN", help="column with the text, if the guess would be wrong")
    parser.add_argument("--label", metavar="COLUMN", help="column with the label, if the guess would be wrong")
    parser.add_argument("--group", metavar="COLUMN", help="column whose equal values stay in one split")
    parser.add_argument(
        "--output", type=Path, default=Path("recipe.yaml"), metavar="FILE", help="file to write (default: recipe.yaml)"
    )
    parser.add_argument("--force", action="store_true", help="overwrite FILE")


def run(args: argparse.Namespace) -> int:
    """Write the recipe, after checking that it loads."""
    from edgeft.recipe.draft import Request, draft_recipe

    output: Path = args.output
    if output.exists() and not args.force:
        raise RecipeError("the file exists", where=str(output), hint="name another by --output, or add --force")
    if not output.parent.is_dir():
        raise RecipeError("the folder does not exist", where=str(output.parent))
    text = draft_recipe(Request(args.data, args.model, args.device, output.parent, args.text, args.label, args.group))
    _write(output, text)
    print(text, end="")
    print(f"\nwrote {output}; next: edgeft plan {output}")
    return 0


def _write(output: Path, text: str) -> None:
    """Put the recipe in place once it loads from beside that place."""
    from edgeft.recipe.load import load_recipe

    fresh = output.with_name(f".{output.name}.new")
    try:
        fresh.write_text(text, encoding="utf-8")
        load_recipe(fresh)
        fresh.replace(output)
    except OSError as error:
        raise RecipeError(f"cannot be written: {error.strerror}", where=str(output)) from error
    finally:
        with suppress(OSError):  # a read-only place refuses this too
            fresh.unlink()
