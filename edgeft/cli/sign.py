"""`edgeft sign`: vouch for a bundle, also on another machine than the one that built it."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeft.errors import Exit, RecipeError

HELP = "Sign a bundle that passed its gates"
DESCRIPTION = """Sign a bundle that passed its gates: every file is checked against the manifest first, then that
is signed. Made for a release machine that holds the key and builds nothing; torch is not needed."""
EPILOG = """examples:
  edgeft sign out/quickstart --key release.pem
  EDGEFT_SIGNING_KEY="$(cat release.pem)" edgeft sign out/quickstart
  edgeft sign out/quickstart --key release-2027.pem --replace      when a key is rotated

exit codes: 0 signed, 2 bad usage or key, 3 the bundle was changed or did not pass its gates
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `sign`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="targets/DEVICE of a build, or the build's folder")
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="the private key (default: EDGEFT_SIGNING_KEY, a file or PEM text)"
    )
    parser.add_argument("--replace", action="store_true", help="put the signature in another one's place")


def run(args: argparse.Namespace) -> int:
    """Check and sign."""
    from edgeft.ship.bundle import find_bundle
    from edgeft.ship.keys import KEY_VARIABLE, find_signer
    from edgeft.ship.signature import sign_folder

    signer = find_signer(args.key)
    if signer is None:
        raise RecipeError("no key to sign with", where="--key", hint=f"name a file, or put the key into {KEY_VARIABLE}")
    folder = find_bundle(args.bundle)
    sign_folder(folder, signer, replace=args.replace)
    print(f"{folder}: signed by key {signer.id}")
    return int(Exit.OK)
