"""`edgeft keys`: make a signing key, show its public half."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeft.errors import Exit

HELP = "Make a signing key, or show its public half"
DESCRIPTION = """Make an Ed25519 key that signs bundles, or show the public half that receivers need.

The private key is written once, readable by you alone; keep it out of version control. With a passphrase in
EDGEFT_SIGNING_PASSPHRASE it is encrypted. docs/bundle.md says how a key is replaced."""
EPILOG = """examples:
  edgeft keys new --out release.pem              release.pem (private) and release.pem.pub (for receivers)
  edgeft keys show release.pem                   its public half and id
  edgeft keys show release.pem.pub
"""
DEFAULT = Path("signing-key.pem")


def configure(parser: argparse.ArgumentParser) -> None:
    """Actions of `keys`."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    new = actions.add_parser("new", help="make a key", description="Make a key pair; no file is overwritten.")
    new.add_argument("--out", type=Path, default=DEFAULT, metavar="FILE", help=f"the private key (default: {DEFAULT})")
    show = actions.add_parser("show", help="print a public key", description="Print the public half and its id.")
    show.add_argument("file", type=Path, metavar="FILE", help="a private or a public key")


def run(args: argparse.Namespace) -> int:
    """Make or show."""
    from edgeft.ship.keys import new_key, public_file, public_of, public_pem
    from edgeft.ship.verify import key_id

    if args.action == "new":
        public = new_key(args.out).public
        print(f"private key: {args.out} (keep it to yourself)\npublic key:  {public_file(args.out)} (for receivers)")
    else:
        public = public_of(args.file)
    print(f"key id:      {key_id(public)}\n{public_pem(public).decode('ascii')}", end="")
    return int(Exit.OK)
