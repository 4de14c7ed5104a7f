"""Whether a bundle is the one that was signed, file for file. One implementation: `edgeft verify` is this file, and a
copy of it lies in every bundle as verify.py. Standard library, and `cryptography` for the signature.

A copy that came with a bundle proves nothing against whoever changed that bundle: keep one from elsewhere, and start it
by `python -I`, so that no module is taken from the folder it lies in.
"""

from __future__ import annotations

import argparse
import base64
import errno
import hashlib
import json
import os
import re
import stat
import sys
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

MANIFEST, SIGNATURE, NOT_SHIPPED = "manifest.json", "manifest.sig", "NOT-FOR-SHIPPING.txt"
FORMATS = (1, 2)
"""2: the manifest's bytes are canonical, and a signature may lie beside it."""
DOMAIN = b"edgeft bundle manifest, format 1\n"
"""Signed in front of the manifest's bytes, so that no signature made for another purpose fits."""
MAX_MANIFEST_BYTES, MAX_SIGNATURE_BYTES, MOST_FILES, DEEPEST, LONGEST = 4 << 20, 4096, 10_000, 32, 200
MOST_SHOWN = 20
CHUNK = 1 << 20
DER_ED25519 = bytes.fromhex("302a300506032b6570032100")
"""What stands before the 32 bytes of a public key in its PEM block: RFC 8410."""
WINDOWS_ONLY = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)


class Refused(Exception):
    """A manifest, a name or an archive that is not taken at all. check: which part of the verification says so."""

    def __init__(self, check: str, what: str) -> None:
        super().__init__(what)
        self.check = check


@dataclass(frozen=True)
class Finding:
    """One check. verdict: pass, fail, open where it could not be decided, skip where there was nothing to decide."""

    check: str
    verdict: str
    said: str


@dataclass(frozen=True)
class Verification:
    """All findings. signer: the id of the trusted key that signed, None where no such key did.

    raw: the manifest's bytes, read once; empty where they are no manifest.
    """

    findings: tuple[Finding, ...]
    signer: str | None = None
    raw: bytes = b""

    @property
    def exit_code(self) -> int:
        """0 verified, 1 refused, 5 intact but not wholly decided: no trusted key, or a check that could not run."""
        verdicts = {finding.verdict for finding in self.findings}
        return 1 if "fail" in verdicts else 5 if "open" in verdicts else 0

    def and_also(self, finding: Finding) -> Verification:
        """With one finding more."""
        return Verification((*self.findings, finding), self.signer, self.raw)

    def lines(self) -> list[str]:
        """For the terminal, the outcome last."""
        undecided = "intact, not wholly checked" if self.signer else "intact, signer unknown"
        outcome = {0: "VERIFIED", 1: "REFUSED", 5: f"NOT VERIFIED: {undecided}"}[self.exit_code]
        return [f"{row.verdict:4}  {row.check}: {row.said}" for row in self.findings] + [outcome]

    def to_json(self) -> dict[str, Any]:
        """The same for machines."""
        outcome = {0: "verified", 1: "refused", 5: "undecided"}[self.exit_code]
        return {"outcome": outcome, "signer": self.signer, "findings": [asdict(row) for row in self.findings]}


def verify_folder(root: Path, keys: Mapping[str, bytes], *, keep: Path | None = None) -> Verification:
    """Manifest, signature, files and status of the bundle in `root`. keys: id -> raw public key of trusted signers.

    keep: a private folder that gets a copy of exactly the bytes whose hashes were taken; OSError where it is full.
    """
    try:
        raw = read_small(root / MANIFEST, MAX_MANIFEST_BYTES, "manifest")
        manifest = parse_manifest(raw)
    except Refused as refusal:
        return Verification((Finding(refusal.check, "fail", str(refusal)),))
    findings, signer = [Finding("manifest", "pass", f"format {manifest['format']}")], None
    try:
        signer, said = check_signature(root / SIGNATURE, raw, keys)
        findings.append(Finding("signature", "pass" if signer else "open", said))
    except Refused as refusal:
        findings.append(Finding(refusal.check, "fail", str(refusal)))
    rows = manifest["files"]
    faults = file_faults(root, rows, keep)
    total = sum(row["bytes"] for row in rows.values())
    findings.append(_of_faults(faults) if faults else Finding("files", "pass", f"{len(rows)} files, {total:,} bytes"))
    passed = manifest.get("status") == "passed" and NOT_SHIPPED not in rows
    said = "every gate passed" if passed else f"this artefact did not pass its gates ({shown(manifest.get('status'))})"
    findings.append(Finding("status", "pass" if passed else "fail", said))
    return Verification(tuple(findings), signer, raw)


