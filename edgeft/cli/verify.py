"""`edgeft verify`: is this bundle the one that was signed, and does it answer here as it did there."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from edgeft.errors import EdgeftError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from edgeft.ship.verify import Verification

HELP = "Check a bundle, without trusting it: signature, every file, golden outputs, gates"
DESCRIPTION = """Check a bundle without trusting it: the signature against a key of yours, the hash and size of every
file, that nothing lies beside them, that every gate passed, and that the artefact answers its golden cases on this
machine's runtime as it did where it was built. torch is not needed. docs/bundle.md says what a verdict means.

The key must come to you by another way than the bundle. Without one a sound bundle is 'intact, signer unknown', which
is no success, and its artefact is not run: a runtime is no fence against whoever wrote the model."""
EPILOG = """examples:
  edgeft verify out/quickstart --key release.pem.pub
  edgeft verify bundle.zip --key release.pem.pub --json
  edgeft verify bundle/ --key release-2026.pub --key release-2027.pub      while a key is being replaced
  edgeft verify bundle/ --key release.pem.pub --no-golden                  on a machine without the runtime
  edgeft verify out/quickstart --golden                                    your own build, not signed yet

exit codes: 0 verified, 1 refused, 2 bad usage or key, 5 intact, but signed by nobody you named or not wholly checked
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `verify`."""
    parser.add_argument(
        "bundle", type=Path, metavar="BUNDLE", help="a bundle's folder, its .zip or .tar.gz, or a build's folder"
    )
    parser.add_argument(
        "--key", action="append", default=[], type=Path, metavar="PUB", help="a public key you trust (PEM); repeatable"
    )
    golden = parser.add_mutually_exclusive_group()
    golden.add_argument(
        "--golden",
        action="store_true",
        default=None,
        help="run the artefact on its golden cases whoever signed it (default: only where a key of yours did)",
    )
    golden.add_argument(
        "--no-golden",
        action="store_false",
        dest="golden",
        help="run nothing: signature, files and status alone",
    )
    parser.add_argument("--json", action="store_true", help="the findings as one JSON document")


def run(args: argparse.Namespace) -> int:
    """Check and print."""
    from edgeft.ship.keys import trusted_keys

    found = verify_any(args.bundle, trusted_keys(args.key), golden=args.golden)
    print(json.dumps(found.to_json(), indent=1) if args.json else "\n".join(found.lines()))
    return found.exit_code


def verify_any(place: Path, keys: Mapping[str, bytes], *, golden: bool | None = None) -> Verification:
    """A folder or an archive, which is unpacked into a folder that nobody else can write to.

    golden: whether to run the artefact; None: only where one of `keys` signed it.
    """
    from tempfile import TemporaryDirectory

    from edgeft.ship.bundle import find_bundle

    with TemporaryDirectory(prefix="edgeft-verify-") as private:
        if not place.is_file():
            return _verify(find_bundle(place), keys, Path(private) / "kept", golden=golden)
        from edgeft.ship.archive import unpack
        from edgeft.ship.verify import Finding, Refused, Verification

        try:
            root = unpack(place, Path(private) / "unpacked")
        except Refused as refusal:
            return Verification((Finding(refusal.check, "fail", str(refusal)),))
        return _verify(root, keys, Path(private) / "kept", golden=golden)


def _verify(root: Path, keys: Mapping[str, bytes], kept: Path, *, golden: bool | None) -> Verification:
    """What is run is the copy whose hashes were taken, and only where nothing was refused."""
    from edgeft.ship.verify import Finding, parse_manifest, verify_folder

    try:
        found = verify_folder(root, keys, keep=kept if golden or (golden is None and keys) else None)
    except OSError as error:
        hint = "TMPDIR names another place; --no-golden needs none"
        raise EdgeftError(f"no room to check a copy: {error.strerror}", where=str(kept.parent), hint=hint) from error
    if golden is False:
        return found.and_also(Finding("golden", "skip", "left out by --no-golden"))
    if found.exit_code == 1:
        return found.and_also(Finding("golden", "skip", "not run: the bundle is refused"))
    if golden is None and found.signer is None:
        why = "not run: no key of yours is known to have signed this model; --golden runs it all the same"
        return found.and_also(Finding("golden", "skip", why))
    from edgeft.ship.verify_golden import check_golden

    return found.and_also(check_golden(kept, parse_manifest(found.raw)))
