"""DICOM files and series, by a table of cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from edgeft.data.sources.medical import PATIENT, MedicalSource

if TYPE_CHECKING:
    from edgeft.medical.read import Reader


class DicomSource(MedicalSource):
    """`path/cases.csv` with `file` (a DICOM file, or a folder with one series) or `case` (that folder), `label` or
    `mask` (DICOM SEG, NIfTI or PNG), and any further columns.

    Column `patient` is a pseudonym of the Patient ID, and rows are grouped by it unless data.group names another
    column. Of the headers only what is on the list of docs/medical.md can be a column: sex, age_band, manufacturer,
    model, modality, ... . Files are parsed in a child process under limits of memory and time.
    """

    name: ClassVar[str] = "dicom"
    needs: ClassVar[Mapping[str, str]] = {"pydicom": "medical"}
    tools: ClassVar[tuple[str, ...]] = ("pydicom", "numpy", "pillow", "pylibjpeg-openjpeg", "pyjpegls")
    patients: ClassVar[Literal["", "column", "none"]] = "column"

    series: str = Field("", description="UID or description of the series, where folders hold several.")
    colour: Literal["refuse", "grey"] = Field("refuse", description="grey: colour images are brought to grey.")
    uneven: Literal["refuse", "accept"] = Field("refuse", description="accept: take series with missing slices.")

    def facts(self) -> tuple[str, ...]:
        """What of a header is on the allow-list."""
        from edgeft.medical.facts import NAMES

        return (PATIENT, *NAMES)

    @contextmanager
    def reader(self, root: Path) -> Iterator[Reader]:
        """One child process for all files."""
        from edgeft.medical.read import Reader, Reading

        reading = Reading(series=self.series, colour=self.colour, uneven=self.uneven, root=root)
        with Reader(reading=reading) as reader:
            yield reader