def _of_faults(faults: Sequence[str]) -> Finding:
    more = f"; and {len(faults) - MOST_SHOWN} more" if len(faults) > MOST_SHOWN else ""
    return Finding("files", "fail", "; ".join(faults[:MOST_SHOWN]) + more)


def shown(value: object) -> str:
    """A name from a stranger, safe on a terminal and of bounded length."""
    text = str(value)[:LONGEST]
    return text if text.isprintable() else ascii(text)[1:-1]


def canonical(value: object) -> bytes:
    """The one way to write a manifest: sorted keys, one blank a level, UTF-8, no NaN."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False, indent=1, separators=(",", ": "))
    return (text + "\n").encode("utf-8", "surrogatepass")


def read_small(path: Path, most: int, check: str) -> bytes:
    """A plain file's bytes, no link followed. Refused where it is absent, larger than `most`, or no plain file."""
    try:
        with open(_open(path), "rb", buffering=0) as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise Refused(check, f"{path.name} is not a plain file")
            raw = stream.read(most + 1) or b""
    except OSError as error:
        raise Refused(check, f"{path.name} cannot be read: {error.strerror}") from error
    if len(raw) > most:
        raise Refused(check, f"{path.name} is larger than {most} bytes")
    return raw


def _open(path: Path) -> int:
    """Never through a link, never waiting for the other end of a pipe."""
    flags = ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY")
    return os.open(path, os.O_RDONLY | sum(getattr(os, flag, 0) for flag in flags))


