"""Stored values to modality units: the modality LUT where there is one, else slope and intercept. PS3.3 C.11.1."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.dicom.values import get, nested, number, numbers
from edgeft.medical.limits import Refusal

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Lut:
    """A modality LUT: values below `first` take the first entry, values beyond the last take the last."""

    first: int
    entries: NDArray[np.float64]


def read_modality(header: Any) -> tuple[float, float, Lut | None]:
    """(slope, intercept, LUT): the LUT where there is one, PS3.3 C.11.1."""
    item = nested(header, "ModalityLUTSequence")
    if item is None:
        slope, intercept = number(header, "RescaleSlope"), number(header, "RescaleIntercept")
        if slope == 0:
            raise Refusal("has a RescaleSlope of 0: every pixel would be equal")
        return (1.0 if slope is None else slope), intercept or 0.0, None
    descriptor, data = numbers(item, "LUTDescriptor", 3), get(item, "LUTData")
    if descriptor is None or data is None:
        raise Refusal("has a modality LUT without its descriptor or data")
    count, bits = int(descriptor[0]) or 1 << 16, int(descriptor[2])
    if not 0 < count <= 1 << 16 or bits not in range(8, 17):
        raise Refusal("has a modality LUT whose descriptor makes no sense")
    if isinstance(data, bytes):
        data = np.frombuffer(data, np.uint8 if len(data) < 2 * count else np.dtype("<u2"))
    entries = np.asarray(data, np.float64).ravel()
    if len(entries) < count:
        raise Refusal(f"has a modality LUT of {len(entries)} entries and states {count}")
    return 1.0, 0.0, Lut(int(descriptor[1]), entries[:count])


def apply_modality(values: Values, slope: float, intercept: float, lut: Lut | None, signed: bool) -> Values:
    """Of float64 stored values; signed: whether those were, which decides the sign of the LUT's first value."""
    if lut is not None:
        first = lut.first - (1 << 16 if signed and lut.first >= 1 << 15 else 0)
        return lut.entries[np.clip(values - first, 0, len(lut.entries) - 1).astype(np.intp)]
    if slope != 1.0:
        values = values * slope
    return values + intercept if intercept else values
