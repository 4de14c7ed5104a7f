"""What one DICOM file says of its pixels and of each slice in it: form, place, modality transformation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from edgeft.medical.dicom.modality import Lut, read_modality
from edgeft.medical.dicom.opened import Opened
from edgeft.medical.dicom.scan import PIXELS
from edgeft.medical.dicom.values import get, items, nested, number, numbers, text, whole
from edgeft.medical.limits import Limits, Refusal, check_pixels

GREY, COLOUR = (
    ("MONOCHROME1", "MONOCHROME2"),
    ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT", "PALETTE COLOR"),
)
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_NO_IMAGE = {
    "RTSTRUCT": "it holds contours, not pixels: convert it to DICOM SEG or NIfTI with the tool that drew it",
    "RTPLAN": "it is a treatment plan", "SR": "it is a report", "PR": "it is a presentation state",
    "KO": "it is a key object selection", "ECG": "it is a waveform", "REG": "it is a registration",
}  # fmt: skip


@dataclass(frozen=True)
class Form:
    """How pixels are stored. kind: int, float or double, by the element that holds them."""

    rows: int
    columns: int
    frames: int
    samples: int
    allocated: int
    stored: int
    signed: bool
    photometric: str
    kind: str

    @property
    def colour(self) -> bool:
        return self.photometric in COLOUR


@dataclass(frozen=True)
class Slice:
    """One frame of one file. position: mm, LPS, of the first pixel's centre. orientation: direction of rows' pixels
    (columns increase), then of columns' pixels. spacing: mm between (rows, columns). uid: SOP instance, stays in the
    child process."""

    file: int
    frame: int
    uid: str
    position: tuple[float, ...] | None
    orientation: tuple[float, ...] | None
    spacing: tuple[float, ...] | None
    thickness: float | None
    slope: float = 1.0
    intercept: float = 0.0
    lut: Lut | None = None


@dataclass
class Entry:
    """One file: its form, its slices, and what tells its series. None of it but `facts` leaves the child process."""

    file: int
    form: Form
    slices: list[Slice]
    syntax: str
    modality: str
    unit: str
    series: tuple[str, str, str] = ("", "", "")
    """Series Instance UID, description, number."""
    patient: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)


def pixel_form(opened: Opened, limits: Limits, streamed: bool = False) -> Form:
    """The form, checked against the limits; Refusal where the file has no pixels or states them in a way not read.

    streamed: frames are looked at one by one and not kept, so their stored size counts, not four bytes a pixel.
    """
    header, found = opened.header, opened.found
    modality = text(header, "Modality")
    if not found.tag:
        reason = _NO_IMAGE.get(modality)
        kind = f"is {modality}: {reason}" if reason else "has no pixel data"
        raise Refusal(kind, "leave it out of the folder, or name the image")
    rows, columns = whole(header, "Rows"), whole(header, "Columns")
    frames, samples = whole(header, "NumberOfFrames", 1), whole(header, "SamplesPerPixel", 1)
    kind = {PIXELS[0]: "float", PIXELS[1]: "double"}.get(found.tag, "int")
    allocated = whole(header, "BitsAllocated")
    stored = whole(header, "BitsStored", allocated) if kind == "int" else allocated
    photometric = text(header, "PhotometricInterpretation")
    if samples not in (1, 3):
        raise Refusal(f"has {samples} samples per pixel; 1 or 3 are read")
    check_pixels(rows, columns, frames, limits, max(allocated, 1) / 8 if streamed else 4 * samples)
    if photometric not in GREY + COLOUR:
        raise Refusal("has a photometric interpretation that is not read", f"read are {', '.join(GREY + COLOUR)}")
    if samples != (1 if photometric in (*GREY, "PALETTE COLOR") else 3):
        raise Refusal(f"is {photometric} with {samples} samples per pixel: that contradicts itself")
    if allocated not in ((1, 8, 16, 32) if kind == "int" else (32,) if kind == "float" else (64,)):
        raise Refusal(f"allocates {allocated} bits per pixel, which is not read")
    if not 0 < stored <= allocated:
        raise Refusal(f"stores {stored} bits in {allocated}: that contradicts itself")
    high = whole(header, "HighBit", stored - 1)
    if kind == "int" and high != stored - 1:
        what = f"keeps its {stored} bits below bit {high} (HighBit), not at the low end, as DICOM has asked since 1993"
        raise Refusal(what, "convert it with a DICOM toolkit")
    signed = bool(whole(header, "PixelRepresentation", 0)) if kind == "int" else True
    return Form(rows, columns, frames, samples, allocated, stored, signed, photometric, kind)


def read_slices(opened: Opened, form: Form, file: int) -> list[Slice]:
    """A slice for every frame, in the file's order."""
    header = opened.header
    uid = text(header, "SOPInstanceUID")
    per_frame = items(header, _PER_FRAME)
    if per_frame and len(per_frame) != form.frames:
        raise Refusal(f"describes {len(per_frame)} frames and has {form.frames}")
    shared = nested(header, _SHARED)
    if per_frame or shared is not None:
        return [_enhanced(header, shared, group, file, number, uid) for number, group in
                enumerate(per_frame or [None] * form.frames)]  # fmt: skip
    plain = _plain(header, file, uid)
    if form.frames == 1:
        return [plain]
    offsets = numbers(header, "GridFrameOffsetVector")
    if offsets is not None and plain.position and plain.orientation:
        return _stacked(plain, offsets, form.frames)
    thickness = number(header, "SpacingBetweenSlices")
    return [
        Slice(file, frame, uid, None, None, plain.spacing, thickness, plain.slope, plain.intercept, plain.lut)
        for frame in range(form.frames)
    ]


