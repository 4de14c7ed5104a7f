"""DICOM SEG to one mask on its image's own grid. PS3.3 A.51 and C.8.20: binary, fractional and label map."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeft.medical.dicom.opened import Opened, open_dicom
from edgeft.medical.dicom.pixels import check_length, check_syntax, stored_frames
from edgeft.medical.dicom.reading import read_entries
from edgeft.medical.dicom.series import choose_series, stack_slices
from edgeft.medical.dicom.slices import Form, Slice, pixel_form, read_slices
from edgeft.medical.dicom.values import items, nested, text, whole
from edgeft.medical.grid import Affine, corners, plane_affine, tolerance
from edgeft.medical.limits import Limits, Refusal

Mask = NDArray[np.uint8]
_SHARED, _PER_FRAME = "SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence"
_OTHER_GRID = "resample the segmentation to the image's grid with the tool that made it"


@dataclass(frozen=True)
class Image:
    """The image a mask belongs to.

    origins: (slices, 3) mm of each slice's first pixel, unevenly spaced where missing slices were accepted. uids: (SOP
    Instance UID, frame) -> slice; empty where it is no DICOM.
    """

    shape: tuple[int, int, int]
    affine: Affine
    origins: NDArray[np.float64]
    uids: Mapping[tuple[str, int], int]


@dataclass(frozen=True)
class Segments:
    """kind: BINARY, FRACTIONAL or LABELMAP. classes: segment number -> value in the mask. top: 1 in a fraction."""

    kind: str
    classes: Mapping[int, int]
    top: int


def read_segmentation(
    request: Mapping[str, Any], files: Sequence[Path], limits: Limits, at: Callable[[int], None]
) -> Mask:
    """uint8 (slices, rows, columns); `files` are the SEG and then the image's own, where that is DICOM."""
    image = _image(request, files, limits, at)
    at(0)
    with open_dicom(files[0], limits) as opened:
        modality = text(opened.header, "Modality")
        if opened.found.tag and modality != "SEG":
            raise Refusal("is a DICOM image, not a segmentation", "masks are DICOM SEG, NIfTI or PNG")
        form = pixel_form(opened, limits, streamed=True)
        segments = read_segments(opened.header, request["labels"])
        frames = read_slices(opened, form, 0)
        if (form.rows, form.columns) != image.shape[1:]:
            shown = f"{form.rows} x {form.columns} pixels, its image {image.shape[1]} x {image.shape[2]}"
            raise Refusal(f"has {shown}", _OTHER_GRID)
        numbers = _numbers(opened.header, form.frames, segments)
        places = [_place(opened.header, frame, image) for frame in frames]
        return _fill(opened, form, numbers, places, segments, image.shape, float(request["threshold"]))


def read_segments(header: Any, labels: Sequence[str]) -> Segments:
    """Segments by the recipe's labels: by their label, whatever its case, or by their number written as a label."""
    kind = text(header, "SegmentationType") or "BINARY"
    if kind not in ("BINARY", "FRACTIONAL", "LABELMAP"):
        raise Refusal("has a SegmentationType that is not read", "read are BINARY, FRACTIONAL and LABELMAP")
    known = {label.strip().casefold(): place for place, label in enumerate(labels)}
    classes = {}
    for item in items(header, "SegmentSequence"):
        number = whole(item, "SegmentNumber")
        found = known.get(text(item, "SegmentLabel").casefold(), known.get(str(number)))
        if found is None and number != 0:
            what = f"has segment {number}, whose label is none of {', '.join(labels)}"
            raise Refusal(what, "name it in the labels, by its label or by its number")
        classes[number] = found or 0
    if not classes:
        raise Refusal("describes no segments")
    return Segments(kind, classes, whole(header, "MaximumFractionalValue", 255))


def _image(request: Mapping[str, Any], files: Sequence[Path], limits: Limits, at: Callable[[int], None]) -> Image:
    affine = np.asarray(request["affine"], np.float64)
    first, second, third = (int(side) for side in request["shape"])
    shape = first, second, third
    origins = affine[:3, 3] + np.arange(shape[0])[:, None] * affine[:3, 0]
    if len(files) == 1:
        return Image(shape, affine, origins, {})
    entries, _ = read_entries(files[1:], limits, b"", lambda place: at(place + 1), images_only=True)
    stack = stack_slices(choose_series(entries, ""), limits, uneven=True)
    if len(stack.slices) != shape[0]:
        raise Refusal("belongs to an image whose files changed since it was read")
    if all(item.position is not None for item in stack.slices):
        origins = np.array([item.position for item in stack.slices])
    return Image(
        shape, affine, origins, {(item.uid, item.frame): place for place, item in enumerate(stack.slices) if item.uid}
    )


