"""A registry in an object store, by fsspec. memory:// and s3:// are tested; gs:// was read, not run."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from edgeft.errors import RecipeError
from edgeft.ship import verify
from edgeft.ship.registry.names import RegistryError

EXCLUSIVE = frozenset({"memory", "s3", "s3a", "gs", "gcs"})
"""Whose pipe_file(mode="create") lets one writer win: s3fs sends If-None-Match, gcsfs ifGenerationMatch=0. fsspec's
general one looks first and writes then, between which another writer fits."""


class RemotePlace:
    """An fsspec file system below one path. A file is whole once it is there, a folder is not: the log decides."""

    def __init__(self, location: str) -> None:
        self.location = location
        self.protocol = location.partition("://")[0]
        try:
            import fsspec
        except ImportError as error:
            raise RecipeError("needs fsspec", where=location, hint="python -m pip install fsspec") from error
        try:
            fs, path = fsspec.core.url_to_fs(location)
        except ImportError as error:
            raise RecipeError(f"{error}", where=location, hint="install what it names") from error
        except (ValueError, OSError) as error:
            raise RecipeError(f"cannot be opened: {error}", where=location, hint="a folder, or s3://...") from error
        self._fs: Any = fs
        self._root = str(path).rstrip("/")

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    def names(self, folder: str) -> list[str]:
        """See `Place.names`."""
        self._fs.invalidate_cache()  # another writer's files must be seen
        try:
            with self._asking(folder, FileNotFoundError):
                return sorted(PurePosixPath(path).name for path in self._fs.ls(self._path(folder), detail=False))
        except FileNotFoundError:
            return []

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Place.sizes`."""
        self._fs.invalidate_cache()
        base = self._path(folder)
        with self._asking(folder):
            found = self._fs.find(base, detail=True)
        return {str(path)[len(base) :].lstrip("/"): int(about["size"]) for path, about in found.items()}

    def read(self, name: str, most: int) -> bytes:
        """See `Place.read`."""
        with self._asking(name, FileNotFoundError):
            data = bytes(self._fs.cat_file(self._path(name), start=0, end=most + 1))
        if len(data) > most:
            raise RegistryError(f"is larger than {most} bytes", where=f"{self.location}/{name}")
        return data

    def create(self, name: str, data: bytes) -> None:
        """See `Place.create`. RegistryError where the store cannot keep two writers apart."""
        if self.protocol not in EXCLUSIVE:
            raise RegistryError(
                f"{self.protocol}:// has no way to create a file for one writer alone that this edgeft knows",
                where=self.location,
                hint=f"it can be read; write to a folder or to one of {', '.join(sorted(EXCLUSIVE))}",
            )
        with self._asking(name, FileExistsError):
            self._fs.pipe_file(self._path(name), data, mode="create")

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """See `Place.draft`."""
        with tempfile.TemporaryDirectory(prefix="edgeft-registry-") as folder:
            yield Path(folder)

    def publish(self, draft: Path, folder: str) -> None:
        """See `Place.publish`. The manifest goes last: a folder without one is no bundle."""
        files = sorted(path for path in draft.rglob("*") if path.is_file())
        files.sort(key=lambda path: path.name == verify.MANIFEST and path.parent == draft)
        with self._asking(folder):
            for path in files:
                self._fs.put_file(str(path), self._path(f"{folder}/{path.relative_to(draft).as_posix()}"))

    @contextmanager
    def fetch(self, folder: str) -> Iterator[Path]:
        """See `Place.fetch`: a copy of every file whose name is sound, removed afterwards."""
        names = [*self.sizes(folder)]
        try:
            verify.check_names(name for name in names if name not in (verify.MANIFEST, verify.SIGNATURE))
        except verify.Refused as refusal:
            raise RegistryError(str(refusal), where=f"{self.location}/{folder}") from refusal
        with self.draft() as copy:
            for name in names:
                (copy / name).parent.mkdir(parents=True, exist_ok=True)
                with self._asking(name):
                    self._fs.get_file(self._path(f"{folder}/{name}"), str(copy / name))
            yield copy

    @contextmanager
    def _asking(self, name: str, *answers: type[OSError]) -> Iterator[None]:
        """A call to the store: what it raises in RegistryError's words, but for what answers the question.

        Its libraries have errors of their own (botocore's, aiohttp's) that are no OSError: no key, no such host.
        """
        try:
            yield
        except answers:
            raise
        except Exception as error:
            said = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise RegistryError(
                f"cannot be read or written: {said.splitlines()[0][:300]}",
                where=f"{self.location}/{name}",
                hint="check the address, the network, your keys (docs/registry.md) and rights",
            ) from error
