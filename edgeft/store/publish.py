"""Putting objects in, checking them, and setting damaged ones aside."""

from __future__ import annotations

import errno
import os
import secrets
from dataclasses import replace
from pathlib import Path

from edgeft.errors import StoreError
from edgeft.store.disk import copy_tree, guard, read_json, remove_tree, sync_folder, write_whole
from edgeft.store.layout import Layout
from edgeft.store.memo import FileMemo
from edgeft.store.objects import Manifest, first_difference, read_manifest, seal
from edgeft.store.records import CorruptObject, StepResult, parse_record, to_bytes
from edgeft.store.session import Session, store_lock


class Publisher:
    """The writing side of a store."""

    def __init__(self, layout: Layout, memo: FileMemo, session: Session) -> None:
        self._layout, self._memo, self._session = layout, memo, session

    def publish(self, record: StepResult, folder: Path, expect: str | None = None) -> StepResult:
        """Object first, record last, both or neither; an equal object that is still whole is kept.

        expect: the digest the content must have (import); another one is a StoreError.
        """
        with guard(folder), self._session.workspace() as work:
            inside = self._bring(folder, work)
            manifest = seal(inside)
            if expect is not None and manifest.digest != expect:
                raise StoreError(f"the content of {record.name()} is not what its digest {expect[:12]} says")
            result = replace(record, digest=manifest.digest, bytes=manifest.bytes)
            with store_lock(self._layout.lock):
                self._session.use(result.key, result.digest)
                placed = self._place(inside, manifest, work)
                try:
                    write_whole(self._layout.step(result.key), to_bytes(result), work)
                except BaseException:
                    if placed:
                        self._withdraw(manifest.digest, work)
                    raise
            home = self._layout.object(result.digest)
            self._memo.learn((home / name, sha) for name, _, sha in manifest.files)
        return result

    def _bring(self, folder: Path, work: Path) -> Path:
        """Move a folder onto the store's disk, into this process's own temporary folder."""
        inside = work / "object"
        try:
            folder.rename(inside)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            copy_tree(folder, inside)
            remove_tree(folder)
        return inside

    def _place(self, inside: Path, manifest: Manifest, work: Path) -> bool:
        """Rename into `objects/`; False when an equal object is there and whole."""
        home = self._layout.object(manifest.digest)
        if home.exists():
            if first_difference(home, manifest.digest, manifest, self._memo.digest) == ("", ""):
                if read_manifest(self._layout.manifest(manifest.digest), manifest.digest) is None:
                    write_whole(self._layout.manifest(manifest.digest), manifest.data, work)
                return False
            self._move_to_broken(home)
        try:
            write_whole(self._layout.manifest(manifest.digest), manifest.data, work)
            inside.rename(home)
            sync_folder(home.parent)
        except BaseException:
            self._layout.manifest(manifest.digest).unlink(missing_ok=True)
            raise
        return True

    def _withdraw(self, digest: str, work: Path) -> None:
        """Take back an object whose record could not be written; it goes away with the workspace."""
        self._layout.object(digest).rename(work / "withdrawn")
        self._layout.manifest(digest).unlink(missing_ok=True)

    def check(self, result: StepResult) -> None:
        """Raise CorruptObject, naming the first file that differs, unless the object is as stored."""
        home = self._layout.object(result.digest)
        with guard(home):
            manifest = read_manifest(self._layout.manifest(result.digest), result.digest)
            name, wrong = first_difference(home, result.digest, manifest, self._memo.digest)
        if wrong:
            raise CorruptObject(
                f"object {result.digest[:12]} of step {result.name()} is damaged: {name}: {wrong}",
                where=str(home), key=result.key, digest=result.digest, file=name,
            )  # fmt: skip

    def set_aside_object(self, digest: str) -> None:
        """Move an object, its file list and all records that name it to `broken/`. Call inside the store's lock."""
        for path in sorted(self._layout.steps.glob("*.json")):
            try:
                named = parse_record(read_json(path), path.stem).digest
            except (ValueError, FileNotFoundError):
                continue
            if named == digest:
                self._move_to_broken(path)
        for path in (self._layout.object(digest), self._layout.manifest(digest)):
            if path.exists():
                self._move_to_broken(path)

    def set_aside(self, path: Path) -> None:
        """Move one damaged record to `broken/`."""
        with guard(path):
            self._move_to_broken(path)

    def _move_to_broken(self, path: Path) -> None:
        self._layout.broken.mkdir(exist_ok=True)
        os.replace(path, self._layout.broken / f"{path.name}.{secrets.token_hex(4)}")  # noqa: PTH105 - also folders