def parse_json(raw: bytes, check: str, name: str) -> dict[str, Any]:
    """A JSON object. Refused for doubled keys, NaN, deep nesting and whatever else two readers could read two ways."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(found := dict(pairs)) != len(pairs):
            raise ValueError("a key stands twice")
        return found

    def never(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        value = json.loads(raw.decode("utf-8"), object_pairs_hook=once, parse_constant=never)
        if not isinstance(value, dict):
            raise ValueError("it is no object")  # noqa: TRY004  caught below with the others
    except RecursionError as error:
        raise Refused(check, f"{name} is nested too deeply") from error
    except ValueError as error:
        raise Refused(check, f"{name} is not sound JSON: {shown(error)}") from error
    return value


def parse_manifest(raw: bytes) -> dict[str, Any]:
    """The manifest with every row of `files` checked: name, SHA-256, size. Refused otherwise."""
    manifest = parse_json(raw, "manifest", MANIFEST)
    form, files = manifest.get("format"), manifest.get("files")
    if type(form) is not int or form not in FORMATS:
        raise Refused("manifest", f"format {shown(form)}; this reads {', '.join(map(str, FORMATS))}")
    if form > 1 and canonical(manifest) != raw:
        raise Refused("manifest", f"{MANIFEST} is not written in canonical form")
    if not isinstance(files, dict) or not 0 < len(files) <= MOST_FILES:
        raise Refused("manifest", f"it must list 1 to {MOST_FILES} files")
    if files.keys() & {MANIFEST, SIGNATURE}:
        raise Refused("manifest", "it cannot list itself or its signature")
    check_names(files)
    for name, row in files.items():
        if not (isinstance(row, dict) and row.keys() == {"sha256", "bytes"}):
            raise Refused("manifest", f"{shown(name)}: a row holds sha256 and bytes")
        if not (isinstance(row["sha256"], str) and re.fullmatch("[0-9a-f]{64}", row["sha256"])):
            raise Refused("manifest", f"{shown(name)}: sha256 is none")
        if type(row["bytes"]) is not int or not 0 <= row["bytes"] < 1 << 53:
            raise Refused("manifest", f"{shown(name)}: bytes is no size")
    return manifest


def check_names(names: Iterable[str], check: str = "manifest") -> None:
    """Refused for a name that leads outside, or that two systems would take for different files or for the same."""
    seen: dict[str, str] = {}
    files, folders = set(), set()
    for name in names:
        if fault := _name_fault(name):
            raise Refused(check, f"{shown(name)}: {fault}")
        if name in files:
            raise Refused(check, f"{shown(name)} is there twice")
        parts = name.split("/")
        paths = ["/".join(parts[:depth]) for depth in range(1, len(parts) + 1)]
        for path in paths:
            # Mac and Windows fold case and accents: two files would become one there.
            folded = unicodedata.normalize("NFC", unicodedata.normalize("NFKC", path).casefold())
            if seen.setdefault(folded, path) != path:
                raise Refused(check, f"{shown(path)} and {shown(seen[folded])} are one name on some systems")
        files.add(name)
        folders.update(paths[:-1])
    if both := files & folders:
        raise Refused(check, f"{shown(min(both))} is both a file and a folder")


def _name_fault(name: str) -> str:
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name or ":" in name:
        return "the name leads outside the bundle"
    if len(parts) > DEEPEST or any(len(part.encode("utf-8", "replace")) > LONGEST for part in parts):
        return "the name is too long or too deep"
    if not name.isprintable() or unicodedata.normalize("NFC", name) != name:
        return "the name has characters that do not print, or is not in Unicode's NFC form"
    if any(part[-1] in ". " or WINDOWS_ONLY.fullmatch(part) for part in parts) or set(name) & set('<>"|?*'):
        return "the name is not possible on every system"
    return ""


def file_faults(root: Path, rows: Mapping[str, Mapping[str, Any]], keep: Path | None = None) -> list[str]:
    """What differs between the folder and the manifest's rows. Empty: every file is there, is the one that was listed,
    and nothing lies beside them. Each file is opened once: what is copied to `keep` is what was hashed."""
    try:
        present = walk(root)
    except OSError as error:
        return [f"{shown(error.filename)} cannot be read: {error.strerror}"]
    except Refused as refusal:
        return [str(refusal)]
    faults = []
    for name, row in sorted(rows.items()):
        seen = present.pop(name, None)
        if seen is None:
            faults.append(f"{name} is missing")
        elif fault := _kind_fault(seen) or _content_fault(
            root / name, seen, row, None if keep is None else keep / name
        ):
            faults.append(f"{name} {fault}")
    for name in (MANIFEST, SIGNATURE):
        if (seen := present.pop(name, None)) and (fault := _kind_fault(seen)):
            faults.append(f"{name} {fault}")
    return faults + [f"{shown(name)} does not belong to the bundle" for name in present]


def walk(root: Path) -> dict[str, os.stat_result]:
    """Name below root -> what lies there, of everything but folders that hold something; no link is followed.

    OSError for a folder that cannot be read, Refused where there is more than a bundle can hold.
    """
    found: dict[str, os.stat_result] = {}
    waiting = [("", root)]
    while waiting:
        prefix, folder = waiting.pop()
        paths = list(folder.iterdir())
        for path in paths:
            about = path.lstat()
            if stat.S_ISDIR(about.st_mode):
                waiting.append((f"{prefix}{path.name}/", path))
            else:
                found[prefix + path.name] = about
        if not paths:
            found[prefix or "."] = folder.lstat()
        if len(found) + len(waiting) > 2 * MOST_FILES or prefix.count("/") > DEEPEST:
            raise Refused("files", f"more than {2 * MOST_FILES} files, or folders deeper than {DEEPEST}")
    return dict(sorted(found.items()))


def _kind_fault(seen: os.stat_result) -> str:
    if stat.S_ISLNK(seen.st_mode):
        return "is a link"
    if not stat.S_ISREG(seen.st_mode):
        return "is not a plain file"
    return "has a second name (a hard link), through which it could change" if seen.st_nlink > 1 else ""


def _content_fault(path: Path, seen: os.stat_result, row: Mapping[str, Any], copy: Path | None) -> str:
    """Empty where size and SHA-256 are the row's. The open file must be the one that the walk saw."""
    hasher, size = hashlib.sha256(), 0
    try:
        with ExitStack() as stack:
            stream = stack.enter_context(open(_open(path), "rb", buffering=0))
            now = os.fstat(stream.fileno())
            if (now.st_dev, now.st_ino) != (seen.st_dev, seen.st_ino):
                return "was exchanged while it was read"
            if now.st_size != row["bytes"]:
                return f"is not the file that was bundled: {now.st_size} bytes, not {row['bytes']}"
            if copy is not None:
                copy.parent.mkdir(parents=True, exist_ok=True)
                out = stack.enter_context(copy.open("xb"))
            while (chunk := stream.read(CHUNK)) and size <= row["bytes"]:
                size += len(chunk)
                hasher.update(chunk)
                if copy is not None:
                    out.write(chunk)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):  # of the copy's disk: nothing against the bundle
            raise
        return f"cannot be read: {error.strerror}"
    return "" if hasher.hexdigest() == row["sha256"] else "is not the file that was bundled: its SHA-256 differs"


