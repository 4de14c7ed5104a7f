"""`edgeft recipes`: the recipes that come with edgeft."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeft.errors import RecipeError

HELP = "List the shipped recipes, or copy one to start from"
DESCRIPTION = """List the recipes that come with edgeft, or copy one as a start for your own.

A shipped recipe can be built without copying it (edgeft build edgeft:text/quickstart), changed by --set, or taken
over in part by `extends: edgeft:text/quickstart` in a recipe of your own."""
EPILOG = """examples:
  edgeft recipes list
  edgeft recipes copy text/finetuned                 writes finetuned.yaml
  edgeft recipes copy text/quickstart my.yaml
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Subcommands of `recipes`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    actions.add_parser("list", help="names and descriptions", description="Print name and description of each recipe.")
    copy = actions.add_parser("copy", help="write one to a file", description="Write a shipped recipe to a file.")
    copy.add_argument("name", metavar="NAME", help="as `list` shows it, for instance text/quickstart")
    copy.add_argument(
        "dest", metavar="DEST", nargs="?", type=Path, help="file or folder (default: the recipe's name, in this folder)"
    )
    copy.add_argument("--force", action="store_true", help="overwrite DEST")


def run(args: argparse.Namespace) -> int:
    """List or copy."""
    if args.action == "list":
        return _list()
    return _copy(args.name, args.dest, force=args.force)


def _list() -> int:
    from edgeft.recipe.catalogue import PREFIX, about, shipped_recipes

    names = tuple(shipped_recipes())
    width = max((len(name) for name in names), default=0)
    for name in names:
        print(f"{PREFIX}{name:<{width}}  {about(name)}".rstrip())
    return 0


def _copy(name: str, dest: Path | None, *, force: bool) -> int:
    from edgeft.recipe.catalogue import PREFIX, is_whole, shipped_recipe

    source = shipped_recipe(name)
    target = dest or Path(source.name)
    if target.is_dir():
        target = target / source.name
    try:
        with target.open("wb" if force else "xb") as stream:
            stream.write(source.read_bytes())
    except FileExistsError:
        raise RecipeError("the file exists", where=str(target), hint="name another file, or add --force") from None
    except OSError as error:
        raise RecipeError(f"cannot be written: {error.strerror}", where=str(target)) from error
    whole = is_whole(name.removeprefix(PREFIX))
    print(f"wrote {target}; next: " + (f"edgeft plan {target}" if whole else f"a recipe with `extends: {target}`"))
    return 0
