"""Volumes beside their split: .npy files end to end in the pack, opened where they lie, so that a window reads no more.

An image is uint8 (depth, rows, columns) as the network's preprocessing takes it, a mask uint8 of the same shape whose
values are class numbers.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.data.pack import FOLDER, MASKS, SUFFIX, image_bytes
from edgeft.errors import StepError, StoreError

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    Volume = NDArray[np.uint8]

MOST_VOXELS = 1 << 30
"""A volume of 1024 x 1024 x 1024."""
HINT = "remove the store's copy and build again"


def volumes(rows: pa.Table) -> Iterator[tuple[str, Volume]]:
    """(name, image) of each row, mapped from the split's pack, or out of a column `bytes`."""
    if "bytes" in rows.column_names:
        return ((name, read_volume(raw, name)) for name, raw in image_bytes(rows))
    return _mapped(rows, "at", "size")


def volume_masks(rows: pa.Table) -> Iterator[tuple[str, Volume]]:
    """(name, mask) of each row of a split."""
    return _mapped(rows, "mask_at", "mask_size")


def has_masks(rows: pa.Table) -> bool:
    """Whether the truth is known of these rows."""
    return "mask_at" in rows.column_names


def volume_bytes(volume: Volume) -> bytes:
    """The .npy file of a volume: the same bytes for the same voxels."""
    import numpy as np

    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(volume), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


def read_volume(raw: bytes, name: str) -> Volume:
    """The inverse. StepError for anything but a .npy file of uint8 with three axes."""
    import numpy as np

    stream = io.BytesIO(raw)
    shape = _shape(stream, name)
    rest = raw[stream.tell() :]
    if len(rest) != np.prod(shape, dtype=np.int64):
        raise StepError("the volume ends early or late", where=name)
    return np.frombuffer(rest, np.uint8).reshape(shape)


def _mapped(rows: pa.Table, at: str, size: str) -> Iterator[tuple[str, Volume]]:
    import numpy as np

    pack = (rows.schema.metadata or {}).get(FOLDER)
    if pack is None or at not in rows.column_names:
        raise StepError("these rows have no volumes", hint="they must be read by edgeft.data.table.read_split")
    path = Path(pack.decode()).with_suffix(MASKS if at == "mask_at" else SUFFIX)
    names, places, sizes = (rows.column(name).to_pylist() for name in ("id", at, size))
    try:
        with path.open("rb") as stream:
            for name, start, length in zip(names, places, sizes, strict=True):
                stream.seek(start)
                shape = _shape(stream, name)
                begin = stream.tell()
                end = begin + int(np.prod(shape, dtype=np.int64))
                if end != start + length or end > os.fstat(stream.fileno()).st_size:
                    raise StoreError(f"the split's volumes end early, at {name}", where=str(path), hint=HINT)
                yield name, np.memmap(path, np.uint8, "r", begin, shape)
    except OSError as error:
        raise StoreError(f"the split's volumes cannot be read: {error.strerror}", where=str(path), hint=HINT) from error


def _shape(stream: Any, name: str) -> tuple[int, int, int]:
    """Shape from a .npy header, which is left behind. StepError for another array."""
    import numpy as np

    try:
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("not version 1.0")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream, max_header_size=4096)
    except ValueError as error:
        raise StepError(f"not a volume as edgeft packs it: {str(error)[:200]}", where=name) from error
    if dtype != np.uint8 or fortran or len(shape) != 3 or min(shape) < 1:
        raise StepError(f"a volume of {dtype} {shape}, uint8 (depth, rows, columns) is expected", where=name)
    if np.prod(shape, dtype=np.float64) > MOST_VOXELS:
        raise StepError(f"a volume of {shape} has more than {MOST_VOXELS:,} voxels", where=name)
    return shape[0], shape[1], shape[2]