def key_id(public: bytes) -> str:
    """32 hex digits that name a raw public key: the first 16 bytes of its SHA-256."""
    return hashlib.sha256(public).hexdigest()[:32]


def read_keys(paths: Iterable[Path]) -> dict[str, bytes]:
    """Id -> raw Ed25519 public key, of every PEM block in the files. ValueError says which file holds none."""
    found = {}
    for path in paths:
        with path.open("rb") as stream:
            text = stream.read(CHUNK).decode("ascii", "replace")
        if "PRIVATE KEY" in text:
            raise ValueError(f"{path} is a private key; trust its public half: `edgeft keys show`")
        blocks = re.findall(r"-----BEGIN PUBLIC KEY-----([A-Za-z0-9+/=\s]+)-----END PUBLIC KEY-----", text)
        for block in blocks:
            der = base64.b64decode("".join(block.split()))
            if not der.startswith(DER_ED25519) or len(der) != len(DER_ED25519) + 32:
                raise ValueError(f"{path} is no Ed25519 public key")
            found[key_id(der[-32:])] = der[-32:]
        if not blocks:
            raise ValueError(f"{path} holds no public key in PEM form")
    return found


def check_signature(path: Path, raw: bytes, keys: Mapping[str, bytes]) -> tuple[str | None, str]:
    """(id of the trusted key that signed these manifest bytes, what to say); None where no key was given to ask.

    Refused where keys are given and none of them signed, and for a signature that is none.
    """
    if not os.path.lexists(path):
        if keys:
            raise Refused("signature", "the bundle is not signed")
        return None, "not signed: nobody vouches for it"
    text = read_small(path, MAX_SIGNATURE_BYTES, "signature")
    row = parse_json(text, "signature", SIGNATURE)
    if canonical(row) != text or row.keys() != {"algorithm", "key_id", "signature"} or row["algorithm"] != "ed25519":
        raise Refused("signature", f"{SIGNATURE} is no Ed25519 signature")
    try:
        signature = base64.b64decode(str(row["signature"]), validate=True)
    except ValueError as error:
        raise Refused("signature", f"{SIGNATURE} is no base64") from error
    if base64.b64encode(signature).decode() != row["signature"] or len(signature) != 64:
        raise Refused("signature", f"{SIGNATURE} is no Ed25519 signature")
    if not keys:
        return None, f"key {shown(row['key_id'])} says that it signed; no --key was given to ask whether it did"
    if row["key_id"] not in keys:
        raise Refused("signature", f"signed by key {shown(row['key_id'])}, not by {' or '.join(sorted(keys))}")
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        return None, "cannot be checked: python -m pip install cryptography"
    try:
        Ed25519PublicKey.from_public_bytes(keys[row["key_id"]]).verify(signature, DOMAIN + raw)
    except InvalidSignature as error:
        raise Refused("signature", f"key {row['key_id']} did not sign this manifest") from error
    return str(row["key_id"]), f"signed by the trusted key {row['key_id']}"


def main(argv: Sequence[str] | None = None) -> int:
    """The command line of the copy in a bundle."""
    parser = argparse.ArgumentParser(description="Check a bundle: manifest, signature, files. Exit code 0: verified,")
    parser.epilog = "1: refused, 2: bad usage, 5: intact, but nobody you trust is known to have signed it"
    parser.add_argument("bundle", nargs="?", type=Path, default=Path(__file__).parent, help="default: beside this file")
    parser.add_argument("--key", action="append", default=[], type=Path, help="a trusted public key (PEM); repeatable")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    args = parser.parse_args(argv)
    try:
        keys = read_keys(args.key)
    except (OSError, ValueError) as error:
        parser.error(f"--key: {error}")
    found = verify_folder(args.bundle, keys)
    print(json.dumps(found.to_json(), indent=1) if args.json else "\n".join(found.lines()))
    return found.exit_code


if __name__ == "__main__":
    sys.exit(main())
