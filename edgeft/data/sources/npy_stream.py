"""One array of a .npz, some rows at a time: nothing is unpickled, and no more is unpacked than its header says."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any

from edgeft.errors import StepError

if TYPE_CHECKING:
    from numpy.typing import NDArray

BLOCK_BYTES = 16 << 20
MAX_DIMENSIONS = 5


@dataclass(frozen=True)
class ArrayStream:
    """shape: (n, ...); dtype as numpy writes it (`|u1`)."""

    shape: tuple[int, ...]
    dtype: str
    stream: IO[bytes]
    where: str

    def rows(self) -> Iterator[NDArray[Any]]:
        """Blocks of rows, in order. StepError where the array ends early or its checksum is wrong."""
        import numpy as np

        kind = np.dtype(self.dtype)
        size = kind.itemsize * int(np.prod(self.shape[1:], dtype=np.int64))
        left, most = self.shape[0], max(1, BLOCK_BYTES // max(1, size))
        while left:
            taken = min(left, most)
            try:
                raw = self.stream.read(taken * size)
            except (zipfile.BadZipFile, OSError, EOFError, zlib.error) as error:
                raise StepError(f"damaged: {error}", where=self.where, hint="was it copied whole?") from error
            if len(raw) != taken * size:
                raise StepError("the array ends early", where=self.where, hint="was it copied whole?")
            yield np.frombuffer(raw, kind).reshape(taken, *self.shape[1:])
            left -= taken


@contextmanager
def open_array(archive: zipfile.ZipFile, name: str, where: str) -> Iterator[ArrayStream]:
    """The array `name` of an archive. StepError for objects, Fortran order, or another size than stated."""
    import numpy as np
    from numpy.lib import format as npy

    with archive.open(name) as stream:
        try:
            version = npy.read_magic(stream)
            read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, kind = read(stream, max_header_size=10_000)
        except (ValueError, zipfile.BadZipFile, OSError, EOFError) as error:
            raise StepError(f"{name} is no array: {str(error)[:200]}", where=where) from error
        if kind.hasobject or fortran or not 1 <= len(shape) <= MAX_DIMENSIONS:
            raise StepError(f"{name} is an array that is not read: {kind}, shape {shape}", where=where)
        stated = int(np.prod(shape, dtype=object)) * kind.itemsize
        if stated > archive.getinfo(name).file_size:
            raise StepError(f"{name} says {stated:,} bytes and is shorter", where=where, hint="was it copied whole?")
        yield ArrayStream(tuple(int(size) for size in shape), kind.str, stream, where)
