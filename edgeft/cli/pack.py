"""`edgeft pack`: a bundle as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgeft.errors import EdgeftError, Exit

HELP = "Write a bundle as one .zip file, the same bytes each time"
DESCRIPTION = """Write a bundle as one .zip file, after every file was checked against the manifest. The same bundle
gives the same bytes (by one zlib). The signature is that of the folder: pack after signing."""
EPILOG = """examples:
  edgeft pack out/quickstart                         NAME-DEVICE.zip in this folder
  edgeft pack out/quickstart --out release.zip
  edgeft verify release.zip --key release.pem.pub
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Options of `pack`."""
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="targets/DEVICE of a build, or the build's folder")
    parser.add_argument("--out", type=Path, metavar="FILE.zip", help="default: NAME-DEVICE.zip; no file is overwritten")


def run(args: argparse.Namespace) -> int:
    """Check and pack."""
    from edgeft.ship.archive import pack
    from edgeft.ship.bundle import find_bundle
    from edgeft.ship.verify import parse_manifest, verify_folder

    folder = find_bundle(args.bundle)
    found = verify_folder(folder, {})
    if faults := [row.said for row in found.findings if row.verdict == "fail"]:
        raise EdgeftError(f"it is not packed: {faults[0]}", where=str(folder), hint="build it anew")
    manifest = parse_manifest(found.raw)
    out = args.out or Path(f"{manifest.get('name')}-{manifest.get('device')}.zip".replace("/", "-"))
    pack(folder, out)
    print(f"{out}: {len(manifest['files'])} files, {out.stat().st_size:,} bytes")
    return int(Exit.OK)
