"""`edgeft schema`: JSON Schema of recipes."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeft.errors import RecipeError

HELP = "Print the recipe's JSON Schema for editor completion"
DESCRIPTION = """Print the JSON Schema (draft 2020-12) of a recipe, with the options of every installed stage.

An editor with a YAML language server then completes keys, shows their descriptions and marks mistakes."""
EPILOG = """examples:
  edgeft schema --format markdown | less
  edgeft schema --output recipe.schema.json
  then, as the first line of a recipe:
  # yaml-language-server: $schema=recipe.schema.json
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `schema`."""
    parser.add_argument(
        "--format",
        choices=("json", "markdown"),
        default="json",
        help="json: JSON Schema; markdown: a reference page to read",
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="write to FILE instead of standard output")


def run(args: argparse.Namespace) -> int:
    """Print or write the schema."""
    if args.format == "markdown":
        from edgeft.recipe.reference import render_reference

        text = render_reference().rstrip("\n")
    else:
        import json

        from edgeft.recipe.jsonschema import recipe_schema

        text = json.dumps(recipe_schema(), indent=2, ensure_ascii=False)
    if args.output is None:
        print(text)
        return 0
    try:
        args.output.write_text(text + "\n", encoding="utf-8")
    except OSError as error:
        raise RecipeError(f"cannot be written: {error.strerror}", where=str(args.output)) from error
    print(f"wrote {args.output}")
    return 0
