"""The headers of source images, without their pixels: what a derived object copies from them and refers to."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeft.medical.dicom.values import get
from edgeft.medical.limits import Limits, Refusal

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

REQUIRED = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "Modality", "Rows", "Columns")
COPIED = (
    "PatientName", "PatientID", "PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "StudyDate",
    "StudyTime", "ReferringPhysicianName",
)  # fmt: skip
"""Type 2 of the Patient and General Study modules: they must be there, and may be empty."""
SEXES = ("M", "F", "O", "")
FURTHEST, ASIDE = 0.25, 0.5
"""Slices, and pixels: how far a frame may lie from the slice that it is taken for."""


def read_headers(paths: Sequence[Path], limits: Limits) -> list[Dataset]:
    """One dataset per file, in the order given, fit to derive an object from. Refusal for what is none.

    Type 2 attributes that are absent, or hold what their type does not allow, become empty: a clinic's object is not
    withheld for a malformed birth date, and nothing is made up.
    """
    from edgeft.medical.dicom.opened import open_dicom

    found = []
    for place, path in enumerate(paths):
        try:
            with open_dicom(path, limits) as opened:
                header = opened.header
        except Refusal as refusal:
            raise Refusal(refusal.what, refusal.hint, place) from refusal
        if missing := [name for name in REQUIRED if get(header, name) is None]:
            raise Refusal(f"has no {missing[0]}", "an object cannot refer to an image without it", place)
        found.append(header)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "Rows", "Columns"):
        if len({str(header.get(name)) for header in found}) > 1:
            raise Refusal(f"the files differ in {name}", "give one series at a time")
    for header in found:
        _complete(header)
    return found


def _complete(header: Dataset) -> None:
    """Make what a derived object copies sound: absent and malformed values become empty."""
    from pydicom.valuerep import DA, TM

    for name in COPIED:
        value = header.get(name)
        try:
            if name.endswith("Date"):
                DA(value or "")
            elif name.endswith("Time"):
                TM(value or "")
            sound = name != "PatientSex" or value in SEXES
        except (ValueError, TypeError):
            sound = False
        if value is None or not sound:
            setattr(header, name, "")
    if "SpecificCharacterSet" in header and not header.SpecificCharacterSet:
        del header.SpecificCharacterSet


def character_set(header: Dataset, texts: Sequence[str]) -> Any:
    """The source's own where it can hold `texts`, else UTF-8 (ISO_IR 192), to which all of the copy is then brought."""
    from highdicom.enum import SpecificCharacterSetValues
    from pydicom.charset import convert_encodings, encode_string

    stated = header.get("SpecificCharacterSet")
    plain = all(text.isascii() for text in texts)
    if stated is None and plain:
        return None
    listed = [stated] if isinstance(stated, str) else list(stated or ())
    known = {item.value for item in SpecificCharacterSetValues}
    if len(listed) == 1 and listed[0] in known:
        try:
            codecs = convert_encodings(listed)
            if plain or all(encode_string(text, codecs).decode(codecs[0]) == text for text in texts):
                return listed[0]
        except (LookupError, UnicodeError):
            pass
    header.decode()
    return "ISO_IR 192"


def frame_slices(headers: Sequence[Dataset], affine: Any, slices: int) -> list[int]:
    """For each source frame the slice of the volume that lies there.

    affine: float64 (4, 4), (slice, row, column, 1) -> mm, LPS; None where the images have no position: then in their
    order. Refusal where a frame lies on none, so that no mask lands on another slice than it was made from.
    """
    import numpy as np

    positions = [position for header in headers for position in _positions(header)]
    frames = len(positions)
    if frames != slices:
        raise Refusal(f"{slices} slices were answered, the files hold {frames} frames", "report this fault of edgeft")
    if affine is None or any(position is None for position in positions):
        return list(range(frames))
    corners = np.array([[*position, 1.0] for position in positions], np.float64)
    found = corners @ np.linalg.inv(np.asarray(affine, np.float64)).T
    places = np.rint(found[:, 0]).astype(np.int64)
    apart = np.abs(found[:, 0] - places).max(initial=0.0)
    aside = np.abs(found[:, 1:3]).max(initial=0.0)
    if apart > FURTHEST or aside > ASIDE or sorted(places) != list(range(slices)):
        raise Refusal("the frames do not lie where the volume's slices do", "report this fault of edgeft")
    return [int(place) for place in places]


def _positions(header: Dataset) -> list[Any]:
    """Of each frame ImagePositionPatient, or None where it has none."""
    frames = int(header.get("NumberOfFrames") or 1)
    groups = header.get("PerFrameFunctionalGroupsSequence")
    if groups is None:
        position = header.get("ImagePositionPatient")
        return [_three(position) if frames == 1 else None] * frames
    shared = header.get("SharedFunctionalGroupsSequence") or [None]
    found = []
    for group in groups:
        item = group if group.get("PlanePositionSequence") else shared[0]
        planes = item.get("PlanePositionSequence") if item is not None else None
        found.append(_three(planes[0].get("ImagePositionPatient")) if planes else None)
    return found


def _three(position: Any) -> Any:
    """Three numbers, or None."""
    try:
        values = [float(value) for value in position]
    except (TypeError, ValueError):
        return None
    return values if len(values) == 3 else None
