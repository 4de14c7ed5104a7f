"""`edgeft verify`: is this bundle the one that was signed, and does it answer here as it did there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from edgeft.errors import RecipeError

HELP = "Check a bundle, without trusting it: signature, every file, golden outputs, gates"
DESCRIPTION = """Check a bundle without trusting it: the signature against a key of yours, the hash and size of every
file, that nothing lies beside them, that every gate passed. torch is not needed. docs/bundle.md
says what a verdict means.

The key must come to you by another way than the bundle. Without one a sound bundle is 'intact, signer unknown', which
is no success."""
EPILOG = """examples:
  edgeft verify out/quickstart --key release.pem.pub
  edgeft verify bundle/ --key release-2026.pub --key release-2027.pub      while a key is being replaced
  edgeft verify bundle/ --key release.pem.pub --json

exit codes: 0 verified, 1 refused, 2 bad usage or key, 5 intact, but signed by nobody you named or not wholly checked
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, or a build's")
    parser.add_argument(
        "--key",
        action="append",
        default=[],
        type=Path,
        metavar="PUB",
        help="a public key you trust (PEM); repeatable",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    from edgeft.ship.bundle import find_bundle
    from edgeft.ship.verify import read_keys, verify_folder

    try:
        keys = read_keys(args.key)
    except (OSError, ValueError) as error:
        raise RecipeError(str(error), where="--key", hint="give the public key that the signer published") from error
    found = verify_folder(find_bundle(args.bundle), keys)
    print(json.dumps(found.to_json(), indent=1) if args.json else "\n".join(found.lines()))
    return found.exit_code
