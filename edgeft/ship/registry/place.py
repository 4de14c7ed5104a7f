"""Where a registry lies. A place can read, list, and create a file that nobody has created before; it cannot delete."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from edgeft.errors import RecipeError
from edgeft.ship.registry.names import RegistryError
from edgeft.store.disk import refusal, remove_tree, sync_file, sync_folder

INCOMING = ".incoming"
"""Drafts of running additions. What a killed one left lies here and is seen by nobody."""

NO_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})


class Place(Protocol):
    """A folder or an object store. Names are relative, with slashes."""

    location: str

    def names(self, folder: str) -> list[str]:
        """What lies directly in a folder, sorted; nothing where there is no such folder."""

    def sizes(self, folder: str) -> dict[str, int]:
        """Name below the folder -> bytes, of every file; -1 for what is no plain file."""

    def read(self, name: str, most: int) -> bytes:
        """The whole file. FileNotFoundError where there is none, RegistryError where it is larger than `most`."""

    def create(self, name: str, data: bytes) -> None:
        """The whole file or none, for one of several writers. FileExistsError for all others."""

    def draft(self) -> AbstractContextManager[Path]:
        """An empty local folder to put a bundle together in."""

    def publish(self, draft: Path, folder: str) -> None:
        """A drafted folder becomes `folder`; an equal one may be there already."""

    def fetch(self, folder: str) -> AbstractContextManager[Path]:
        """The folder as a local one, to be read only."""


def open_place(location: str) -> Place:
    """A local folder, or any fsspec address such as s3://bucket/models. RecipeError for what is neither."""
    if "://" not in location:
        return LocalPlace(Path(location))
    if "::" in location:
        raise RecipeError("chained addresses are not taken", where=location, hint="name the place itself")
    if location.startswith("file://"):
        return LocalPlace(Path(location.removeprefix("file://")))
    from edgeft.ship.registry.remote import RemotePlace

    return RemotePlace(location)


class LocalPlace:
    """A folder. A file is created under a name of its own and linked to its place, which one writer alone can do."""

    def __init__(self, root: Path) -> None:
        self.root = root.expanduser().absolute()
        self.location = str(self.root)

    def names(self, folder: str) -> list[str]:
        """See `Place.names`."""
        try:
            return sorted(path.name for path in (self.root / folder).iterdir())
        except FileNotFoundError:
            return []
        except OSError as error:
            raise refused(error, self.root / folder) from error

    def sizes(self, folder: str) -> dict[str, int]:
        """See `Place.sizes`. Links are not followed."""
        found, waiting = {}, [self.root / folder]
        try:
            while waiting:
                for path in waiting.pop().iterdir():
                    about = path.lstat()
                    if stat.S_ISDIR(about.st_mode):
                        waiting.append(path)
                        continue
                    name = path.relative_to(self.root / folder).as_posix()
                    found[name] = about.st_size if stat.S_ISREG(about.st_mode) else -1
        except OSError as error:
            raise refused(error, self.root / folder) from error
        return found

    def read(self, name: str, most: int) -> bytes:
        """See `Place.read`. No link is followed."""
        path = self.root / name
        try:
            handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
            with open(handle, "rb") as stream:  # noqa: PTH123 - from a handle that refused links
                data = stream.read(most + 1)
        except FileNotFoundError:
            raise
        except OSError as error:
            raise refused(error, path) from error
        if len(data) > most:
            raise RegistryError(f"is larger than {most} bytes", where=str(path))
        return data

    def create(self, name: str, data: bytes) -> None:
        """See `Place.create`."""
        path = self.root / name
        with self.draft() as folder:
            draft = folder / "file"
            try:
                draft.write_bytes(data)
                draft.chmod(0o444)
                sync_file(draft)
                path.parent.mkdir(parents=True, exist_ok=True)
                os.link(draft, path)  # unlike a rename it fails where the name is taken
                sync_folder(path.parent)
            except FileExistsError:
                raise
            except OSError as error:
                raise refused(error, path, linking=True) from error
            finally:
                draft.unlink(missing_ok=True)

    @contextmanager
    def draft(self) -> Iterator[Path]:
        """See `Place.draft`. On the registry's own disk, so that publishing is a rename."""
        folder = self.root / INCOMING / f"{os.getpid()}-{secrets.token_hex(6)}"
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise refused(error, folder) from error
        try:
            yield folder
        finally:
            _remove_own(folder)

    def publish(self, draft: Path, folder: str) -> None:
        """See `Place.publish`."""
        target = self.root / folder
        try:
            for path in sorted(draft.rglob("*")):
                if path.is_file():
                    path.chmod(0o444)
                    sync_file(path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if not target.exists():
                draft.rename(target)
                sync_folder(target.parent)
        except OSError as error:
            if not target.exists():  # another writer may have published the same content first
                raise refused(error, target) from error

    @contextmanager
    def fetch(self, folder: str) -> Iterator[Path]:
        """See `Place.fetch`: the folder itself."""
        yield self.root / folder


def refused(error: OSError, path: Path, *, linking: bool = False) -> RegistryError:
    """What the file system said, in a registry's words. linking: while a file was linked to its place."""
    if linking and error.errno in NO_LINKS:
        return RegistryError(
            "this disk has no hard links, without which two writers could take the same version",
            where=str(path),
            hint="put the registry on another disk, or into an object store",
        )
    told = refusal(error, path)
    return RegistryError(told.what, where=told.where, hint="check the disk, your rights and --registry")


def _remove_own(folder: Path) -> None:
    """A draft of this process, which nobody else knows."""
    if folder.exists():
        remove_tree(folder)