def _groups(header: Any, frame: int, sequence: str) -> Any:
    """A functional group of one frame: its own, else that of all frames."""
    per_frame = items(header, _PER_FRAME)
    own = nested(per_frame[frame], sequence) if frame < len(per_frame) else None
    return nested(header, _SHARED, sequence) if own is None else own


def _numbers(header: Any, frames: int, segments: Segments) -> list[int]:
    """The segment of each frame; 0 in a label map, whose pixels are segment numbers."""
    if segments.kind == "LABELMAP":
        return [0] * frames
    found = []
    for frame in range(frames):
        item = _groups(header, frame, "SegmentIdentificationSequence")
        number = 0 if item is None else whole(item, "ReferencedSegmentNumber", 0)
        if number not in segments.classes:
            raise Refusal(f"has frame {frame + 1} of a segment that it does not describe")
        found.append(number)
    return found


def _place(header: Any, frame: Slice, image: Image) -> int:
    """The image's slice a frame lies on: by the SOP instance it refers to and by its position, which must agree."""
    referred = _referred(header, frame.frame, image)
    if frame.position is None or frame.orientation is None:
        if referred is None:
            raise Refusal(f"has frame {frame.frame + 1} that states neither its image nor its position")
        return referred
    placed = _by_position(frame, image)
    if placed is None:
        raise Refusal(f"has frame {frame.frame + 1} that lies on none of the image's slices", _OTHER_GRID)
    if referred is not None and referred != placed:
        what = f"has frame {frame.frame + 1} that refers to slice {referred + 1} of the image and lies on {placed + 1}"
        raise Refusal(what, "export the segmentation again")
    return placed


def _referred(header: Any, frame: int, image: Image) -> int | None:
    derivation = _groups(header, frame, "DerivationImageSequence")
    sources = [] if derivation is None else items(derivation, "SourceImageSequence")
    if len(sources) != 1 or not image.uids:
        return None
    uid, number = text(sources[0], "ReferencedSOPInstanceUID"), whole(sources[0], "ReferencedFrameNumber", 1)
    found = image.uids.get((uid, number - 1))
    if found is None:
        raise Refusal(f"has frame {frame + 1} that refers to another image", "is it the mask of this image?")
    return found


def _by_position(frame: Slice, image: Image) -> int | None:
    rows, columns = image.shape[1:]
    assert frame.position is not None
    spacing = frame.spacing or tuple(np.linalg.norm(image.affine[:3, 1:3], axis=0))
    own = plane_affine(frame.position, frame.orientation, spacing, 1.0)
    place = int(np.linalg.norm(image.origins - own[:3, 3], axis=1).argmin())
    slice_affine = image.affine.copy()
    slice_affine[:3, 3] = image.origins[place]
    apart = corners(own, (1, rows, columns)) - corners(slice_affine, (1, rows, columns))
    return place if float(np.linalg.norm(apart, axis=1).max()) <= tolerance(image.affine) else None


def _fill(
    opened: Opened, form: Form, numbers: Sequence[int], places: Sequence[int], segments: Segments,
    shape: tuple[int, int, int], threshold: float,
) -> Mask:  # fmt: skip
    check_syntax(opened.syntax)
    check_length(opened, form)
    mask = np.zeros(shape, np.uint8)
    for frame, pixels in enumerate(stored_frames(opened)):
        if pixels.shape != shape[1:]:
            raise Refusal("decodes to another size than it states")
        place = places[frame]
        if segments.kind == "LABELMAP":
            mask[place] = _looked_up(pixels, segments.classes)
            continue
        inside = pixels >= max(threshold * segments.top, 1) if segments.kind == "FRACTIONAL" else pixels > 0
        value, taken = segments.classes[numbers[frame]], mask[place]
        overlap = inside & (taken != 0) & (taken != value)
        if overlap.any():
            what = f"has segment {numbers[frame]} over another in slice {place + 1}"
            raise Refusal(f"{what} ({int(overlap.sum())} pixels)", "one pixel has one label: make them exclusive")
        taken[inside] = value
    return mask


def _looked_up(pixels: NDArray[Any], classes: Mapping[int, int]) -> Mask:
    """Segment numbers to values of the mask; 0 is the background."""
    unknown = sorted(set(np.unique(pixels).tolist()) - set(classes) - {0})
    if unknown:
        raise Refusal(f"has pixels of segment {unknown[0]}, which it does not describe")
    table = np.zeros(int(pixels.max()) + 1, np.uint8)
    for number, value in classes.items():
        if number < len(table):
            table[number] = value
    found: Mask = table[pixels]
    return found
