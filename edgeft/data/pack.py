"""Encoded images beside their split: one file of all their bytes, so that a dataset stands without its source folder.

`<split>.images` holds the files end to end; the split's columns `at` and `size` say where each lies. Nothing is
decoded, and no more than one image at a time is in memory.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.errors import StepError, StoreError

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray

SUFFIX, MASKS = ".images", ".masks"
FOLDER = b"edgeft.pack"
"""Schema metadata, set when a split is read and never written: the pack its rows point into."""


def file_sha256(path: str) -> str:
    """SHA-256 of a file's bytes, hexadecimal. StepError where it cannot be read."""
    try:
        return sha256(Path(path).read_bytes()).hexdigest()
    except OSError as error:
        raise StepError(f"cannot be read: {error.strerror}", where=path) from error


def pixels_digest(image: NDArray[Any]) -> str:
    """SHA-256 of shape, type and values; `""` where all values are equal: two empty images are nobody's."""
    if not image.size or (image == image.flat[0]).all():
        return ""
    plain = image.astype(image.dtype.newbyteorder("<"), copy=False)
    return sha256(f"{plain.shape}{plain.dtype.str}".encode() + plain.tobytes()).hexdigest()


def write_pack(path: Path, files: Sequence[str], digests: Sequence[str]) -> list[tuple[int, int]]:
    """Write the files end to end; (offset, bytes) of each. StepError where one is no longer what it was."""
    places, at = [], 0
    with path.open("wb") as stream:
        for file, digest in zip(files, digests, strict=True):
            try:
                raw = Path(file).read_bytes()
            except OSError as error:
                raise StepError(f"cannot be read: {error.strerror}", where=file) from error
            if sha256(raw).hexdigest() != digest:
                raise StepError("the file changed while the data was read", where=file, hint="build again")
            stream.write(raw)
            places.append((at, len(raw)))
            at += len(raw)
    return places


def attach_pack(rows: pa.Table, split: Path) -> pa.Table:
    """The rows of a split, knowing where their images lie."""
    pack = split.with_suffix(SUFFIX)
    if "at" not in rows.column_names:
        return rows
    return rows.replace_schema_metadata({FOLDER: str(pack).encode()})


def image_bytes(rows: pa.Table, at: str = "at", size: str = "size") -> Iterator[tuple[str, bytes]]:
    """(name, encoded bytes) of each row, one at a time, of a split's rows or of a table with a column `bytes`.

    StoreError where the pack is missing or shorter than its rows say.
    """
    names = rows.column("id" if "id" in rows.column_names else "image").to_pylist()
    if "bytes" in rows.column_names:
        yield from zip(names, rows.column("bytes").to_pylist(), strict=True)
        return
    pack = (rows.schema.metadata or {}).get(FOLDER)
    if pack is None or at not in rows.column_names:
        raise StepError("these rows have no images", hint="they must be read by edgeft.data.table.read_split")
    path = Path(pack.decode()).with_suffix(MASKS if at == "mask_at" else SUFFIX)
    hint = "remove the store's copy and build again"
    try:
        with path.open("rb") as stream:
            for name, start, length in zip(
                names, rows.column(at).to_pylist(), rows.column(size).to_pylist(), strict=True
            ):
                stream.seek(start)
                raw = stream.read(length)
                if len(raw) != length:
                    raise StoreError("the split's images end early", where=str(path), hint=hint)
                yield name, raw
    except OSError as error:
        raise StoreError(f"the split's images cannot be read: {error.strerror}", where=str(path), hint=hint) from error