def _plain(header: Any, file: int, uid: str) -> Slice:
    position, orientation = numbers(header, "ImagePositionPatient", 3), numbers(header, "ImageOrientationPatient", 6)
    if orientation is None:
        orientation = _projected(header)
    thickness = _first_positive(header, "SpacingBetweenSlices", "SliceThickness")
    slope, intercept, lut = read_modality(header)
    return Slice(file, 0, uid, position, orientation, _spacing(header), thickness, slope, intercept, lut)


def _stacked(plain: Slice, offsets: tuple[float, ...], frames: int) -> list[Slice]:
    """RT Dose: frames along the normal, PS3.3 C.8.8.3.2; the first offset is 0, or the third coordinate itself."""
    import numpy as np

    assert plain.position is not None and plain.orientation is not None
    if len(offsets) != frames:
        raise Refusal(f"has {len(offsets)} frame offsets for {frames} frames")
    normal = np.cross(plain.orientation[:3], plain.orientation[3:])
    places = [np.asarray(plain.position) + (offset - offsets[0]) * normal for offset in offsets]
    return [
        Slice(plain.file, frame, plain.uid, tuple(float(x) for x in place), plain.orientation, plain.spacing,
              plain.thickness, plain.slope, plain.intercept, plain.lut)
        for frame, place in enumerate(places)
    ]  # fmt: skip


def _enhanced(header: Any, shared: Any, group: Any, file: int, frame: int, uid: str) -> Slice:
    """Functional groups: the frame's own, else those of all frames, else the top level."""

    def look(sequence: str, read: Callable[[Any], Any]) -> Any:
        for place in (group, shared):
            item = None if place is None else nested(place, sequence)
            found = None if item is None else read(item)
            if found is not None:
                return found
        return None

    position = look("PlanePositionSequence", lambda item: numbers(item, "ImagePositionPatient", 3))
    orientation = look("PlaneOrientationSequence", lambda item: numbers(item, "ImageOrientationPatient", 6))
    spacing = look("PixelMeasuresSequence", _spacing)
    thickness = look("PixelMeasuresSequence", lambda item: _first_positive(item, "SpacingBetweenSlices"))
    thickness = thickness or look("PixelMeasuresSequence", lambda item: _first_positive(item, "SliceThickness"))
    moved = look("PixelValueTransformationSequence", lambda item: item)
    slope, intercept, lut = read_modality(header if moved is None else moved)
    return Slice(file, frame, uid, position, orientation, spacing or _spacing(header), thickness, slope, intercept, lut)


def _spacing(header: Any) -> tuple[float, ...] | None:
    """mm between (rows, columns), by the first attribute that states it."""
    for keyword in ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing"):
        found = numbers(header, keyword, 2)
        if found is not None:
            if min(found) <= 0:
                raise Refusal(f"has a {keyword} of {found[0]:g} and {found[1]:g} mm: it must be above 0")
            return found
    region = nested(header, "SequenceOfUltrasoundRegions")
    if region is not None and whole(region, "PhysicalUnitsXDirection", 0) == 3:  # 3: centimetres
        across, down = number(region, "PhysicalDeltaX"), number(region, "PhysicalDeltaY")
        if across and down:
            return abs(down) * 10, abs(across) * 10
    return None


def _first_positive(header: Any, *keywords: str) -> float | None:
    for keyword in keywords:
        found = number(header, keyword)
        if found is not None and found > 0:
            return found
    return None


_AXES = {"L": (1, 0, 0), "R": (-1, 0, 0), "P": (0, 1, 0), "A": (0, -1, 0), "H": (0, 0, 1), "F": (0, 0, -1)}


def _projected(header: Any) -> tuple[float, ...] | None:
    """A radiograph's orientation from PatientOrientation, the main direction of each side."""
    stated = get(header, "PatientOrientation")
    if stated is None or isinstance(stated, str) or len(stated) != 2:
        return None
    across, down = (_AXES.get(str(word)[:1]) for word in stated)
    if across is None or down is None or any(a * b for a, b in zip(across, down, strict=True)):
        return None
    return tuple(float(value) for value in (*across, *down))
