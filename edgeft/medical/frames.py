"""Frames written one after the other into a plain .npy file: int16 while that holds them exactly, else float32."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.limits import Refusal

_INT16 = np.iinfo(np.int16)
_EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""
_LARGEST = float(np.finfo(np.float32).max)


class FrameWriter:
    """Writes (slices, rows, columns) without ever holding more than a few frames."""

    def __init__(self, folder: Path, shape: tuple[int, int, int], small: bool = True) -> None:
        self.folder, self.shape = folder, shape
        self.count, self.rounded = 0, False
        self.dtype: np.dtype[np.int16] | np.dtype[np.float32] = np.dtype("<i2") if small else np.dtype("<f4")
        self.path = folder / ("values.i2.npy" if small else "values.f4.npy")
        self._stream = self._begin(self.path, self.dtype)

    def add(self, frame: NDArray[np.float64], integral: bool) -> None:
        """The next frame; the first that int16 does not hold turns the whole file to float32."""
        low, high = float(frame.min()), float(frame.max())
        if not max(-low, high) <= _LARGEST:  # NaN fails this, too: a slope can turn finite numbers into neither
            raise Refusal(f"holds values that float32 does not, in slice {self.count + 1}", "scale them before saving")
        if self.dtype.kind == "i" and not (integral and low >= _INT16.min and high <= _INT16.max):
            self._widen()
        if integral and max(-low, high) > _EXACT:
            self.rounded = True
        self._stream.write(frame.astype(self.dtype).tobytes())
        self.count += 1

    def close(self) -> Path:
        """The finished file."""
        self._stream.close()
        if self.count != self.shape[0]:
            raise ValueError(f"{self.count} frames were written and {self.shape[0]} announced")
        return self.path

    def _widen(self) -> None:
        self._stream.close()
        before, wide = self.path, np.dtype("<f4")
        self.path, self.dtype = self.folder / "values.f4.npy", wide
        self._stream = self._begin(self.path, wide)
        size = self.shape[1] * self.shape[2]
        with before.open("rb") as stream:
            np.lib.format.read_magic(stream)
            np.lib.format.read_array_header_1_0(stream)
            for _ in range(self.count):
                frame = np.frombuffer(stream.read(2 * size), "<i2")
                self._stream.write(frame.astype(wide).tobytes())

    def _begin(self, path: Path, dtype: np.dtype[np.int16] | np.dtype[np.float32]) -> BinaryIO:
        stream = path.open("wb")
        header = {"descr": dtype.str, "fortran_order": False, "shape": self.shape}
        np.lib.format.write_array_header_1_0(stream, header)
        return stream
