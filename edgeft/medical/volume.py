"""A medical image as every reader here returns it: values in modality units, and where they lie in the patient."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Volume:
    """One image, or the slices of one series in the order of their positions.

    values: (slices, rows, columns), modality units, that is after slope and intercept or the modality LUT; int16 where
    that holds them exactly, else float32. spacing: mm between the centres of neighbouring (slices, rows, columns).
    affine: float64 (4, 4), (slice, row, column, 1) -> mm in the patient, LPS as in DICOM. inverted: low values are
    shown bright (MONOCHROME1). facts: what of the header is on the allow-list; nothing else of it is kept.
    """

    values: NDArray[np.int16] | NDArray[np.float32]
    spacing: tuple[float, float, float]
    affine: NDArray[np.float64]
    inverted: bool = False
    modality: str = ""
    """CT, MR, CR, DX, US, ...; empty where the format does not say (NIfTI)."""
    unit: str = ""
    """HU for CT; empty where the format does not say."""
    patient: str = ""
    """A pseudonym that is equal for equal Patient IDs; empty where there is none."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """The file of each slice, or the one file."""
    warnings: tuple[str, ...] = ()
    """Sentences a user should see: burned-in text, assumed spacing, missing slices that were accepted."""
