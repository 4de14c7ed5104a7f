"""Where things lie in a store, and whether a folder is one that this version may use."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from pathlib import Path

from edgeft.canonical import canonical_json
from edgeft.errors import StoreError
from edgeft.store.disk import guard, read_json, write_whole

FORMAT = 1
HEX = re.compile(r"[0-9a-f]{64}\Z")
_FOLDERS = ("objects", "steps", "latest", "scratch", "tmp")
_OWN = frozenset(
    (
        *(*_FOLDERS, "broken", "devices", "runtimes"),
        *("store.json", "store.lock", "openings.jsonl", "pseudonym.key", "lost+found"),
    )
)


def default_root() -> Path:
    """EDGEFT_STORE, else the platform's cache folder."""
    if chosen := os.environ.get("EDGEFT_STORE"):
        return Path(chosen).expanduser().absolute()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA")
        return (Path(base) if base else Path.home() / "AppData" / "Local") / "edgeft"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "edgeft"
    base = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a relative path is to be ignored.
    return (Path(base) if Path(base).is_absolute() else Path.home() / ".cache") / "edgeft"


def checked(digits: str, what: str = "key") -> str:
    """The 64 hex digits themselves; anything else is refused before it becomes part of a path."""
    if not isinstance(digits, str) or not HEX.match(digits):
        raise StoreError(f"not a {what} of 64 hex digits: {str(digits)[:80]!r}")
    return digits


class Layout:
    """Paths of one store. `open` makes the folders and refuses what is not a store of this format."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.objects, self.steps, self.latest, self.scratch, self.tmp = (root / name for name in _FOLDERS)
        self.broken = root / "broken"
        self.lock = root / "store.lock"
        self.memo = root / "memo.sqlite"
        self.openings = root / "openings.jsonl"
        self.about = root / "store.json"

    def open(self) -> None:
        """Make what is missing. Raises StoreError for a newer format or a folder of other things."""
        with guard(self.root):
            if self.about.exists():
                self._check_format()
            else:
                self._found()
            for name in _FOLDERS:
                (self.root / name).mkdir(exist_ok=True)

    def _check_format(self) -> None:
        try:
            found = read_json(self.about, 65536)
            version = found["format"]
            if not isinstance(version, int):
                raise TypeError("format is not a number")
        except (ValueError, KeyError, TypeError) as error:
            raise StoreError(
                f"is damaged: {error}", where=str(self.about), hint="choose another EDGEFT_STORE"
            ) from error
        if version > FORMAT:
            raise StoreError(
                f"this store has format {version}, written by a newer edgeft; this one knows {FORMAT}",
                where=str(self.root),
                hint="upgrade edgeft, or use another store: EDGEFT_STORE=/another/folder",
            )

    def _found(self) -> None:
        self.root.mkdir(parents=True, exist_ok=True)
        foreign = sorted(
            path.name for path in self.root.iterdir()
            if path.name not in _OWN and not path.name.startswith((".", "memo.sqlite"))
        )  # fmt: skip
        if foreign:
            raise StoreError(
                f"is not an edgeft store and holds other things ({', '.join(foreign[:3])})",
                where=str(self.root),
                hint="point EDGEFT_STORE at an empty or new folder",
            )
        draft = self.root / f".store.json.{os.getpid()}"
        draft.write_bytes(canonical_json({"format": FORMAT}, indent=1))
        draft.replace(self.about)

    def opened(self) -> bool:
        """Whether a gate set was ever opened in this store."""
        return read_json(self.about, 65536).get("opened") is True

    def note_opened(self, temporary: Path) -> None:
        """Let `opened` say so from now on. Call inside the store's lock."""
        if not self.opened():
            about = {**read_json(self.about, 65536), "opened": True}
            write_whole(self.about, canonical_json(about, indent=1), temporary)

    def object(self, digest: str) -> Path:
        """Folder of an object."""
        return self.objects / digest[:2] / checked(digest, "digest")

    def manifest(self, digest: str) -> Path:
        """List of an object's files beside its folder; its own SHA-256 is the digest."""
        return self.objects / digest[:2] / f"{checked(digest, 'digest')}.files.json"

    def step(self, key: str) -> Path:
        """Record of a step."""
        return self.steps / f"{checked(key)}.json"

    def scratch_of(self, key: str) -> Path:
        """Scratch folder of a step."""
        return self.scratch / checked(key)

    def latest_of(self, recipe: str, step: str) -> Path:
        """Record of the newest success of a recipe's step; the names may hold any characters."""
        return self.latest / _file_name(recipe) / f"{_file_name(step)}.json"


def _file_name(name: str) -> str:
    """A readable name that every file system takes; the suffix keeps names apart that read alike."""
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", name)[:60].strip("-") or "x"
    return f"{readable}-{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}"
