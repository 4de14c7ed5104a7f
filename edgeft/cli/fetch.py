"""`edgeft fetch`: everything a recipe needs, for a site without internet."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "Gather wheels, model and data for a site without internet"
DESCRIPTION = """Gather all that a recipe needs into one folder for a site without internet: wheels of exactly the
versions installed here, the model, the data, the recipe's own code, recipe.yaml that points to these copies, README.txt
with the commands to run there, and SHA256SUMS."""
EPILOG = """examples:
  edgeft fetch recipe.yaml --into site/
  edgeft fetch edgeft:text/quickstart --into site/ --no-wheels
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `fetch`."""
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a YAML file, or a shipped recipe such as edgeft:text/quickstart"
    )
    parser.add_argument("--into", type=Path, required=True, metavar="DIR", help="folder to write; new or empty")
    parser.add_argument(
        "--set", dest="sets", action="append", default=[], metavar="KEY=VALUE", help="change a value; may be repeated"
    )
    parser.add_argument("--no-wheels", action="store_true", help="edgeft is installed there already: leave wheels out")


def run(args: argparse.Namespace) -> int:
    """Gather, and say what was taken."""
    from edgeft.recipe.load import load_recipe
    from edgeft.ship.site import gather

    folder = gather(
        load_recipe(args.recipe, args.sets), args.into, wheels=not args.no_wheels, say=lambda text: print(f"  {text}")
    )
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"gathered {size / 1e6:.1f} MB in {folder}; README.txt there says how to go on")
    return 0
