"""Which files of a model go to a device: the entry file and what it refers to, not the folder they are in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from edgeft.canonical import digest_file, digest_json, walk_files
from edgeft.device.external import check_inside, external_files
from edgeft.errors import DeviceError

COMPANIONS = (".bin", ".data", ".onnx_data", ".weights")
"""Suffixes of files with the entry's stem that hold its weights: OpenVINO, ncnn, ONNX."""


@dataclass(frozen=True)
class Cargo:
    """files: path below the model's folder there -> file here. entry: the one a runtime opens. digest: of it all."""

    entry: str
    files: Mapping[str, Path]
    digest: str

    @property
    def bytes(self) -> int:
        """Of all files."""
        return sum(path.stat().st_size for path in self.files.values())


def pack_model(entry: Path) -> Cargo:
    """What travels for this model. DeviceError when a file is missing or lies outside the model's folder."""
    try:
        entry = entry.resolve(strict=True)
        files = _files(entry, (entry.stat().st_mtime_ns, entry.stat().st_size))
        rows = [[name, path.stat().st_size, _digest(path, path.stat().st_mtime_ns)] for name, path in files.items()]
    except OSError as error:
        raise DeviceError(f"the model cannot be read: {error.strerror}", where=str(entry)) from error
    return Cargo(entry.name, files, digest_json([entry.name, rows]))


@lru_cache(maxsize=256)
def _files(entry: Path, stamp: tuple[int, int]) -> dict[str, Path]:
    if entry.is_dir():
        return {f"{entry.name}/{name}": path for name, path in walk_files(entry)}
    found = {entry.name: entry}
    for path in sorted(entry.parent.iterdir()):
        if path.name.startswith(f"{entry.stem}.") and path.suffix in COMPANIONS and path.is_file():
            found[path.name] = path
    for path in found.values():
        check_inside(entry, path, path.name)
    for path in external_files(entry):
        found[path.relative_to(entry.parent).as_posix()] = path
    return found


@lru_cache(maxsize=256)
def _digest(path: Path, mtime_ns: int) -> str:
    return digest_file(path)
